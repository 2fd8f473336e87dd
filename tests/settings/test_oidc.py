from pathlib import Path

import pytest

from app.settings import SettingsError, load_settings

ISSUER = 'issuer = "https://login.test/realms/it"\naudience = "ngt-renewal"\n'


def refused(tmp_path: Path, toml: str, **environ: str) -> str:
    path = tmp_path / "ngt-renewal.toml"
    path.write_text(f"[oidc]\n{toml}")
    with pytest.raises(SettingsError) as raised:
        load_settings(path, environ)
    return str(raised.value)


@pytest.mark.parametrize("algorithm", ["none", "HS256", "HS384", "HS512", "ES256K", "RS1", ""])
def test_an_algorithm_that_others_could_sign_with_is_refused_at_start(tmp_path: Path, algorithm: str) -> None:
    assert "`oidc.algorithms[1]` is refused" in refused(tmp_path, ISSUER + f'algorithms = ["RS256", "{algorithm}"]')
    assert "`oidc.algorithms[0]` is refused" in refused(tmp_path, ISSUER, NGT_RENEWAL_OIDC__ALGORITHMS=algorithm or ",")


@pytest.mark.parametrize(
    ("toml", "sentence"),
    [
        ('issuer = "https://login.test"', "`oidc.audience` is missing."),
        ('audience = "ngt-renewal"', "`oidc.issuer` is missing."),
        (ISSUER.replace("https", "http"), "use https"),
        (ISSUER + 'jwks_url = "http://login.test/jwks"', "use https"),
        (ISSUER.replace("https", "ftp"), "`oidc.issuer` is refused"),
        (ISSUER.replace('"ngt-renewal"', "[]"), "`oidc.audience` is refused: at least one is needed"),
        (ISSUER + "algorithms = []", "`oidc.algorithms` is refused: at least one is needed"),
        (ISSUER + "leeway_s = 301", "`oidc.leeway_s` is refused"),
        (ISSUER + 'roles = { reader = ["jobs:reed"] }\nroles_claim = "groups"', "`oidc.roles.reader[0]` is refused"),
        (ISSUER + 'roles = { reader = ["jobs:read"] }', "no `roles_claim`"),
        (ISSUER + 'ca_file = "/nonexistent"', "no certificates can be read from /nonexistent"),
        (ISSUER + 'audiance = "x"', "did you mean `audience`?"),
    ],
)
def test_an_issuer_that_cannot_work_is_refused_at_start(tmp_path: Path, toml: str, sentence: str) -> None:
    assert sentence in refused(tmp_path, toml)


def test_an_issuer_may_be_set_by_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "ngt-renewal.toml"
    path.touch()
    prefix = "NGT_RENEWAL_OIDC__"
    environ = {f"{prefix}ISSUER": "http://127.0.0.1:9", f"{prefix}AUDIENCE": "one,two", f"{prefix}ALLOW_HTTP": "true"}
    oidc = load_settings(path, environ).oidc
    assert oidc is not None
    assert (oidc.issuer, oidc.audience, oidc.leeway_s) == ("http://127.0.0.1:9", ("one", "two"), 60)


def test_the_networks_of_proxies_are_checked_at_start(tmp_path: Path) -> None:
    path = tmp_path / "ngt-renewal.toml"
    path.write_text('[callers]\ntrusted_proxies = ["10.0.0.0/8", "10.0.0.1/8", "proxy"]')
    with pytest.raises(SettingsError) as raised:
        load_settings(path, {})
    assert len(raised.value.faults) == 2

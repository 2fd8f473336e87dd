"""docs/configuration.md names every key with its real default, and every block of TOML in the docs is accepted."""

import re
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel

from app.ngt.tools.command_lines import Tools
from app.settings import (
    AutoRenew,
    Callers,
    ClusterSettings,
    CommandSettings,
    GuestSettings,
    Limits,
    Oidc,
    RenewWindow,
    Retention,
    ScanSettings,
    Settings,
    Warnings,
    WebhookTarget,
    load_settings,
)
from tests.docs.pages import PAGES, blocks, rows, section, words

PAGE = "configuration.md"
TABLES = {"limits", "callers", "oidc", "retention", "scan", "warnings", "clusters", "webhooks"}


def _documented(heading: str, model: type[BaseModel] | None = None) -> dict[str, str]:
    """The default of each key in the tables of the section; a row may speak of several keys."""
    found: dict[str, str] = {}
    for row in rows(section(PAGE, heading)):
        keys = words(row[0])
        is_list = model is not None and isinstance(model.model_fields[keys[0]].default, tuple)
        values = [row[1]] if is_list else row[1].split(", ")
        if len(keys) == 1:
            values = [row[1]]
        assert len(keys) == len(values), row
        found |= dict(zip(keys, values, strict=True))
    return found


def _shown(default: object) -> str:
    match default:
        case None | ():
            return "none"
        case dict() if not default:
            return "none"
        case bool():
            return str(default).lower()
        case tuple():
            return ", ".join(map(str, default))
        case str():
            return f"`{default}`"
        case _:
            return str(default)


def test_the_keys_of_the_service_have_their_real_defaults() -> None:
    documented = _documented("The service")
    fields = Settings.model_fields
    assert documented.keys() == fields.keys() - TABLES
    assert documented.pop("data_dir") == "`/var/lib/ngt-renewal` for root, else `~/.local/share/ngt-renewal`"
    for key, value in documented.items():
        default = fields[key].default
        # A port is shown as a word, like the address before it.
        assert value in {_shown(default), f"`{default}`"}, key


def test_the_keys_of_a_webhook_have_their_real_defaults() -> None:
    documented = _documented("Webhooks", WebhookTarget)
    fields = {key: field for key, field in WebhookTarget.model_fields.items() if key != "name"}
    assert documented.keys() == fields.keys()
    for key, value in documented.items():
        needed = fields[key].is_required()
        assert value == ("needed" if needed else _shown(fields[key].get_default(call_default_factory=True))), key


@pytest.mark.parametrize(
    ("heading", "model"),
    [
        ("Limits", Limits),
        ("Callers", Callers),
        ("Warnings", Warnings),
        ("Retention", Retention),
        ("Scans", ScanSettings),
    ],
)
def test_the_keys_of_a_table_have_their_real_defaults(heading: str, model: type[BaseModel]) -> None:
    documented = _documented(heading, model)
    assert documented == {key: _shown(field.default) for key, field in model.model_fields.items()}


def test_the_keys_of_the_issuer_have_their_real_defaults() -> None:
    documented = _documented("OIDC", Oidc)
    fields = Oidc.model_fields
    assert documented.keys() == fields.keys()
    for key, value in documented.items():
        needed = fields[key].is_required()
        assert value == ("needed" if needed else _shown(fields[key].get_default(call_default_factory=True))), key


def test_the_command_lines_have_their_real_defaults() -> None:
    documented = _documented("A cluster")
    assert documented.keys() == CommandSettings.model_fields.keys()
    tools = Tools()
    for key, value in documented.items():
        default = getattr(tools, key)
        assert value.startswith("none" if default is None else f"`{default}`"), key


def test_the_keys_of_a_cluster_have_their_real_defaults() -> None:
    (cluster, *_) = blocks(PAGE, "toml")
    shown = tomllib.loads(cluster)["clusters"]["c1"]
    fields = ClusterSettings.model_fields
    assert shown.keys() | {"verify_timeout_s", "guests", "auto_renew"} == fields.keys()
    assert "# verify_timeout_s = " in cluster
    for key, field in fields.items():
        if isinstance(field.default, bool | int | float | str):
            assert shown[key] == field.default, key


def test_the_keys_of_guests_have_their_real_defaults() -> None:
    (_, guests, *_) = blocks(PAGE, "toml")
    shown = tomllib.loads(guests)["clusters"]["c1"]["guests"][0]
    tables = rows(section(PAGE, "Guests"))
    assert shown.keys() | {words(row[0])[0] for row in tables} == GuestSettings.model_fields.keys()
    assert shown["port"] == GuestSettings.model_fields["port"].default
    needed = {"addresses": ["10.1.0.0/16"], "username": "ngt", "key_file": "key", "known_hosts": "known_hosts"}
    for system, documented in (("linux", tables[:3]), ("windows", tables[3:])):
        made = GuestSettings.model_validate({**needed, "match": {"os": system}})
        assert {words(row[0])[0]: words(row[1])[0] for row in documented} == made.model_dump(
            include={"restart_command", "read_certificate", "read_config"}
        )


def test_the_keys_of_automatic_renewal_have_their_real_defaults() -> None:
    tables = rows(section(PAGE, "Automatic renewal"))
    documented = {words(row[0])[0]: row[1] for row in tables if not row[0].startswith("key of ")}
    for model in (AutoRenew, RenewWindow):
        for key, field in model.model_fields.items():
            assert documented.pop(key) == ("needed" if field.is_required() else _shown(field.default)), key
    assert documented == {}


def _with_real_files(toml: str, folder: Path) -> Path:
    for name in re.findall(r'(?:key_file|known_hosts) = "([^"]+)"', toml):
        real = folder / Path(name).name
        real.touch(mode=0o600)
        toml = toml.replace(f'"{name}"', f'"{real}"')
    for name in re.findall(r'"(/run/secrets/(?:ngt_signing|snow_client))"', toml):
        real = folder / Path(name).name
        real.touch(mode=0o600)
        real.write_text("whsec_" + "c2Vj" * 10)
        toml = toml.replace(f'"{name}"', f'"{real}"')
    path = folder / "ngt-renewal.toml"
    path.write_text(toml, "utf-8")
    return path


def test_the_blocks_of_the_page_are_one_configuration(tmp_path: Path) -> None:
    settings = load_settings(_with_real_files("\n".join(blocks(PAGE, "toml")), tmp_path), {})
    assert settings.clusters["c1"].guests[0].match.names == ("web-*",)


@pytest.mark.parametrize("restart_agent", ["manual", "ssh"])
def test_the_block_of_the_readme_is_a_configuration_both_ways(tmp_path: Path, restart_agent: str) -> None:
    (toml,) = blocks("README.md", "toml")
    if restart_agent == "ssh":
        before, _, commented = toml.partition("# With SSH access")
        toml = before.replace("restart_agent", "# restart_agent") + re.sub("^# ", "", commented, flags=re.MULTILINE)
        toml = toml.replace(commented.splitlines()[0], "# ")
    cluster = load_settings(_with_real_files(toml, tmp_path), {}).clusters["c1"]
    assert (cluster.restart_agent, len(cluster.guests)) == (restart_agent, 1 if restart_agent == "ssh" else 0)


def test_every_environment_variable_of_the_docs_is_a_setting(tmp_path: Path) -> None:
    text = "\n".join(PAGES.values())
    named = set(re.findall(r"\bNGT_RENEWAL_[A-Z_]+|\bDATABASE_URL_FILE\b", text))
    examples = {"NGT_RENEWAL_PORT": "8081", "NGT_RENEWAL_LIMITS__LEASE_S": "20", "NGT_RENEWAL_CONFIG": ""}
    assert named == examples.keys() | {"DATABASE_URL_FILE"}
    url = tmp_path / "url"
    url.write_text("postgresql://127.0.0.1/ngt\n")
    empty = tmp_path / "empty.toml"
    empty.touch()
    settings = load_settings(empty, {**examples, "DATABASE_URL_FILE": str(url), "PUBLIC_URL": "https://ngt.example"})
    assert (settings.port, settings.limits.lease_s, settings.public_url) == (8081, 20, "https://ngt.example")
    assert settings.database_url is not None

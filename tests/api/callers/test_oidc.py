"""Tokens at the API's door. One service and one issuer serve all tests: no test may change what another one needs."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from app.ngt.renewal.request import RestartAgent
from app.settings import Callers, ClusterSettings, Oidc, Settings
from app.settings.callers.scopes import Scope
from tests.api.callers.issuer import AUDIENCE, OidcIssuer, oidc_issuer, private_key, public_jwk
from tests.api.conftest import Service, assert_problem, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")


@asynccontextmanager
async def taking(folder: Path, database_url: str, issuer: OidcIssuer, **more: Any) -> AsyncIterator[Service]:
    oidc = Oidc.model_validate({"issuer": issuer.url, "audience": AUDIENCE, "allow_http": True, **more})
    key: dict[str, Any] = {"key_file": folder / "key", "known_hosts": folder / "key"}
    clusters = {"c1": ClusterSettings(cvms=("10.0.0.31",), restart_agent=RestartAgent.MANUAL, **key)}
    callers = Callers(failed_logins_per_minute=0)
    settings = Settings(data_dir=folder, clusters=clusters, oidc=oidc, callers=callers)
    async with serving(settings, database_url) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def issuer() -> AsyncIterator[OidcIssuer]:
    with pytest.MonkeyPatch.context() as patched, oidc_issuer() as running:
        patched.setenv("NO_PROXY", "127.0.0.1")
        running.keys = [public_jwk("ec-1"), public_jwk("rsa-1"), public_jwk("ed-1", alg="EdDSA")]
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(
    tmp_path_factory: pytest.TempPathFactory, shared_database_url: str, issuer: OidcIssuer
) -> AsyncIterator[Service]:
    async with taking(tmp_path_factory.mktemp("service"), shared_database_url, issuer) as running:
        yield running


def renewal() -> str:
    """Of a VM that no other test has."""
    return f"/vms/{uuid4()}/ngt/renew"


def client_of(service: Service, token: str, **headers: str) -> httpx.AsyncClient:
    return service.client(Authorization=f"Bearer {token}", **headers)


async def answer_to(service: Service, token: str, path: str = "/jobs") -> httpx.Response:
    async with client_of(service, token) as client:
        return await client.get(path)


async def assert_refused(service: Service, token: str, detail: str, code: str = "unauthenticated") -> None:
    answer = await answer_to(service, token)
    problem = assert_problem(answer, 401, code)
    assert detail in problem["detail"]
    assert answer.headers["www-authenticate"].startswith('Bearer realm="ngt-renewal", error="invalid_token"')


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def by_hand(header: Any, claims: Any, signature: bytes = b"") -> str:
    return ".".join((b64(json.dumps(header).encode()), b64(json.dumps(claims).encode()), b64(signature)))


# What is taken.


@pytest.mark.parametrize(
    ("key", "algorithm"), [("ec-1", "ES256"), ("rsa-1", "RS256"), ("rsa-1", "PS256"), ("ed-1", "EdDSA")]
)
async def test_a_token_of_the_issuer_is_taken_with_each_algorithm(
    service: Service, issuer: OidcIssuer, key: str, algorithm: str
) -> None:
    assert (await answer_to(service, issuer.token(key, algorithm))).status_code == 200


async def test_keys_are_taken_as_ever_beside_tokens(service: Service, issuer: OidcIssuer) -> None:
    issuer.fetches.clear()
    key = await service.key(Scope.JOBS_READ)
    assert (await answer_to(service, key)).status_code == 200
    async with service.client(key, Authorization=f"Bearer {issuer.token(exp=1)}") as client:
        assert (await client.get("/jobs")).status_code == 200
    assert not issuer.fetches


async def test_a_job_says_which_token_asked_and_a_repetition_is_known_by_it(
    service: Service, issuer: OidcIssuer
) -> None:
    token, path, once = issuer.token(scope="renew", client_id="ServiceNow"), renewal(), {"Idempotency-Key": "one"}
    async with client_of(service, token, **once) as client:
        first, again = await client.post(path), await client.post(path)
    assert (first.status_code, first.json()["caller"]) == (202, "ServiceNow")
    assert again.headers["idempotency-replayed"] == "true"
    async with client_of(service, issuer.token(scope="renew", sub="jira"), **once) as stranger:
        assert "idempotency-replayed" not in (await stranger.post(path)).headers


@pytest.mark.parametrize("client_id", ["x" * 256, 7, "a\nb", None])
async def test_without_a_name_that_can_be_shown_the_subject_is_shown(
    service: Service, issuer: OidcIssuer, client_id: Any
) -> None:
    async with client_of(service, issuer.token(scope="renew", client_id=client_id)) as client:
        assert (await client.post(renewal())).json()["caller"] == "snow"


@pytest.mark.parametrize("path", ["/readyz?verbose=true", "/metrics", "/meta", "/clusters"])
async def test_what_any_key_may_see_any_token_may_see(service: Service, issuer: OidcIssuer, path: str) -> None:
    assert (await answer_to(service, issuer.token(scope=""), path)).status_code == 200


@pytest.mark.parametrize("kind", ["at+jwt", "AT+JWT", "application/at+jwt", "JWT"])
async def test_the_types_of_access_tokens_are_taken(service: Service, issuer: OidcIssuer, kind: str) -> None:
    assert (await answer_to(service, issuer.token(headers={"typ": kind}))).status_code == 200


@pytest.mark.parametrize("audience", [[AUDIENCE], ["other", AUDIENCE]])
async def test_one_of_several_audiences_is_enough(service: Service, issuer: OidcIssuer, audience: list[str]) -> None:
    assert (await answer_to(service, issuer.token(aud=audience))).status_code == 200


@pytest.mark.parametrize("claims", [{"exp": -50}, {"nbf": 50}, {"iat": 50}])
async def test_clocks_may_differ_by_the_leeway(service: Service, issuer: OidcIssuer, claims: dict[str, Any]) -> None:
    token = issuer.token(**{name: int(time.time()) + s for name, s in claims.items()})
    assert (await answer_to(service, token)).status_code == 200


# What is refused.


@pytest.mark.parametrize(
    ("claims", "code", "detail"),
    [
        ({"exp": -70}, "token-expired", "expired"),
        ({"nbf": 70}, "unauthenticated", "not valid yet"),
        ({"iat": 70}, "unauthenticated", "not valid yet"),
    ],
)
async def test_a_token_out_of_its_time_is_refused(
    service: Service, issuer: OidcIssuer, claims: dict[str, Any], code: str, detail: str
) -> None:
    token = issuer.token(**{name: int(time.time()) + s for name, s in claims.items()})
    await assert_refused(service, token, detail, code)


@pytest.mark.parametrize(
    ("claims", "detail"),
    [
        ({"aud": "another"}, "another audience"),
        ({"aud": ["another"]}, "another audience"),
        ({"aud": []}, "lacks a claim"),
        ({"aud": None}, "lacks a claim"),
        ({"aud": {"ngt-renewal": 1}}, "another audience"),
        ({"aud": [AUDIENCE, 1]}, "another audience"),
        ({"iss": "http://elsewhere.test"}, "another issuer"),
        ({"iss": ["x"]}, "another issuer"),
        ({"iss": None}, "lacks a claim"),
        ({"exp": None}, "lacks a claim"),
        ({"exp": "9999999999"}, "not a number"),
        ({"exp": "soon"}, "no usable value"),
        ({"exp": [9999999999]}, "no usable value"),
        ({"exp": float("nan")}, "no usable value"),
        ({"exp": float("inf")}, "no usable value"),
        ({"nbf": "0"}, "not a number"),
        ({"nbf": True}, "not a number"),
        ({"iat": {}}, "no usable value"),
        ({"sub": None}, "lacks a claim"),
        ({"sub": 7}, "no usable value"),
        ({"sub": ""}, "not a name"),
        ({"sub": "a\u0000b"}, "not a name"),
        ({"sub": "\ud800"}, "not a name"),
        ({"sub": "x" * 256}, "not a name"),
        ({"jti": 1}, "no usable value"),
    ],
)
async def test_a_token_with_a_wrong_claim_is_refused(
    service: Service, issuer: OidcIssuer, claims: dict[str, Any], detail: str
) -> None:
    await assert_refused(service, issuer.token(**claims), detail)


@pytest.mark.parametrize(
    ("headers", "detail"),
    [
        ({"typ": "dpop+jwt"}, "`typ`"),
        ({"typ": "logout+jwt"}, "`typ`"),
        ({"typ": 7}, "`typ`"),
        ({"crit": ["b64"], "b64": True}, "`crit`"),
        ({"kid": "ec-2"}, "does not name"),
        ({"kid": "../../etc/passwd"}, "does not name"),
        ({"kid": ""}, "does not name"),
    ],
)
async def test_a_token_with_a_wrong_header_is_refused(
    service: Service, issuer: OidcIssuer, headers: dict[str, Any], detail: str
) -> None:
    good = issuer.token()
    shown = {"alg": "ES256", "kid": "ec-1", **headers}
    _, claims, signature = good.split(".")
    await assert_refused(service, f"{b64(json.dumps(shown).encode())}.{claims}.{signature}", detail)


@pytest.mark.parametrize("algorithm", ["none", "None", "HS256", "RS512", "ES256K", "", None, ["ES256"], "RS256"])
async def test_an_algorithm_that_is_not_pinned_or_not_of_the_key_is_refused(
    service: Service, issuer: OidcIssuer, algorithm: Any
) -> None:
    await assert_refused(service, by_hand({"alg": algorithm, "kid": "ec-1"}, issuer.claims()), "algorithm")


@pytest.mark.parametrize("key", ["ec-1", "rsa-1"])
async def test_a_shared_secret_made_of_the_public_key_opens_nothing(
    service: Service, issuer: OidcIssuer, key: str
) -> None:
    public = private_key(key).public_key()
    secrets = [
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(public_jwk(key)).encode(),
    ]
    for secret in secrets:
        unsigned = by_hand({"alg": "HS256", "typ": "JWT", "kid": key}, issuer.claims()).rpartition(".")[0]
        signature = hmac.new(secret, unsigned.encode(), hashlib.sha256).digest()
        await assert_refused(service, f"{unsigned}.{b64(signature)}", "algorithm is not accepted")


@pytest.mark.parametrize(("algorithm", "length"), [("ES256", 64), ("ES256", 0), ("ES256", 63)])
async def test_a_made_up_signature_is_refused(
    service: Service, issuer: OidcIssuer, algorithm: str, length: int
) -> None:
    header = {"alg": algorithm, "kid": "ec-1"}
    for byte in (b"\0", b"\1"):
        await assert_refused(service, by_hand(header, issuer.claims(), byte * length), "signature is not good")


async def test_a_token_that_another_key_has_signed_is_refused(service: Service, issuer: OidcIssuer) -> None:
    await assert_refused(service, issuer.token("ec-stranger", headers={"kid": "ec-1"}), "signature")
    head, _, signature = issuer.token().split(".")
    changed = b64(json.dumps(issuer.claims(scope="admin renew")).encode())
    await assert_refused(service, f"{head}.{changed}.{signature}", "signature")


async def test_a_token_may_not_bring_its_own_key(service: Service, issuer: OidcIssuer) -> None:
    own = {"jwk": public_jwk("ec-own"), "jku": issuer.url + "/own", "x5u": issuer.url + "/own", "kid": "ec-1"}
    await assert_refused(service, issuer.token("ec-own", headers=own), "signature")
    assert "/own" not in issuer.fetches


@pytest.mark.parametrize(
    "token",
    [
        "..",
        "a.b.c",
        "e30.e30.e30",
        "e30..",
        f"{b64(b'[]')}.{b64(b'{}')}.",
        f"{b64(b'7')}.{b64(b'{}')}.",
        f"{b64(b'[' * 9000)}.{b64(b'{}')}.",
        f"{b64(b'{}')}.%.%",
        f"{b64(b'{')}.{b64(b'{}')}.",
        f"{b64(bytes(range(256)))}.x.x",
        "a.b.c ",
        "ngtr_a.b.c",
    ],
)
async def test_what_only_looks_like_a_token_is_refused(service: Service, issuer: OidcIssuer, token: str) -> None:
    issuer.fetches.clear()
    assert_problem(await answer_to(service, token), 401, "unauthenticated")
    assert not issuer.fetches


async def test_claims_that_are_no_object_are_refused(service: Service, issuer: OidcIssuer) -> None:
    for claims in ([1], 7, None, "x"):
        await assert_refused(service, issuer.signed(claims), "no usable value")


async def test_a_huge_token_is_refused_before_it_is_read(service: Service, issuer: OidcIssuer) -> None:
    issuer.fetches.clear()
    await assert_refused(service, issuer.token(groups=["x" * 20] * 1000), "longer than 16384 characters")
    assert not issuer.fetches


async def test_a_token_without_a_kid_is_refused(service: Service, issuer: OidcIssuer) -> None:
    await assert_refused(service, by_hand({"alg": "ES256"}, issuer.claims()), "no `kid`")


async def test_a_token_is_only_taken_as_a_bearer(service: Service, issuer: OidcIssuer) -> None:
    token = issuer.token()
    async with service.client(token) as client:
        assert_problem(await client.get("/jobs"), 401, "unauthenticated")
    for query in ("access_token", "token"):
        async with service.client() as client:
            assert_problem(await client.get("/jobs", params={query: token}), 401, "unauthenticated")


# What it may do.


async def test_a_token_may_do_what_its_scopes_say(service: Service, issuer: OidcIssuer) -> None:
    async with client_of(service, issuer.token(scope="openid jobs:read email")) as client:
        assert (await client.get("/jobs")).status_code == 200
        answer = await client.post(renewal())
        assert_problem(answer, 403, "insufficient-scope")
        assert 'error="insufficient_scope", scope="renew"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize("scope", [None, "", 7, {"jobs:read": True}, [["jobs:read"]], "jobs:read,renew", "JOBS:READ"])
async def test_a_scope_of_another_form_grants_nothing(service: Service, issuer: OidcIssuer, scope: Any) -> None:
    assert_problem(await answer_to(service, issuer.token(scope=scope)), 403, "insufficient-scope")


async def test_roles_and_clusters_come_from_the_claims_that_the_operator_names(
    tmp_path: Path, shared_database_url: str, issuer: OidcIssuer
) -> None:
    more = {
        "scopes_claim": "scp",
        "roles_claim": "realm_access.roles",
        "roles": {"NGT operators": ["renew", "jobs:read"], "reader": ["jobs:read"]},
        "clusters_claim": "ngt/clusters",
        "name_claim": "azp",
    }
    everywhere: dict[str, Any] = {"scope": None, "ngt/clusters": ["*"]}
    async with taking(tmp_path, shared_database_url, issuer, **more) as service:

        async def status(path: str = "/jobs", **claims: Any) -> int:
            return (await answer_to(service, issuer.token(**{**everywhere, **claims}), path)).status_code

        assert await status(scp=["jobs:read"]) == 200
        assert await status(scope="jobs:read") == 403
        assert await status(realm_access={"roles": ["other", "reader"]}) == 200
        assert await status(realm_access={"roles": "NGT operators"}) == 200
        assert await status(realm_access={"roles": "NGT"}) == 403
        assert await status(realm_access=["reader"]) == 403
        assert await status("/jobs", **{"realm_access.roles": ["reader"]}) == 200
        assert await status("/metrics") == 200
        assert await status("/metrics", **{"ngt/clusters": "c1 c2"}) == 403
        assert await status("/metrics", **{"ngt/clusters": None}) == 403


async def test_without_an_issuer_no_token_is_taken(
    tmp_path: Path, shared_database_url: str, issuer: OidcIssuer
) -> None:
    async with serving(Settings(data_dir=tmp_path), shared_database_url) as service:
        await assert_refused(service, issuer.token(), "no issuer is configured")


async def test_failed_logins_are_counted_by_method_and_reason(service: Service, issuer: OidcIssuer) -> None:
    def counted(method: str, reason: str) -> float:
        labels = {"method": method, "reason": reason}
        return service.services.metrics.registry.get_sample_value("ngt_api_auth_failures_total", labels) or 0

    before = counted("jwt", "token-expired"), counted("jwt", "unauthenticated"), counted("none", "unauthenticated")
    await answer_to(service, issuer.token(exp=1))
    await answer_to(service, issuer.token(aud="x"))
    async with service.client() as client:
        await client.get("/jobs")
    after = counted("jwt", "token-expired"), counted("jwt", "unauthenticated"), counted("none", "unauthenticated")
    assert after == tuple(number + 1 for number in before)

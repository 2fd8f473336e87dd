"""The issuer's keys: rotated, gone, slow, wrong; and how often it is asked for them."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from app.api.callers.issuer_keys import IssuerKeys, read_keys
from app.api.callers.oidc import Issuer
from app.ngt.errors import Fault, FaultCode
from app.settings import Oidc
from tests.api.callers.issuer import AUDIENCE, DISCOVERY, JWKS, OidcIssuer, oidc_issuer, private_key, public_jwk
from tests.limits import LIMIT_S

HUGE = b" " * 600 * 1024


@pytest.fixture
def issuer(monkeypatch: pytest.MonkeyPatch) -> Iterator[OidcIssuer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with oidc_issuer() as running:
        yield running


def settings_for(issuer: OidcIssuer, **more: Any) -> Oidc:
    return Oidc.model_validate({"issuer": issuer.url, "audience": AUDIENCE, "allow_http": True, **more})


async def code_of(asked: Awaitable[object]) -> FaultCode | None:
    try:
        await asked
    except Fault as fault:
        return fault.code
    return None


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.01)


async def test_the_keys_are_fetched_once_however_many_ask(issuer: OidcIssuer) -> None:
    async with Issuer(settings_for(issuer)) as tokens:
        await asyncio.gather(*(tokens.verify(issuer.token(sub=f"caller-{number}")) for number in range(100)))
        assert issuer.fetches == {DISCOVERY: 1, JWKS: 1}


async def test_keys_at_a_configured_address_need_no_discovery(issuer: OidcIssuer) -> None:
    async with Issuer(settings_for(issuer, jwks_url=issuer.url + JWKS)) as tokens:
        assert (await tokens.verify(issuer.token())).id == "oidc:snow"
        assert issuer.fetches == {JWKS: 1}


async def test_a_rotated_key_is_fetched_with_its_first_token(issuer: OidcIssuer) -> None:
    async with Issuer(settings_for(issuer)) as tokens:
        await tokens.verify(issuer.token())
        issuer.keys = [public_jwk("ec-2")]
        callers = await asyncio.gather(*(tokens.verify(issuer.token("ec-2", sub=f"c{n}")) for n in range(100)))
        assert len({caller.id for caller in callers}) == 100
        assert issuer.fetches[JWKS] == 2
        # What the issuer shows no more is good no more.
        assert await code_of(tokens.verify(issuer.token("ec-1"))) is FaultCode.UNAUTHENTICATED


async def test_names_that_the_issuer_does_not_know_make_nobody_ask_it_often(issuer: OidcIssuer) -> None:
    async with Issuer(settings_for(issuer)) as tokens:
        await tokens.verify(issuer.token())
        for number in range(200):
            unknown = issuer.token(headers={"kid": f"made-up-{number}"})
            assert await code_of(tokens.verify(unknown)) is FaultCode.UNAUTHENTICATED
        assert issuer.fetches[JWKS] == 2


async def test_after_the_interval_an_unknown_name_is_asked_for_again(issuer: OidcIssuer) -> None:
    async with Issuer(settings_for(issuer, keys_interval_s=0.2)) as tokens:
        await tokens.verify(issuer.token())
        assert await code_of(tokens.verify(issuer.token("ec-2"))) is FaultCode.UNAUTHENTICATED
        issuer.keys = [public_jwk("ec-1"), public_jwk("ec-2")]

        async def is_taken() -> bool:
            return await code_of(tokens.verify(issuer.token("ec-2"))) is None

        await until(is_taken)


async def test_old_keys_are_fetched_again_so_that_a_withdrawn_one_is_forgotten(issuer: OidcIssuer) -> None:
    async with Issuer(settings_for(issuer, keys_max_age_s=0.2)) as tokens:
        await tokens.verify(issuer.token())
        issuer.keys = [public_jwk("ec-2")]

        async def is_refused() -> bool:
            return await code_of(tokens.verify(issuer.token("ec-1"))) is FaultCode.UNAUTHENTICATED

        await until(is_refused)


async def test_an_issuer_that_is_down_before_the_first_token_is_asked_again_soon(issuer: OidcIssuer) -> None:
    issuer.stop()
    async with Issuer(settings_for(issuer, keys_interval_s=0.2)) as tokens:
        assert await code_of(tokens.verify(issuer.token())) is FaultCode.ISSUER_UNAVAILABLE
        issuer.start_again()

        async def is_taken() -> bool:
            return await code_of(tokens.verify(issuer.token())) is None

        await until(is_taken)


async def test_an_issuer_that_fails_is_not_asked_by_every_request(issuer: OidcIssuer) -> None:
    issuer.answers[DISCOVERY] = (503, {}, b"")
    async with Issuer(settings_for(issuer)) as tokens:
        for _ in range(50):
            assert await code_of(tokens.verify(issuer.token())) is FaultCode.ISSUER_UNAVAILABLE
        assert issuer.fetches[DISCOVERY] == 1


async def test_when_the_issuer_goes_the_last_good_keys_stay(issuer: OidcIssuer) -> None:
    async with Issuer(settings_for(issuer, keys_max_age_s=0.01, keys_interval_s=0.01)) as tokens:
        await tokens.verify(issuer.token())
        issuer.stop()
        for _ in range(5):
            assert await code_of(tokens.verify(issuer.token())) is None
            assert await code_of(tokens.verify(issuer.token(aud="x"))) is FaultCode.UNAUTHENTICATED
            # Nobody can say whose key that is.
            assert await code_of(tokens.verify(issuer.token("ec-2"))) is FaultCode.ISSUER_UNAVAILABLE
        issuer.keys = [public_jwk("ec-2")]
        issuer.start_again()

        async def is_taken() -> bool:
            return await code_of(tokens.verify(issuer.token("ec-2"))) is None

        await until(is_taken)


@pytest.mark.parametrize("path", [DISCOVERY, JWKS])
@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (200, {}, b""),
        (200, {}, b"<html>sign in</html>"),
        (200, {}, b"[]"),
        (200, {}, b"\xff\xfe"),
        (200, {}, b"[" * 100_000),
        (200, {}, HUGE + b"{}"),
        (200, {}, b"{}"),
        (200, {}, b'{"keys": 7, "issuer": 7}'),
        (200, {}, b'{"keys": [], "issuer": "http://elsewhere.test", "jwks_uri": "http://elsewhere.test"}'),
        (200, {}, b'{"keys": [7, null, {}, {"kid": 1}, {"kid": "ec-1", "kty": "EC", "crv": "P-256", "x": 1}]}'),
        (200, {"Content-Encoding": "gzip"}, b"\x1f\x8b garbage"),
        (302, {"Location": "/moved"}, b""),
        (404, {}, b""),
        (500, {}, b"{}"),
    ],
)
async def test_garbage_of_the_issuer_is_no_key_and_replaces_none(
    issuer: OidcIssuer, path: str, status: int, headers: dict[str, str], body: bytes
) -> None:
    issuer.answers["/moved"] = issuer.answer(path)
    issuer.answers[path] = (status, headers, body)
    async with Issuer(settings_for(issuer, keys_max_age_s=0.01, keys_interval_s=0.01)) as tokens:
        assert await code_of(tokens.verify(issuer.token())) is FaultCode.ISSUER_UNAVAILABLE
        good = issuer.answers.pop(path)

        async def is_taken() -> bool:
            return await code_of(tokens.verify(issuer.token())) is None

        await until(is_taken)
        issuer.answers[path] = good
        before = issuer.fetches[path]

        async def is_fetched_and_still_taken() -> bool:
            assert await is_taken()
            return issuer.fetches[path] > before + 1

        await until(is_fetched_and_still_taken)
    assert "/moved" not in issuer.fetches


@pytest.mark.parametrize(
    "uri", [None, 7, "", "ftp://login.test/jwks", "file:///etc/passwd", "//", "http://", "http://["]
)
async def test_a_key_address_that_cannot_be_used_is_not_used(issuer: OidcIssuer, uri: object) -> None:
    issuer.answers[DISCOVERY] = (200, {}, json.dumps({"issuer": issuer.url, "jwks_uri": uri}).encode())
    async with Issuer(settings_for(issuer)) as tokens:
        assert await code_of(tokens.verify(issuer.token())) is FaultCode.ISSUER_UNAVAILABLE


async def test_an_issuer_that_does_not_answer_holds_up_nobody_for_long(issuer: OidcIssuer) -> None:
    issuer.open.clear()
    async with Issuer(settings_for(issuer, timeout_s=0.2)) as tokens, asyncio.timeout(LIMIT_S):
        asked = [code_of(tokens.verify(issuer.token())) for _ in range(20)]
        assert set(await asyncio.gather(*asked)) == {FaultCode.ISSUER_UNAVAILABLE}
        assert issuer.fetches[DISCOVERY] == 1


async def test_a_caller_who_goes_away_does_not_take_the_fetch_from_the_others(issuer: OidcIssuer) -> None:
    issuer.open.clear()
    async with Issuer(settings_for(issuer)) as tokens:
        impatient = asyncio.create_task(tokens.verify(issuer.token()))
        patient = asyncio.create_task(tokens.verify(issuer.token()))

        async def is_asked() -> bool:
            return issuer.fetches[DISCOVERY] == 1

        await until(is_asked)
        impatient.cancel()
        issuer.open.set()
        assert (await patient).name == "snow"
    assert impatient.cancelled()
    assert issuer.fetches[JWKS] == 1


async def test_a_service_that_stops_does_not_wait_for_the_issuer(issuer: OidcIssuer) -> None:
    issuer.open.clear()
    async with asyncio.timeout(LIMIT_S / 2), asyncio.TaskGroup() as tasks:
        async with IssuerKeys(settings_for(issuer, timeout_s=60)) as keys:
            waiting = tasks.create_task(keys.find("ec-1"))

            async def is_asked() -> bool:
                return issuer.fetches[DISCOVERY] == 1

            await until(is_asked)
        await asyncio.wait([waiting])
    assert waiting.cancelled()


@pytest.mark.parametrize(
    "members",
    [
        {"use": "enc"},
        {"key_ops": ["sign"]},
        {"key_ops": "verify"},
        {"alg": "RS256"},
        {"alg": "none"},
        {"kty": "oct", "k": "c2VjcmV0"},
        {"kty": "RSA"},
        {"crv": "P-384"},
        {"d": "AAAA"},
        {"x": "AAAA"},
        {"kid": None},
        {"kid": ["ec-1"]},
    ],
)
def test_a_key_that_is_for_something_else_is_passed_over(members: dict[str, Any]) -> None:
    algorithms = ("RS256", "ES256", "ES384", "EdDSA")
    read = read_keys({"keys": [public_jwk("ec-1", **members), public_jwk("ed-1")]}, algorithms)
    assert {kid: set(keys) for kid, keys in read.items()} == {"ed-1": {"EdDSA"}}


def test_a_key_of_another_curve_is_passed_over() -> None:
    other = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key(), as_dict=True)
    listed = {"keys": [{**other, "kid": "ec-384"}]}
    assert set(read_keys(listed, ("ES256", "ES384", "RS256"))["ec-384"]) == {"ES384"}


def test_a_short_key_is_passed_over() -> None:
    assert private_key("rsa-short").key_size == 1024  # type: ignore[union-attr]  # It is one of RSA.
    assert set(read_keys({"keys": [public_jwk("rsa-short"), public_jwk("ec-1")]}, ("RS256", "ES256"))) == {"ec-1"}


def test_a_key_serves_the_algorithms_of_its_kind_that_are_wanted() -> None:
    listed = {"keys": [public_jwk("rsa-1"), public_jwk("ec-1"), public_jwk("rsa-2", alg="PS256")]}
    read = read_keys(listed, ("RS256", "PS256", "ES256"))
    assert {kid: set(keys) for kid, keys in read.items()} == {
        "rsa-1": {"RS256", "PS256"},
        "ec-1": {"ES256"},
        "rsa-2": {"PS256"},
    }

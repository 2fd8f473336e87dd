"""How often one may ask, and how often a login may fail, at the API's door."""

import base64
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest

from app.api.callers.rate_limits import CallLimits, network_of
from app.serve import _uvicorn_config
from app.settings import Callers, Settings
from app.settings.callers.scopes import Scope
from tests.api.conftest import Service, assert_problem, serving

PEER = "192.0.2.7"


@asynccontextmanager
async def limited(
    folder: Path, database_url: str, *, requests: int = 0, failures: int = 0, proxies: str = ""
) -> AsyncIterator[Service]:
    given = {"requests_per_minute": requests, "failed_logins_per_minute": failures}
    callers = Callers.model_validate({**given, "trusted_proxies": proxies or ()})
    async with serving(Settings(data_dir=folder, callers=callers), database_url) as running:
        yield running


def client_from(service: Service, address: str, **headers: str) -> httpx.AsyncClient:
    """As the server runs it: behind what believes the configured proxies."""
    config = _uvicorn_config(service.app, service.services.settings)
    config.load()
    transport = httpx.ASGITransport(app=config.loaded_app, client=(address, 1))
    return httpx.AsyncClient(transport=transport, base_url="http://ngt-renewal.test", headers=headers)


async def status_of(service: Service, token: str, address: str = PEER, **headers: str) -> int:
    async with client_from(service, address, **{"X-API-Key": token, **headers}) as client:
        return (await client.get("/meta")).status_code


async def refused_at_last(ask: Callable[[], object], tries: int = 50) -> list[int]:
    """The answers up to the first 429: a window that ends in between may let some more through."""
    seen: list[int] = []
    for _ in range(tries):
        seen.append(await ask())  # type: ignore[misc]  # Whatever is asked is awaited.
        if seen[-1] == 429:
            break
    return seen


def wrong(token: str) -> str:
    """The same key's id with a secret that is not its own."""
    prefix, key_id, secret = token.split("_")
    return f"{prefix}_{key_id}_{secret[::-1]}"


async def test_every_answer_to_a_caller_says_what_is_left(tmp_path: Path, database_url: str) -> None:
    async with (
        limited(tmp_path, database_url, requests=100) as service,
        service.client(await service.key(Scope.JOBS_READ)) as client,
    ):
        left = []
        for path in ("/jobs", "/jobs/nonsense", "/jobs?x=1", "/metrics", "/readyz?verbose=true"):
            answer = await client.get(path)
            assert answer.headers["ratelimit-policy"] == '"default";q=100;w=60'
            shown = re.fullmatch(r'"default";r=(\d+);t=(\d+)', answer.headers["ratelimit"])
            assert shown, path
            assert 1 <= int(shown[2]) <= 60
            left.append(int(shown[1]))
        assert left[0] == 99
        refused = await client.post(f"/vms/{'0' * 8}-0000-7000-8000-{'0' * 12}/ngt/renew")
        assert (refused.status_code, "ratelimit" in refused.headers) == (403, True)
        for path in ("/livez", "/readyz", "/openapi.json", "/docs"):
            assert "ratelimit" not in (await client.get(path)).headers, path
    assert "ratelimit" not in (await service.client().get("/jobs")).headers


async def test_one_caller_who_asks_too_often_does_not_stop_another(tmp_path: Path, database_url: str) -> None:
    async with limited(tmp_path, database_url, requests=3) as service:
        wild, calm = await service.key(Scope.JOBS_READ), await service.key(Scope.JOBS_READ)
        seen = await refused_at_last(lambda: status_of(service, wild))
        assert seen[:3] == [200, 200, 200]
        assert seen[-1] == 429
        async with service.client(wild) as client:
            answer = await client.get("/jobs")
            problem = assert_problem(answer, 429, "rate-limited")
            assert problem["retryable"]
            assert 1 <= int(answer.headers["retry-after"]) <= 60
            assert answer.headers["ratelimit"].startswith('"default";r=0;t=')
            # What needs no key is not limited.
            assert (await client.get("/livez")).status_code == 200
        assert await status_of(service, calm) == 200


async def test_without_limits_nothing_is_counted(tmp_path: Path, database_url: str) -> None:
    async with limited(tmp_path, database_url) as service, service.client(await service.key()) as client:
        for _ in range(30):
            assert "ratelimit" not in (await client.get("/meta")).headers
        assert {await status_of(service, "nonsense") for _ in range(30)} == {401}


async def test_an_address_that_guesses_is_told_to_wait_and_its_neighbours_keep_working(
    tmp_path: Path, database_url: str
) -> None:
    async with limited(tmp_path, database_url, failures=3) as service:
        good, also_good = await service.key(), await service.key()
        seen = await refused_at_last(lambda: status_of(service, "nonsense"))
        assert seen[:3] == [401, 401, 401]
        assert seen[-1] == 429
        async with client_from(service, PEER, **{"X-API-Key": "nonsense"}) as client:
            answer = await client.get("/meta")
        assert_problem(answer, 429, "rate-limited")
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        # A good key from the same address is taken, also one that was never seen; and other addresses are others.
        assert await status_of(service, good) == 200
        assert await status_of(service, also_good) == 200
        assert await status_of(service, "nonsense", "192.0.2.8") == 401


@pytest.mark.parametrize("form", ["key", "basic"])
async def test_a_key_that_is_guessed_at_from_everywhere_is_looked_up_no_more(
    tmp_path: Path, database_url: str, form: str
) -> None:
    async with limited(tmp_path, database_url, failures=3) as service:
        token, in_use, other = await service.key(), await service.key(), await service.key()
        assert await status_of(service, in_use) == 200
        addresses = iter(range(250))

        async def guess(token: str) -> int:
            address = f"198.51.100.{next(addresses)}"
            if form == "key":
                return await status_of(service, wrong(token), address)
            basic = base64.b64encode(f"{token.split('_')[1]}:guess".encode()).decode()
            async with client_from(service, address, Authorization=f"Basic {basic}") as client:
                return (await client.get("/meta")).status_code

        for guessed in (token, in_use):
            seen = await refused_at_last(partial(guess, guessed))
            assert seen[:3] == [401, 401, 401]
            assert seen[-1] == 429
        # Even the right secret is not looked up, unless this process has seen it before the guessing began.
        assert await status_of(service, token, "203.0.113.1") == 429
        assert await status_of(service, in_use, "203.0.113.1") == 200
        assert await status_of(service, other, "203.0.113.1") == 200


async def test_no_credential_and_one_that_was_good_once_are_no_guesses(tmp_path: Path, database_url: str) -> None:
    async with limited(tmp_path, database_url, failures=2) as service:
        expired, revoked = await service.key(expires_s=-1), await service.key()
        await service.services.store.keys.revoke(revoked.split("_")[1])
        async with client_from(service, PEER) as nobody:
            for _ in range(10):
                assert (await nobody.get("/meta")).status_code == 401
                assert await status_of(service, expired) == 401
                assert await status_of(service, revoked) == 401


async def test_refused_logins_are_counted_with_their_reason(tmp_path: Path, database_url: str) -> None:
    async with limited(tmp_path, database_url, failures=2) as service:
        seen = await refused_at_last(lambda: status_of(service, "nonsense"))
        registry = service.services.metrics.registry
        for reason, number in (("unauthenticated", seen.count(401)), ("rate-limited", 1)):
            labels = {"method": "api_key", "reason": reason}
            assert registry.get_sample_value("ngt_api_auth_failures_total", labels) == number


@pytest.mark.parametrize(
    ("peer", "forwarded", "counts_for"),
    [
        ("10.0.0.5", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.5", "1.2.3.4, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.5", "198.51.100.1, 10.0.0.9", "198.51.100.1"),
        ("10.0.0.5", "", "10.0.0.5"),
        # Whoever is no proxy may write there what he likes.
        ("198.51.100.1", "1.2.3.4", "198.51.100.1"),
    ],
)
async def test_a_trusted_proxy_says_whose_address_it_is(
    tmp_path: Path, database_url: str, peer: str, forwarded: str, counts_for: str
) -> None:
    async with limited(tmp_path, database_url, failures=2, proxies="10.0.0.0/8") as service:
        await refused_at_last(lambda: status_of(service, "nonsense", peer, **{"X-Forwarded-For": forwarded}))
        assert await status_of(service, "nonsense", counts_for) == 429
        assert await status_of(service, "nonsense", "203.0.113.1") == 401


async def test_without_trusted_proxies_nobody_is_believed(tmp_path: Path, database_url: str) -> None:
    async with limited(tmp_path, database_url, failures=2) as service:
        addresses = iter(range(50))

        async def guess() -> int:
            return await status_of(
                service, "nonsense", "127.0.0.1", **{"X-Forwarded-For": f"192.0.2.{next(addresses)}"}
            )

        assert (await refused_at_last(guess))[-1] == 429


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
        ("x" * 1000, "x" * 64),
        ("", ""),
    ],
)
def test_an_address_stands_for_its_network(address: str, network: str) -> None:
    assert network_of(address) == network


async def test_addresses_that_are_gone_leave_nothing_behind() -> None:
    limits = CallLimits(Callers(failed_logins_per_minute=5, requests_per_minute=5), window_s=1)
    storage = limits._failures._limiter.storage
    for number in range(2000):
        await limits.note_failure(f"10.{number % 256}.{number // 256}.1", f"{number:08d}")
    assert len(storage.storage) > 1000  # type: ignore[attr-defined]  # The library's table in memory.
    # Two windows of one second later the next failure drops the rest.
    for key in storage.expirations:  # type: ignore[attr-defined]
        storage.expirations[key] -= 3  # type: ignore[attr-defined]
    await limits.note_failure("192.0.2.7", None)
    await storage.timer  # type: ignore[attr-defined]
    assert len(storage.storage) <= 2  # type: ignore[attr-defined]
    assert len(storage.locks) <= 2  # type: ignore[attr-defined]

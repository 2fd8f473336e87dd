from dataclasses import replace

import httpx
import psycopg

from app.api.callers.authentication import Authenticator
from app.api.callers.rate_limits import CallLimits
from app.store.store import Store
from tests.api.conftest import RENEW, Service, assert_problem

NOWHERE = "postgresql://nobody@/nothing?host=/nonexistent"


async def test_a_service_that_works_is_alive_and_ready_without_a_key(service: Service) -> None:
    async with service.client() as client:
        assert (await client.get("/livez")).json() == {"status": "alive"}
        assert (await client.get("/readyz")).json() == {"status": "ready"}
        assert (await client.head("/livez")).status_code == 200


async def test_each_check_is_shown_to_one_who_has_a_key(service: Service, caller: httpx.AsyncClient) -> None:
    checks = (await caller.get("/readyz?verbose=true")).json()["checks"]
    assert (await caller.get("/readyz?verbose")).json()["checks"] == checks
    assert [check["name"] for check in checks] == ["database", "migrations", "worker", "draining"]
    assert all(check["passed"] for check in checks)
    async with service.client() as client:
        assert_problem(await client.get("/readyz?verbose=true"), 401, "unauthenticated")
        assert_problem(await client.get("/readyz?verbose"), 401, "unauthenticated")


async def test_a_service_that_stops_is_not_ready_but_alive(service: Service, caller: httpx.AsyncClient) -> None:
    service.services.draining.set()
    answer = await caller.get("/readyz")
    assert_problem(answer, 503, "draining")
    assert int(answer.headers["retry-after"]) > 0
    assert (await caller.get("/livez")).status_code == 200
    assert (await caller.post(RENEW)).status_code == 202


async def test_a_service_whose_worker_stopped_is_not_ready(service: Service, caller: httpx.AsyncClient) -> None:
    service.app.state.services = replace(service.services, worker_alive=lambda: False)
    problem = assert_problem(await caller.get("/readyz?verbose=true"), 503, "internal-error")
    assert [error["pointer"] for error in problem["errors"]] == ["/checks/worker"]


async def test_a_database_of_another_schema_is_not_ready(service: Service, caller: httpx.AsyncClient) -> None:
    with psycopg.connect(service.services.store.database.url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'older'")
    assert "migrate" in assert_problem(await caller.get("/readyz"), 503, "database-unavailable")["detail"]


async def test_without_a_database_nothing_is_started_and_the_caller_may_come_again(service: Service) -> None:
    token = await service.key()
    services = service.services
    gone = Store(services.settings, NOWHERE)
    logins = Authenticator(gone.keys, None, CallLimits(services.settings.callers), services.metrics)
    service.app.state.services = replace(services, store=gone, logins=logins)
    async with service.client(token) as client:
        for answer in (await client.get("/readyz"), await client.post(RENEW), await client.get("/metrics")):
            assert assert_problem(answer, 503, "database-unavailable")["retryable"]
            assert int(answer.headers["retry-after"]) > 0
        assert (await client.get("/livez")).status_code == 200
    await gone.database.close()


async def test_metrics_and_meta_need_any_key_and_no_scope(service: Service) -> None:
    async with service.client() as stranger, service.client(await service.key()) as nobody:
        for path in ("/metrics", "/meta", "/clusters"):
            assert_problem(await stranger.get(path), 401, "unauthenticated")
            assert (await nobody.get(path)).status_code == 200
        meta = (await nobody.get("/meta")).json()
    assert (meta["name"], meta["docs"], meta["openapi"]) == ("ngt-renewal", "/docs", "/openapi.json")
    assert meta["database_revision"]

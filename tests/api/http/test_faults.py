import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import psycopg
import pytest
import uvicorn
from structlog.testing import capture_logs

from app.api.http.problems import STATUS
from app.ngt.errors import RULES, FaultCode
from app.settings.callers.scopes import Scope
from tests.api.conftest import RENEW, Service, assert_problem
from tests.limits import LIMIT_S


async def test_what_nobody_foresaw_is_a_500_that_tells_only_its_id(service: Service) -> None:
    token = await service.key(*Scope)
    with psycopg.connect(service.services.store.database.url) as connection:
        connection.execute("DROP TABLE api_key")
    async with service.client(token) as client:
        with capture_logs() as logged:
            answer = await client.get("/jobs")
    problem = assert_problem(answer, 500, "internal-error")
    assert "detail" not in problem
    assert "api_key" not in answer.text
    assert [line["log_level"] for line in logged] == ["error", "info"]


async def test_a_request_leaves_one_line_with_its_caller_and_never_its_credential(
    service: Service, caller: httpx.AsyncClient
) -> None:
    with capture_logs() as logged:
        await caller.post(f"{RENEW}?wait=0", json={"correlation_id": "RITM1"})
        await caller.get("/livez")
    (line,) = logged
    assert (line["event"], line["method"], line["path"], line["status"]) == ("request", "POST", RENEW, 202)
    assert line["caller"]
    assert caller.headers["x-api-key"] not in str(logged)


@pytest.mark.parametrize("code", sorted(STATUS))
def test_every_fault_over_http_has_its_rule(code: FaultCode) -> None:
    assert code in RULES
    assert 400 <= STATUS[code] < 600


@asynccontextmanager
async def over_a_socket(service: Service) -> AsyncIterator[str]:
    """The application behind the real server, on a port of its own."""
    server = uvicorn.Server(uvicorn.Config(service.app, port=0, lifespan="off", log_config=None, access_log=False))
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(LIMIT_S):
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    await serving


async def test_a_body_without_a_length_is_refused_once_it_is_too_large(service: Service) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b" " * 65536

    headers = {"X-API-Key": await service.key(*Scope), "Content-Type": "application/json"}
    async with over_a_socket(service) as url, httpx.AsyncClient() as client:
        assert_problem(await client.post(url + RENEW, content=chunks(), headers=headers), 413, "body-too-large")
        assert (await client.post(url + RENEW, headers=headers)).status_code == 202
    assert await service.stored() == (1, 0)


async def test_head_is_answered_as_get_without_a_body(service: Service) -> None:
    async with over_a_socket(service) as url, httpx.AsyncClient() as client:
        answer = await client.head(f"{url}/livez")
    assert (answer.status_code, answer.content) == (200, b"")


async def test_a_path_stands_in_a_problem_and_in_the_log_as_it_may_stand_in_a_line(service: Service) -> None:
    async with service.client() as client:
        with capture_logs() as logged:
            answer = await client.get("/jobs/a%0Ab%3Fc%C3%BC", headers={"Host": "elsewhere/x"})
    assert answer.json()["instance"] == "/jobs/a%0Ab%3Fc%C3%BC"
    assert [line["path"] for line in logged] == ["/jobs/a%0Ab%3Fc%C3%BC"]

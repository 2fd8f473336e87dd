"""What is sent before there is a request, over real sockets."""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio

from app import serve
from app.api.http.connection_limits import BoundedConnection
from app.settings.callers.scopes import Scope
from tests.api.conftest import RENEW, Service
from tests.api.server import until
from tests.limits import LIMIT_S

MUCH = 4 * 1024 * 1024


@asynccontextmanager
async def served(service: Service, connection: type[BoundedConnection]) -> AsyncIterator[int]:
    config = serve._uvicorn_config(service.app, service.services.settings)
    config.http = connection
    server = serve._UvicornServer(config)
    # Connections wait in the socket's queue until the server takes them.
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = asyncio.create_task(server.serve([listening]))
        yield listening.getsockname()[1]
        server.should_exit = True
        await serving


@pytest_asyncio.fixture
async def port(service: Service) -> AsyncIterator[int]:
    async with served(service, BoundedConnection) as port:
        yield port


async def sent(port: int, *services: bytes) -> bytes:
    """All that comes back until the service hangs up; that it does is a part of each test."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(LIMIT_S):
            for part in services:
                writer.write(part)
                await writer.drain()
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def problem(answer: bytes) -> dict[str, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head.lower()
    assert b"connection: close" in head.lower()
    read: dict[str, Any] = json.loads(body)
    assert head.startswith(b"HTTP/1.1 %d " % read["status"])
    return read


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET /jobs?cursor=\xff HTTP/1.1\r\n\r\n",
        b"get /jobs HTTP/1.1\r\n\r\n",
        b"GET jobs HTTP/1.1\r\n\r\n",
        b"GET /jobs HTTP/1.1\r\nFoo : bar\r\n\r\n",
        b"GET /jobs HTTP/1.1\r\nFoo: a\0b\r\n\r\n",
        b"POST /jobs HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
)
async def test_what_is_no_request_is_a_problem_too(port: int, request_line: bytes) -> None:
    refused = problem(await sent(port, request_line))
    assert (refused["status"], refused["code"]) == (400, "malformed-request")


@pytest.mark.parametrize(
    ("begun", "more"),
    [
        (b"GET /", b"a" * 65536),
        (b"GET / HTTP/1.1\r\nX: ", b"a" * 65536),
        (b"GET / HTTP/1.1\r\n", b"X: a\r\n" * 10922),
    ],
    ids=["a path", "a header", "many headers"],
)
async def test_a_head_that_does_not_end_is_cut(port: int, begun: bytes, more: bytes) -> None:
    answer = await sent(port, begun, more)
    refused = problem(answer)
    assert (refused["status"], refused["code"]) == (431, "head-too-large")
    # One who does not stop sending is hung up on.
    await sent(port, begun, *[more] * (MUCH // len(more)))


@pytest.mark.parametrize(
    ("begun", "more"),
    [(b"5;", b"a" * 65536), (b"0\r\n", b"X: a\r\n" * 10922)],
    ids=["a chunk's extension", "trailers"],
)
async def test_what_is_around_a_body_is_bounded_too(port: int, begun: bytes, more: bytes) -> None:
    head = b"POST /jobs/1/cancel HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    await sent(port, head, begun, *[more] * (MUCH // len(more)))


async def test_a_head_that_takes_too_long_is_not_waited_for(service: Service) -> None:
    class Hasty(BoundedConnection):
        head_timeout_s = 0.05

    async with served(service, Hasty) as port:
        assert await sent(port) == b""
        assert await sent(port, b"GET /livez HTTP/1.1\r\nX: ") == b""


async def test_a_long_body_and_many_requests_over_one_connection_are_no_head(service: Service, port: int) -> None:
    token = await service.key(Scope.JOBS_CANCEL)
    request = b"GET /livez HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 30_000 + b"\r\n\r\n"
    body = b"{" + b" " * 900_000 + b"}"
    headers = f"X-API-Key: {token}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    posted = f"POST /jobs/1/cancel HTTP/1.1\r\nHost: h\r\n{headers}\r\nConnection: close\r\n\r\n"
    answer = await sent(port, *[request] * 5, posted.encode(), body)
    assert answer.count(b"HTTP/1.1 200 OK") == 5
    assert answer.count(b"HTTP/1.1 422") == 1


@pytest.mark.parametrize("with_its_head", [True, False])
async def test_a_body_is_read_although_another_protocol_is_asked_for(
    service: Service, port: int, *, with_its_head: bool
) -> None:
    token = await service.key(Scope.RENEW)
    body = b'{"validate_only": true}'
    headers = f"X-API-Key: {token}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    wish = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB"
    head = f"POST {RENEW} HTTP/1.1\r\nHost: h\r\n{headers}\r\n{wish}\r\n\r\n".encode()
    last = b"GET /livez HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    services = [head + body + last] if with_its_head else [head, body, last]
    answer = await sent(port, *services)
    assert answer.startswith(b"HTTP/1.1 202 Accepted")
    assert b'"validate_only":true' in answer
    assert answer.count(b"HTTP/1.1 200 OK") == 1


async def test_every_request_of_one_piece_may_ask_for_another_protocol(service: Service, port: int) -> None:
    token = await service.key(Scope.RENEW)
    wish = "Connection: Upgrade\r\nUpgrade: h2c"
    bodies = [f'{{"validate_only": true, "correlation_id": "{number}"}}' for number in range(3)]
    requests = "".join(
        f"POST {RENEW} HTTP/1.1\r\nHost: h\r\nX-API-Key: {token}\r\nContent-Type: application/json\r\n"
        f"{wish}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        for body in bodies
    )
    answer = await sent(port, f"{requests}GET /livez HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
    assert answer.count(b"HTTP/1.1 202 Accepted") == 3
    assert [answer.count(b'"correlation_id":"%d"' % number) for number in range(3)] == [1, 1, 1]
    assert answer.count(b"HTTP/1.1 200 OK") == 1


async def test_a_target_that_is_no_path_is_refused(port: int) -> None:
    answer = problem(await sent(port, b"CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n"))
    assert answer["code"] == "malformed-request"


async def test_a_client_that_goes_away_ends_each_of_its_requests(service: Service, port: int) -> None:
    token = await service.key(Scope.RENEW, Scope.JOBS_READ)
    async with service.client(token) as caller:
        job = (await caller.post(RENEW)).json()["id"]
    waits = f"GET /jobs/{job}?wait=20 HTTP/1.1\r\nHost: h\r\nX-API-Key: {token}\r\n\r\n".encode()
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(waits + b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n")
    await until(lambda: service.services.waiters.count == 1)
    writer.transport.abort()
    await until(lambda: service.services.waiters.count == 0)


async def test_no_answer_is_written_where_nobody_hears_it(port: int, caplog: pytest.LogCaptureFixture) -> None:
    assert await sent(port, b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n\x00\r\n\r\n") == b""
    assert [line.getMessage() for line in caplog.records if line.levelno >= logging.ERROR] == []

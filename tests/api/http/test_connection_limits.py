"""What is sent before there is a request, over real sockets."""

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import ip_network
from typing import Any, cast

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from app import serve
from app.api.http.connection_limits import BoundedConnection
from app.api.http.open_connections import OpenConnections
from app.settings import Callers
from app.settings.callers.scopes import Scope
from tests.api.conftest import RENEW, Service
from tests.api.server import until
from tests.limits import LIMIT_S

MUCH = 4 * 1024 * 1024


@asynccontextmanager
async def served(
    service: Service, connection: type[BoundedConnection], opened: OpenConnections | None = None
) -> AsyncIterator[int]:
    config = serve._uvicorn_config(service.app, service.services.settings)
    config.http = cast("Any", partial(connection, OpenConnections(1000) if opened is None else opened))
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


class Hasty(BoundedConnection):
    """Its limits of time are over at once, so that a connection without an end would be the only one to stay."""

    head_timeout_s = 0.05
    body_timeout_s = 0.05
    write_timeout_s = 0.05


_DRIP_S = 0.02
_GET = b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n"
_POST = b"POST /vms HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n"
_CHUNKED = b"POST /jobs/1/cancel HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.field("E2")
@pytest.mark.parametrize(
    ("begun", "drip"),
    [
        (b"", b""),
        (b"", b"\r\n"),
        (b"GET /livez HTTP/1.1\r\nX: ", b"a"),
        (_GET, b""),
        (_GET, b"\r\n"),
        (_GET + b"GET /livez HTTP/1.1\r\nX: ", b"a"),
        (_POST, b""),
        (_POST, b"a"),
        (_CHUNKED, b""),
        (_CHUNKED, b"1\r\na\r\n"),
        (_CHUNKED + b"0\r\n", b"X: a\r\n"),
        (_GET.replace(b"1.1", b"1.0"), b"\r\n"),
        (b"get\r\n\r\n", b"a"),
    ],
)
async def test_a_connection_ends_whatever_its_client_goes_on_sending(
    service: Service, begun: bytes, drip: bytes
) -> None:
    opened = OpenConnections(1000)
    async with served(service, Hasty, opened) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(begun)
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(60):
                while not (reader.at_eof() and not opened):
                    writer.write(drip)
                    await writer.drain()
                    await asyncio.wait([asyncio.ensure_future(reader.read(65536))], timeout=_DRIP_S)
        await until(lambda: not opened)
        writer.close()


@pytest.mark.field("E2", "E3")
@pytest.mark.parametrize("last", [b"", b"Connection: close\r\n"])
async def test_a_client_that_does_not_read_is_hung_up_on(service: Service, last: bytes) -> None:
    opened = OpenConnections(1000)
    async with served(service, Hasty, opened) as port:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, ("127.0.0.1", port))
            requests = b"GET /openapi.json HTTP/1.1\r\nHost: h\r\n\r\n" * 50
            with contextlib.suppress(ConnectionError):
                await loop.sock_sendall(client, requests + b"GET /livez HTTP/1.1\r\n" + last + b"\r\n")
            await until(lambda: not opened)


@pytest.mark.field("E2")
async def test_the_longest_idle_connection_makes_room_for_a_new_one(service: Service) -> None:
    opened = OpenConnections(8)
    with capture_logs() as logged:
        async with served(service, BoundedConnection, opened) as port:
            idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
            await until(lambda: len(opened) == 4)
            for _ in range(20):
                answer = await sent(port, b"GET /livez HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
                assert answer.startswith(b"HTTP/1.1 200 OK")
            with contextlib.suppress(ConnectionError):
                assert await idle[0][0].read() == b""
            for _, writer in idle:
                writer.close()
    assert sum("limit of connections" in line["event"] for line in logged) == 1


@pytest.mark.field("E2")
async def test_a_connection_is_refused_when_a_request_is_at_work_on_all_others(service: Service) -> None:
    token = await service.key(Scope.RENEW, Scope.JOBS_READ)
    async with service.client(token) as caller:
        job = (await caller.post(RENEW)).json()["id"]
    waits = f"GET /jobs/{job}?wait=20 HTTP/1.1\r\nHost: h\r\nX-API-Key: {token}\r\n\r\n".encode()
    opened = OpenConnections(4)
    async with served(service, BoundedConnection, opened) as port:
        waiting = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for _, writer in waiting:
            writer.write(waits)
        await until(lambda: service.services.waiters.count == 2)
        refused = problem(await sent(port))
        assert (refused["status"], refused["code"]) == (503, "too-many-connections")
        for _, writer in waiting:
            writer.transport.abort()
        await until(lambda: not opened)
        assert (await sent(port, _GET.replace(b"1.1", b"1.0"))).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.field("E2")
def test_connections_are_counted_by_network_and_those_of_proxies_in_all_alone() -> None:
    opened = OpenConnections(6, [ip_network("10.0.0.0/8")])
    held: list[Held] = []

    def admit(address: str, times: int) -> None:
        for _ in range(times):
            connection = Held()
            held.append(connection)
            if opened.admit(connection, address):
                opened.note_work(connection)

    admit("2001:db8::1", 2)
    admit("2001:db8::2", 3)
    assert len(opened) == 3
    admit("10.1.1.1", 9)
    assert len(opened) == 6
    for connection in held:
        opened.release(connection)
        opened.release(connection)
        opened.note_idle(connection)
    assert not opened
    admit("192.0.2.1", 4)
    assert len(opened) == 3


class Held:
    def abort(self) -> None:
        raise AssertionError("a request is at work on it")


@pytest.mark.field("E2")
def test_half_of_the_files_that_may_be_open_are_kept_for_hosts_and_the_database() -> None:
    few, many = OpenConnections.of(Callers(), 100), OpenConnections.of(Callers(waiters=10), 100_000)
    for opened, most in ((few, 50), (many, 20)):
        for number in range(100):
            connection = Held()
            if opened.admit(connection, f"192.0.2.{number}"):
                opened.note_work(connection)
        assert len(opened) == most


@pytest.mark.field("E1")
@pytest.mark.parametrize("request_head", [b"Connection: upgrade\r\nUpgrade: websocket\r\n", b""])
async def test_endless_requests_in_one_piece_are_refused_cheaply(
    service: Service, caplog: pytest.LogCaptureFixture, request_head: bytes
) -> None:
    opened = OpenConnections(1000)
    async with served(service, BoundedConnection, opened) as port:
        request = b"GET /livez HTTP/1.1\r\nHost: h\r\n" + request_head + b"\r\n"
        await sent(port, request * 1300)
        await until(lambda: not opened)
    assert sum(len(line.getMessage()) for line in caplog.records) < 10_000
    assert not [line for line in caplog.records if line.exc_info]


@pytest.mark.field("G5")
@pytest.mark.parametrize("token", [True, False])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_the_refusal_of_a_long_body_arrives(service: Service, port: int, version: str, *, token: bool) -> None:
    key = await service.key(Scope.RENEW) if token else "none"
    length = 8 * 1024 * 1024
    head = f"POST {RENEW} HTTP/{version}\r\nHost: h\r\nX-API-Key: {key}\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {length}\r\nConnection: close\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(60):
        # All is sent before the first byte of the answer is read, as many clients do.
        writer.write(head.encode())
        writer.write(b" " * length)
        await writer.drain()
        refused = problem(await reader.read())
    writer.close()
    assert refused["status"] == (413 if token else 401)


@pytest.mark.field("G5")
async def test_one_who_sends_on_after_a_refusal_is_hung_up_on(service: Service) -> None:
    class Impatient(BoundedConnection):
        most_unread_bytes = 100_000

    opened = OpenConnections(1000)
    async with served(service, Impatient, opened) as port:
        for begun in (b"GET / HTTP/1.1\r\nX: ", _POST.replace(b"1000000", b"9000000"), b"get\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(begun)
            with contextlib.suppress(ConnectionError):
                async with asyncio.timeout(60):
                    while True:
                        writer.write(b"a" * 65536)
                        await writer.drain()
            writer.close()
            del reader
            await until(lambda: not opened)


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

"""A real HTTP server on loopback, in a thread of its own, that keeps what it received and answers as it is told.

What it answers to a request is decided by a plain function, unless an answer was ordered for the next requests.
"""

import asyncio
import json
import socket
import ssl
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs

import uvicorn

from tests.limits import LIMIT_S

Scope = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What to answer; `hangs`: nothing, as long as the server is up; `drips`: all but the end of the body."""

    status: int = 204
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    hangs: bool = False
    drips: bool = False

    @classmethod
    def json(cls, status: int, body: object, **headers: str) -> Self:
        return cls(status, json.dumps(body).encode(), {"Content-Type": "application/json;charset=UTF-8", **headers})


@dataclass(frozen=True, slots=True)
class Received:
    """A request; the names of its headers are in lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class HttpServer:
    """Started by `running`. What was ordered comes before what `respond` says."""

    def __init__(self, respond: Callable[[Received], Answer]) -> None:
        self.url = ""
        self.received: list[Received] = []
        self._respond = respond
        self._orders: deque[Answer] = deque()
        self._arrived = threading.Condition()

    def order(self, *answers: Answer) -> None:
        """The next requests get these, one each; then all is as before."""
        self._orders.extend(answers)

    async def wait_for(self, count: int) -> list[Received]:
        """Everything that was received, once it is as many."""

        def arrived() -> bool:
            with self._arrived:
                return self._arrived.wait_for(lambda: len(self.received) >= count, LIMIT_S)

        assert await asyncio.to_thread(arrived), f"{len(self.received)} of {count} requests came"
        return self.received

    async def __call__(
        self, scope: Scope, receive: Callable[[], Awaitable[Scope]], send: Callable[[Scope], Awaitable[None]]
    ) -> None:
        """One request, as ASGI has it."""
        request = await _read(scope, receive)
        with self._arrived:
            self.received.append(request)
            self._arrived.notify_all()
        answer = self._orders.popleft() if self._orders else self._respond(request)
        if answer.hangs:
            await asyncio.Event().wait()
        headers = [(name.lower().encode(), value.encode()) for name, value in answer.headers.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body, "more_body": answer.drips})
        if answer.drips:
            await asyncio.Event().wait()

    @contextmanager
    def running(self, certificate: Path | None = None, key: Path | None = None) -> Iterator[Self]:
        """Up on a free port of 127.0.0.1, with TLS when there is a certificate."""
        config = uvicorn.Config(
            self,
            ssl_certfile=certificate,
            ssl_keyfile=key,
            ssl_version=ssl.PROTOCOL_TLS_SERVER,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            http="h11",
            loop="asyncio",
        )
        server = uvicorn.Server(config)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{listening.getsockname()[1]}"
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="http-server")
            thread.start()
            try:
                yield self
            finally:
                server.should_exit = server.force_exit = True
                thread.join(LIMIT_S)
                assert not thread.is_alive()


async def _read(scope: Scope, receive: Callable[[], Awaitable[Scope]]) -> Received:
    body = b""
    while True:
        part = await receive()
        body += part.get("body", b"")
        if not part.get("more_body"):
            break
    return Received(
        method=scope["method"],
        path=scope["path"],
        query={name: values[-1] for name, values in parse_qs(scope["query_string"].decode()).items()},
        headers={name.decode(): value.decode("latin-1") for name, value in scope["headers"]},
        body=body,
    )

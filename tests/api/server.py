"""The API behind a real HTTP server on loopback, where a client can go away and streams are seen as they come."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import uvicorn

from tests.api.conftest import Service
from tests.limits import LIMIT_S


@dataclass(frozen=True, slots=True)
class Server:
    """Where the service listens."""

    url: str

    def client(self, token: str) -> httpx.AsyncClient:
        """Without a limit of connections, so that any number of requests waits at once."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        headers = {"X-API-Key": token}
        return httpx.AsyncClient(base_url=self.url, headers=headers, limits=limits, timeout=60, trust_env=False)


@asynccontextmanager
async def listening(service: Service) -> AsyncIterator[Server]:
    """The service on a free port; at the end its streams are ended as at SIGTERM."""
    config = uvicorn.Config(service.app, lifespan="off", log_config=None, timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        serving = asyncio.create_task(server.serve([bound]))
        try:
            await until(lambda: server.started)
            yield Server(f"http://127.0.0.1:{bound.getsockname()[1]}")
        finally:
            service.services.store.changes.end_watches()
            server.should_exit = True
            await serving


async def until(state: Callable[[], bool]) -> None:
    """Returns as soon as the state is reached; fails after a while."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            if state():
                return
            await asyncio.sleep(0.005)

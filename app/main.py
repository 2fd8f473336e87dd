"""The only place that builds the service's objects. What starts last stops first."""

import asyncio
import ipaddress
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any

import procrastinate
import structlog
import uvicorn
from fastapi import FastAPI

from app.api.application import create_api
from app.api.parts import Parts
from app.ngt.errors import Fault, FaultCode
from app.settings import Settings
from app.store.changes import Changes
from app.store.clusters import Clusters
from app.store.database import Database
from app.store.jobs import Jobs
from app.store.keys import Keys
from app.store.queue import WakeUps, queue_app
from app.store.vms import Vms
from app.telemetry import Metrics
from app.work.worker import Worker

__all__ = ["build_app", "openapi_document", "serve_until_stopped", "work_until_stopped"]

log = structlog.get_logger(__name__)

# How long a client may take to fetch its answer after the last job was put down.
_HTTP_GRACE_S = 5


def build_app(settings: Settings, database_url: str) -> FastAPI:
    """The HTTP API without a worker, on a database that has this version's schema; it connects when it is started."""

    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[None]:
        async with _opened(settings, database_url) as (parts, _):
            api.state.parts = parts
            yield
            parts.draining.begin()

    return create_api(lifespan)


def openapi_document() -> dict[str, Any]:
    """The OpenAPI 3.1 document, without a database."""
    return create_api().openapi()


async def serve_until_stopped(settings: Settings, database_url: str, *, with_worker: bool) -> None:
    """Serves HTTP, and works, until SIGTERM or SIGINT.

    Then `/readyz` says 503 while running changes are finished, and only after that the port is closed; a second signal
    ends it at once. Raises a Fault when the configuration would put a service without any key on the network.
    """
    async with AsyncExitStack() as stack:
        parts, queue = await stack.enter_async_context(_opened(settings, database_url))
        await _refuse_open_door(settings, parts.keys)
        worker = Worker(settings, parts.database, queue, parts.metrics) if with_worker else None
        if worker is not None:
            parts = replace(parts, worker_alive=worker.is_alive)
        api = create_api()
        api.state.parts = parts
        server = _Server(_uvicorn_config(settings, api))
        serving = asyncio.create_task(server.serve(), name="http")
        with _stop_signals() as stopping:
            working = worker.at_work() if worker is not None else _nothing()
            async with working:
                await _first(serving, stopping)
                parts.draining.begin()
                log.info("stopping: running changes are finished first")
            server.should_exit = True
            await serving


async def work_until_stopped(settings: Settings, database_url: str) -> None:
    """Works without HTTP until SIGTERM or SIGINT; then running changes are finished first."""
    async with _opened(settings, database_url) as (parts, queue):
        worker = Worker(settings, parts.database, queue, parts.metrics)
        with _stop_signals() as stopping:
            async with worker.at_work():
                await stopping.wait()
                log.info("stopping: running changes are finished first")


@asynccontextmanager
async def _opened(settings: Settings, database_url: str) -> AsyncIterator[tuple[Parts, procrastinate.App]]:
    database = Database(database_url)
    queue = queue_app(database_url)
    wakeups = WakeUps(queue)
    parts = Parts(
        settings=settings,
        database=database,
        wakeups=wakeups,
        jobs=Jobs(database, wakeups),
        keys=Keys(database),
        clusters=Clusters(database),
        vms=Vms(database),
        changes=Changes(database_url),
        metrics=Metrics(),
    )
    try:
        async with queue.open_async(), parts.changes:
            await parts.clusters.ensure(settings.clusters)
            yield parts, queue
    finally:
        await database.close()


async def _refuse_open_door(settings: Settings, keys: Keys) -> None:
    try:
        loopback = settings.host == "localhost" or ipaddress.ip_address(settings.host).is_loopback
    except ValueError:
        loopback = False
    if not loopback and not await keys.any_usable():
        message = f"There is no API key, so the service does not listen on {settings.host}."
        raise Fault(FaultCode.NO_KEY_YET, message)


class _Server(uvicorn.Server):
    """Signals are ours: uvicorn would close the port before the running changes are finished."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _uvicorn_config(settings: Settings, api: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        api,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_HTTP_GRACE_S,
    )


@contextmanager
def _stop_signals() -> Iterator[asyncio.Event]:
    """An event that the first SIGTERM or SIGINT sets; the second one acts as if nobody had asked for it."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()

    def stop() -> None:
        stopping.set()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        yield stopping
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


@asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield


async def _first(serving: asyncio.Task[None], stopping: asyncio.Event) -> None:
    """Until the server ended by itself (its port is taken, for example) or somebody asked to stop."""
    waiting = asyncio.create_task(stopping.wait())
    await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()

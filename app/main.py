"""The only place that builds the service's objects. What starts last stops first."""

import asyncio
import ipaddress
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from dataclasses import replace
from errno import EADDRINUSE
from typing import Any

import procrastinate
import structlog
import uvicorn
from fastapi import FastAPI

from app.api.application import create_api
from app.api.callers.authentication import Authenticator
from app.api.callers.oidc import Issuer
from app.api.callers.rate_limits import CallLimits
from app.api.documents.openapi_30 import SOMEWHERE, plain_document
from app.api.http.connection_limits import BoundedConnection
from app.api.http.dependencies import Services
from app.api.http.wait_slots import WaitSlots
from app.ngt.errors import Fault, FaultCode
from app.settings import Settings
from app.store.auto_renew import AutoRenewals
from app.store.callers.api_keys import Keys
from app.store.change_feed import ChangeFeed
from app.store.clusters.state import Clusters
from app.store.diagnosis import DiagnosisFacts
from app.store.inventory.pushed_certificates import PushedCertificates
from app.store.inventory.vms import Vms
from app.store.jobs.commands import Jobs
from app.store.jobs.events import JobEvents
from app.store.jobs.service_pause import Pauses
from app.store.jobs.slots import SlotRules
from app.store.postgres.database import Database
from app.store.postgres.queue import WakeUps, queue_app
from app.store.scans.queries import Scans
from app.store.webhooks.deliveries import Deliveries
from app.store.webhooks.outbox import Outbox
from app.telemetry.metrics import Metrics
from app.work.worker import Worker

__all__ = [
    "CannotListenError",
    "build_app",
    "openapi_document",
    "plain_openapi_document",
    "serve_until_stopped",
    "work_until_stopped",
]

log = structlog.get_logger(__name__)

# How long a client may take to fetch its answer after the last job was put down.
_HTTP_GRACE_S = 5


class CannotListenError(Exception):
    """The address that callers were to use cannot be had; the message is one sentence that says what to do."""


def build_app(settings: Settings, database_url: str) -> FastAPI:
    """The HTTP API without a worker, on a database that has this version's schema; it connects when it is started."""

    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[None]:
        async with _opened(settings, database_url) as (services, _):
            api.state.services = services
            yield
            services.draining.begin()

    return create_api(lifespan)


def openapi_document() -> dict[str, Any]:
    """The OpenAPI 3.1 document, without a database."""
    return create_api().openapi()


def plain_openapi_document(server_url: str = SOMEWHERE) -> dict[str, Any]:
    """The plain OpenAPI 3.0.3 document for importers; `server_url` is absolute."""
    return plain_document(openapi_document(), server_url)


async def serve_until_stopped(settings: Settings, database_url: str, *, with_worker: bool) -> None:
    """Serves HTTP, and works, until SIGTERM or SIGINT.

    Then `/readyz` says 503 while running changes are finished, and only after that the port is closed; a second signal
    ends it at once. Raises a Fault when the configuration would put a service without any key on the network, and
    CannotListenError when the port is taken.
    """
    async with AsyncExitStack() as stack:
        services, queue = await stack.enter_async_context(_opened(settings, database_url))
        await _refuse_open_door(settings, services.keys)
        # The port is taken before the worker begins anything that would have to be put down at once.
        listening = stack.enter_context(_listening(settings.host, settings.port))
        worker = Worker(settings, services.database, queue, services.metrics) if with_worker else None
        if worker is not None:
            services = replace(services, worker_alive=worker.is_alive)
        api = create_api()
        api.state.services = services
        server = _UvicornServer(_uvicorn_config(api, settings))
        serving = asyncio.create_task(server.serve([listening]), name="http")
        with _stop_signals() as stopping:
            working = worker.at_work() if worker is not None else _nothing()
            async with working:
                log.info("listening", url=_url_of(listening))
                await _first(serving, stopping)
                services.draining.begin()
                log.info("stopping: running changes are finished first")
            # Whoever waits is answered now; the server would wait for them until its limit.
            services.changes.end_watches()
            server.should_exit = True
            await serving


async def work_until_stopped(settings: Settings, database_url: str) -> None:
    """Works without HTTP until SIGTERM or SIGINT; then running changes are finished first."""
    async with _opened(settings, database_url) as (services, queue):
        worker = Worker(settings, services.database, queue, services.metrics)
        with _stop_signals() as stopping:
            async with worker.at_work():
                await stopping.wait()
                log.info("stopping: running changes are finished first")


def _slots_of(settings: Settings) -> dict[str, SlotRules]:
    return {
        name: SlotRules(cluster.max_running, cluster.one_until_proved) for name, cluster in settings.clusters.items()
    }


@asynccontextmanager
async def _opened(settings: Settings, database_url: str) -> AsyncIterator[tuple[Services, procrastinate.App]]:
    database = Database(database_url)
    queue = queue_app(database_url)
    wakeups = WakeUps(queue)
    jobs = Jobs(database, wakeups, Outbox(settings.webhooks))
    changes = ChangeFeed(database_url, jobs)
    keys = Keys(database)
    metrics = Metrics()
    issuer = None if settings.oidc is None else Issuer(settings.oidc)
    services = Services(
        settings=settings,
        database=database,
        wakeups=wakeups,
        jobs=jobs,
        job_events=JobEvents(database),
        keys=keys,
        logins=Authenticator(keys, issuer, CallLimits(settings.callers), metrics),
        clusters=Clusters(database),
        auto_renewals=AutoRenewals(database),
        pauses=Pauses(database, wakeups, _slots_of(settings)),
        deliveries=Deliveries(database),
        vms=Vms(database),
        scans=Scans(database, wakeups, changes),
        pushed_certificates=PushedCertificates(database, wakeups),
        diagnosis_facts=DiagnosisFacts(database),
        changes=changes,
        waiters=WaitSlots(settings.callers),
        metrics=metrics,
    )
    try:
        async with queue.open_async(), services.changes, issuer or nullcontext():
            await services.clusters.ensure(settings.clusters)
            yield services, queue
    finally:
        await database.close()


async def _refuse_open_door(settings: Settings, keys: Keys) -> None:
    try:
        loopback = settings.host == "localhost" or ipaddress.ip_address(settings.host).is_loopback
    except ValueError:
        loopback = False
    if not loopback and settings.oidc is None and not await keys.any_usable():
        message = f"There is no API key, so the service does not listen on {settings.host}."
        raise Fault(FaultCode.NO_KEY_YET, message)


class _UvicornServer(uvicorn.Server):
    """Signals are ours: uvicorn would close the port before the running changes are finished."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket bound to the first address that the name has; port 0 takes a free one."""
    where = f"{host} port {port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as wrong:
        raise CannotListenError(f"The service cannot listen on {where}: {_reason(wrong)}. Correct `host`.") from wrong
    with listening:
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            # Two may bind the same port, and only one may listen there.
            listening.listen()
        except OSError as wrong:
            taken = "End what listens there, or set another `port`."
            step = taken if wrong.errno == EADDRINUSE else "Correct `host` and `port`."
            raise CannotListenError(f"The service cannot listen on {where}: {_reason(wrong)}. {step}") from wrong
        yield listening


def _reason(wrong: OSError) -> str:
    # The numbers of name look-ups are not those of the system, and their own text is good.
    return str(wrong.strerror) if isinstance(wrong, socket.gaierror) else os.strerror(wrong.errno or 0)


def _url_of(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _uvicorn_config(api: FastAPI, settings: Settings) -> uvicorn.Config:
    trusted = [str(network) for network in settings.callers.trusted_proxies]
    return uvicorn.Config(
        api,
        # The command line has begun the loop already.
        loop="none",
        http=BoundedConnection,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(trusted),
        forwarded_allow_ips=trusted,
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

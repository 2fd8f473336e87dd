"""`serve` and `worker` as processes: sockets, signals and uvicorn."""

import asyncio
import ipaddress
import signal
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, nullcontext
from dataclasses import replace
from errno import EADDRINUSE

import structlog
import uvicorn
from fastapi import FastAPI

from app.api.application import create_api
from app.api.http.connection_limits import BoundedConnection
from app.main import open_services
from app.ngt.errors import Fault, FaultCode
from app.settings import Settings
from app.store.callers.api_keys import Keys
from app.work.worker import Worker

log = structlog.get_logger(__name__)

# Clients may take this long to read their answers after the last job was released.
_HTTP_GRACE_S = 5
_STOPPING = "stopping: running changes are finished first"


class CannotListenError(Exception):
    """The address of the service cannot be used; the message is one sentence that says what to do."""


async def serve_until_stopped(settings: Settings, database_url: str, *, with_worker: bool) -> None:
    """Serves HTTP, with or without a worker, until SIGTERM or SIGINT; a second signal ends the process at once.

    While the worker finishes running changes, `/readyz` answers 503; the port is closed after that. Raises a Fault
    when a service without any key would listen beyond loopback, and CannotListenError when the port is taken.
    """
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(open_services(settings, database_url))
        await _refuse_missing_key(settings, services.store.keys)
        # A taken port is reported before the worker claims any job.
        listening = stack.enter_context(_listening(settings.host, settings.port))
        worker = Worker(settings, services.store, services.metrics) if with_worker else None
        if worker is not None:
            services = replace(services, worker_alive=worker.is_alive)
        api = create_api()
        api.state.services = services
        server = _UvicornServer(_uvicorn_config(api, settings))
        serving = asyncio.create_task(server.serve([listening]), name="http")
        with _stop_signals() as stopping:
            async with worker.at_work() if worker is not None else nullcontext():
                log.info("listening", url=_url_of(listening))
                await _first(serving, stopping)
                services.draining.set()
                log.info(_STOPPING)
            # Ends the waits of callers, which the server would await until its limit.
            services.store.changes.end_watches()
            server.should_exit = True
            await serving


async def work_until_stopped(settings: Settings, database_url: str) -> None:
    """Runs a worker without HTTP until SIGTERM or SIGINT; then it finishes running changes."""
    async with open_services(settings, database_url) as services:
        worker = Worker(settings, services.store, services.metrics)
        with _stop_signals() as stopping:
            async with worker.at_work():
                await stopping.wait()
                log.info(_STOPPING)


async def _refuse_missing_key(settings: Settings, keys: Keys) -> None:
    try:
        loopback = settings.host == "localhost" or ipaddress.ip_address(settings.host).is_loopback
    except ValueError:
        loopback = False
    if not loopback and settings.oidc is None and not await keys.any_usable():
        message = f"There is no API key, so the service does not listen on {settings.host}."
        raise Fault(FaultCode.NO_KEY_YET, message)


class _UvicornServer(uvicorn.Server):
    """Leaves signals to us: uvicorn would close the port before the running changes are finished."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket on the first address of the host name; port 0 takes a free one."""
    where = f"{host} port {port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise CannotListenError(f"The service cannot listen on {where}: {error.strerror}. Correct `host`.") from error
    with listening:
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            # Two sockets may bind the same port, but only one may listen there.
            listening.listen()
        except OSError as error:
            taken = "Stop what listens there, or set another `port`."
            step = taken if error.errno == EADDRINUSE else "Correct `host` and `port`."
            raise CannotListenError(f"The service cannot listen on {where}: {error.strerror}. {step}") from error
        yield listening


def _url_of(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _uvicorn_config(api: FastAPI, settings: Settings) -> uvicorn.Config:
    trusted = [str(network) for network in settings.callers.trusted_proxies]
    return uvicorn.Config(
        api,
        # The command line has started the loop already.
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
    """An event that the first SIGTERM or SIGINT sets; the second one has its default effect."""
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


async def _first(serving: asyncio.Task[None], stopping: asyncio.Event) -> None:
    """Waits until the server has ended, or a signal has arrived."""
    waiting = asyncio.create_task(stopping.wait())
    await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()

"""Requests that wait: each takes a place before anything is started, and one whose client went away waits no longer."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager, ExitStack
from typing import Annotated, Any, TypeVar
from uuid import UUID

from fastapi import Depends, Query, Request
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from app.api.callers.authorization import CallerDep
from app.api.http.dependencies import Services, ServicesDep
from app.api.http.request_headers import LONGEST_WAIT_S, WaitPreference, read_wait
from app.store.change_feed import Subscription
from app.store.records.jobs import JobRecord
from app.store.records.scans import ScanRecord

T = TypeVar("T")
R = TypeVar("R", JobRecord, ScanRecord)


async def _acquire_slot(caller: CallerDep, services: ServicesDep) -> AsyncIterator[Callable[[], None]]:
    # FastAPI ends this when the answer was sent, or could not be: a stream has its place as long as it lasts.
    with ExitStack() as held:
        yield lambda: held.enter_context(services.waiters.acquire(caller.id))


WaitSlotDep = Annotated[Callable[[], None], Depends(_acquire_slot)]
"""To be called by an operation that is going to wait. Raises Fault `too-many-waits`."""


def _wait_dependency(purpose: str) -> object:
    description = f"{purpose}. Default 0; `Prefer: wait=N` says the same, and is cut to what is allowed"

    def begin_wait(
        request: Request,
        acquire_slot: WaitSlotDep,
        wait: Annotated[int | None, Query(ge=0, le=LONGEST_WAIT_S, description=description)] = None,
    ) -> WaitPreference:
        preference = read_wait(request, wait)
        if preference.seconds:
            acquire_slot()
        return preference

    return Depends(begin_wait)


# The seconds that a request waits. It has its slot, or is refused, before its operation begins.
WaitForEnd = Annotated[
    WaitPreference, _wait_dependency("Seconds to wait for the end of the job: done in time gives 200")
]
WaitForChange = Annotated[
    WaitPreference,
    _wait_dependency(
        "Seconds to wait for a change of the job after the version that `If-None-Match` names, "
        "else after the one of now"
    ),
]
WaitForScan = Annotated[WaitPreference, _wait_dependency("Seconds to wait for the end of the scan")]


async def wait_until(
    request: Request, watch: Subscription[R], record: R, enough: Callable[[R], bool], wait: WaitPreference
) -> R:
    """The record as soon as `enough` holds for it, at the latest when the wait is over; raises ClientDisconnect."""
    if not wait.seconds or enough(record):
        return record
    return await _unless_gone(request.receive, watch.until(record, enough, wait.seconds))


def is_done(record: JobRecord | ScanRecord) -> bool:
    return record.done


async def wait_until_done(request: Request, services: Services, job: JobRecord, wait: WaitPreference) -> JobRecord:
    """Wait for the end of a job that was read before its subscription began."""
    return await _watch_until_done(request, services.store.changes.watch, services.store.jobs.find, job, wait)


async def wait_for_scan(request: Request, services: Services, scan: ScanRecord, wait: WaitPreference) -> ScanRecord:
    """Wait for the end of a scan that was read before its subscription began."""
    return await _watch_until_done(request, services.store.scans.watch, services.store.scans.find, scan, wait)


async def _watch_until_done(
    request: Request,
    watch: Callable[[UUID], AbstractContextManager[Subscription[R]]],
    find: Callable[[UUID], Awaitable[R | None]],
    record: R,
    wait: WaitPreference,
) -> R:
    if not wait.seconds or record.done:
        return record
    with watch(record.id) as subscription:
        return await wait_until(request, subscription, await find(record.id) or record, is_done, wait)


async def _unless_gone(receive: Receive, waiting: Coroutine[Any, Any, T]) -> T:
    wait, gone = asyncio.create_task(waiting), asyncio.create_task(_gone(receive))
    try:
        await asyncio.wait({wait, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not wait.done():
            raise ClientDisconnect
        return wait.result()
    finally:
        wait.cancel()
        gone.cancel()
        await asyncio.gather(wait, gone, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

"""Requests that wait: each takes a place before anything is started, and one whose client went away waits no longer."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import ExitStack
from typing import Annotated, Any, TypeVar

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


async def _place(caller: CallerDep, services: ServicesDep) -> AsyncIterator[Callable[[], None]]:
    # FastAPI ends this when the answer was sent, or could not be: a stream has its place as long as it lasts.
    with ExitStack() as held:
        yield lambda: held.enter_context(services.waiters.place(caller.id))


WaitSlotDep = Annotated[Callable[[], None], Depends(_place)]
"""To be called by an operation that is going to wait. Raises Fault `too-many-waits`."""

_PREFER = "Default 0; `Prefer: wait=N` says the same, and is cut to what is allowed"
_FOR_END = f"Seconds to wait for the end of the job: done in time gives 200. {_PREFER}"
_FOR_CHANGE = (
    "Seconds to wait for a change of the job after the version that `If-None-Match` names, else after the one of now. "
    f"{_PREFER}"
)


def _for_end(
    request: Request,
    take_place: WaitSlotDep,
    wait: Annotated[int | None, Query(ge=0, le=LONGEST_WAIT_S, description=_FOR_END)] = None,
) -> WaitPreference:
    return _begin(request, take_place, wait)


def _for_change(
    request: Request,
    take_place: WaitSlotDep,
    wait: Annotated[int | None, Query(ge=0, le=LONGEST_WAIT_S, description=_FOR_CHANGE)] = None,
) -> WaitPreference:
    return _begin(request, take_place, wait)


def _for_scan(
    request: Request,
    take_place: WaitSlotDep,
    wait: Annotated[
        int | None, Query(ge=0, le=LONGEST_WAIT_S, description=f"Seconds to wait for the end of the scan. {_PREFER}")
    ] = None,
) -> WaitPreference:
    return _begin(request, take_place, wait)


def _begin(request: Request, take_place: Callable[[], None], asked_s: int | None) -> WaitPreference:
    wait = read_wait(request, asked_s)
    if wait.seconds:
        take_place()
    return wait


WaitForEnd = Annotated[WaitPreference, Depends(_for_end)]
"""How long the request waits for the end of a job. It has its place, or was refused, before its operation begins."""

WaitForChange = Annotated[WaitPreference, Depends(_for_change)]
"""The same for the next change of a job."""

WaitForScan = Annotated[WaitPreference, Depends(_for_scan)]
"""The same for the end of a scan."""


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
    """The same for the end of a job that was read, or stored, before anybody watched it."""
    if not wait.seconds or job.done:
        return job
    with services.store.changes.watch(job.id) as watch:
        now = await services.store.jobs.find(job.id) or job
        return await wait_until(request, watch, now, is_done, wait)


async def wait_for_scan(request: Request, services: Services, scan: ScanRecord, wait: WaitPreference) -> ScanRecord:
    """The same for the end of a scan."""
    if not wait.seconds or scan.done:
        return scan
    with services.store.scans.watch(scan.id) as watch:
        now = await services.store.scans.find(scan.id) or scan
        return await wait_until(request, watch, now, is_done, wait)


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

"""Reading the certificates of many guests: so many at a time, each with its time limit, none holding up the others.

What one guest does, or does not do, is a fact about that guest and ends nothing.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from app.ngt.errors import Fault, FaultCode
from app.ngt.vocabulary import Certificate, VmRecord
from app.settings import GuestSettings, ScanSettings
from app.ssh.guest import read_guest
from app.ssh.host import Host
from app.ssh.pool import Pool
from app.work.clusters.database_clock import DatabaseClock

# What was read is stored so many at a time: little is lost when the reader dies, and little is written.
_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class AskedGuest:
    """A guest that is configured, and how to log in there."""

    vm: VmRecord
    settings: GuestSettings
    host: Host


@dataclass(frozen=True, slots=True)
class GuestRead:
    """What a guest showed at `at`: its certificate and the entity that its files name, or why it showed none."""

    vm: VmRecord
    at: datetime
    certificate: Certificate | None = None
    ngt_uuid: str | None = None
    fault: Fault | None = None


async def read_guests(
    asked: Sequence[AskedGuest],
    pool: Pool,
    scan: ScanSettings,
    clock: DatabaseClock,
    store: Callable[[Sequence[GuestRead]], Awaitable[None]],
) -> None:
    """Reads all of them, and has what came in stored, some hundred at a time."""
    waiting = deque(asked)
    at_work: set[asyncio.Task[GuestRead]] = set()
    read: list[GuestRead] = []
    try:
        while waiting or at_work:
            while waiting and len(at_work) < scan.guests_at_once:
                reading = _read(waiting.popleft(), pool, scan.guest_timeout_s, clock)
                at_work.add(asyncio.create_task(reading))
            done, at_work = await asyncio.wait(at_work, return_when=asyncio.FIRST_COMPLETED)
            read += [reading.result() for reading in done]
            if len(read) >= _AT_ONCE or not (waiting or at_work):
                await store(read)
                read = []
    finally:
        for left in at_work:
            left.cancel()
        await asyncio.gather(*at_work, return_exceptions=True)


async def _read(guest: AskedGuest, pool: Pool, timeout_s: float, clock: DatabaseClock) -> GuestRead:
    # What happens in the guest from now on is perhaps not shown.
    at = clock.now()
    try:
        async with asyncio.timeout(timeout_s):
            reading = await read_guest(
                pool,
                guest.host,
                read_certificate=guest.settings.read_certificate,
                read_config=guest.settings.read_config,
                timeout_s=timeout_s,
            )
    except TimeoutError:
        message = f"guest {guest.host.name} did not answer within {timeout_s:g} s"
        return GuestRead(guest.vm, at, fault=Fault(FaultCode.GUEST_NOT_REACHED, message))
    except Fault as fault:
        return GuestRead(guest.vm, at, fault=fault)
    if reading.fault is not None:
        return GuestRead(guest.vm, at, fault=reading.fault)
    return GuestRead(guest.vm, at, reading.certificate, reading.ngt_uuid)

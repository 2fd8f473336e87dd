"""Reading the certificates of many guests: so many at a time, each with its time limit, none holding up the others.

What one guest does, or does not do, is a fact about that guest and ends nothing.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from app.ngt.errors import Fault, FaultCode
from app.ngt.masking import mask
from app.ngt.tools.certificate import read_certificate
from app.ngt.tools.guest_config import read_guest_config
from app.ngt.vocabulary import Certificate, VmRecord
from app.settings import GuestSettings, ScanSettings
from app.ssh.guest import GuestReading, read_guest
from app.ssh.host import Host
from app.ssh.pool import Pool
from app.work.clusters.database_clock import DatabaseClock

# What was read is stored so many at a time: little is lost when the reader dies, and little is written.
_AT_ONCE = 200
_SHOWN_CHARACTERS = 300


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
        certificate = _certificate_of(reading)
    except TimeoutError:
        message = f"guest {guest.host.name} did not answer within {timeout_s:g} s"
        return GuestRead(guest.vm, at, fault=Fault(FaultCode.GUEST_NOT_REACHED, message))
    except Fault as fault:
        return GuestRead(guest.vm, at, fault=fault)
    named = read_guest_config(reading.config_text) if reading.config_text is not None else None
    return GuestRead(guest.vm, at, certificate, named)


def _certificate_of(reading: GuestReading) -> Certificate:
    if reading.certificate_pem is None:
        answer = reading.certificate_answer
        said = (answer.stderr.strip() or answer.stdout.strip() or f"status {answer.exit_status}")[:_SHOWN_CHARACTERS]
        raise Fault(FaultCode.GUEST_CERTIFICATE_MISSING, f"guest {reading.address}: no certificate: {mask(said)}")
    try:
        return read_certificate(reading.certificate_pem)
    except Fault as unreadable:
        message = f"guest {reading.address}: its certificate cannot be read: {unreadable.message}"
        raise Fault(FaultCode.UNEXPECTED_OUTPUT, message) from None

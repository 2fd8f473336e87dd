"""Reads the certificates of many guests: a limited number at a time, each with its time limit.

A failure of one guest is stored as a fact about that guest and ends nothing.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from app.ngt.errors import Fault, FaultCode
from app.ngt.inventory import names_another_entity, owner_of
from app.ngt.vocabulary import Certificate, CertificateSource, VmRecord, VmUuid
from app.settings import GuestSettings, ScanSettings
from app.ssh.guest import read_guest
from app.ssh.host import Host
from app.ssh.pool import Pool
from app.store.inventory.scan_results import GuestFault
from app.store.records.inventory import Observation
from app.work.clusters.database_clock import DatabaseClock

# Results are stored in groups: a crash loses little, and there are few writes.
_STORED_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class AskedGuest:
    """A guest that is configured, and its login."""

    vm: VmRecord
    settings: GuestSettings
    host: Host


@dataclass(frozen=True, slots=True)
class GuestRead:
    """The facts of a guest at `at`: its certificate and the entity that its files name, or the fault."""

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
    """Reads all guests, and stores the results some hundred at a time."""
    waiting = deque(asked)
    reading: set[asyncio.Task[GuestRead]] = set()
    read: list[GuestRead] = []
    try:
        while waiting or reading:
            while waiting and len(reading) < scan.guests_at_once:
                reading.add(asyncio.create_task(_read(waiting.popleft(), pool, scan.guest_timeout_s, clock)))
            done, reading = await asyncio.wait(reading, return_when=asyncio.FIRST_COMPLETED)
            read += [task.result() for task in done]
            if len(read) >= _STORED_AT_ONCE or not (waiting or reading):
                await store(read)
                read = []
    finally:
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)


async def _read(guest: AskedGuest, pool: Pool, timeout_s: float, clock: DatabaseClock) -> GuestRead:
    # The files may omit later changes of the guest.
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


def observation_of(read: GuestRead) -> Observation:
    assert read.certificate is not None
    return Observation(read.vm.vm_uuid, CertificateSource.GUEST_CERTIFICATE, read.at, **asdict(read.certificate))


def guest_fault_of(read: GuestRead, entities: Mapping[VmUuid, str | None]) -> GuestFault | None:
    """The reason why the VM's certificate is not known, also where the guest showed the certificate of another VM."""
    fault = read.fault
    entity = entities.get(read.vm.vm_uuid)
    named = f"the guest at {', '.join(read.vm.addresses)} names the VM tools entity {read.ngt_uuid}, and that"
    if fault is None and names_another_entity(read.ngt_uuid, entity):
        message = f"{named} of VM {read.vm.name!r} is {entity}: its certificate is another VM's, or an earlier one's"
        fault = Fault(FaultCode.GUEST_NAMES_ANOTHER_ENTITY, message)
    elif fault is None and entity is None and (owner := owner_of(read.ngt_uuid, entities)) is not None:
        message = f"{named} is of VM {owner}: its certificate is not that of VM {read.vm.name!r}"
        fault = Fault(FaultCode.GUEST_NAMES_ANOTHER_ENTITY, message)
    return None if fault is None else GuestFault(read.vm.vm_uuid, fault.code, fault.message, read.at)

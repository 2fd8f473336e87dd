"""The scan of a cluster, readable from top to bottom: its listing, its tools' entities, its guests, the end.

A scan only looks. Whatever dies, what is stored is true, and another worker does all of it again. A cluster that is
silent, or answers half, keeps its old rows and says so.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import structlog

from app.ngt.errors import Fault, FaultCode
from app.ngt.inventory import is_worth_asking, names_another_entity, refuse_empty_query
from app.ngt.vocabulary import VmRecord, VmUuid
from app.settings import ScanSettings
from app.ssh.pool import Pool
from app.store.clusters.cvms import Cvms
from app.store.inventory.scan_results import GuestFault, Inventory
from app.store.records.claims import FenceLost
from app.store.records.scans import ScanCounts, ScanOutcome
from app.store.scans.claims import ScanClaim, ScanClaims, ScanEnd
from app.work.clusters.client import ClusterClient, Listing
from app.work.clusters.database_clock import DatabaseClock
from app.work.clusters.rules import guest_host
from app.work.scans.guests import AskedGuest, GuestRead, read_guests
from app.work.scans.snapshot import ClusterSnapshot, guest_fault_of, observation_of, with_entities, without_entities

log = structlog.get_logger(__name__)

# A listing that somebody else has just read will do for one VM.
_LISTING_MAX_AGE_S = 60.0
# A scan that ends its worker each time must not end all of them one after the other, for ever.
_MOST_BEGINNINGS = 10


class Scanner:
    """Runs the scans of one process. `run` may be called at the same time for many scans."""

    def __init__(
        self,
        running: ScanClaims,
        inventory: Inventory,
        cvms: Cvms,
        clusters: Mapping[str, ClusterClient],
        guests: Pool,
        settings: ScanSettings,
    ) -> None:
        self._running = running
        self._inventory = inventory
        self._cvms = cvms
        self._clusters = clusters
        self._guests = guests
        self._settings = settings
        self._draining = False
        self._at_work: set[asyncio.Task[None]] = set()

    def drain(self) -> None:
        """Every scan that is under way is put back now, and none is begun any more."""
        self._draining = True
        for task in self._at_work:
            task.cancel()

    async def run(self, scan_id: UUID) -> None:
        """Does the scan. Does nothing when it is done or somebody else has it."""
        if self._draining or (claim := await self._running.claim(scan_id)) is None:
            return
        with structlog.contextvars.bound_contextvars(scan_id=str(scan_id), cluster=claim.cluster):
            try:
                await self._run(claim)
            except FenceLost:
                log.info("another runner took the scan over")
            finally:
                self._running.let_go(claim)

    async def _run(self, claim: ScanClaim) -> None:
        scanning = asyncio.create_task(self._scan(claim))
        self._at_work.add(scanning)
        try:
            await scanning
        except asyncio.CancelledError:
            await self._running.put_back(claim, "the service stopped; the scan begins anew")
            if not self._draining:
                raise
        except (FenceLost, Fault):
            # The database went away: the lease runs out, and the sweep of any replica finds the scan again.
            raise
        except Exception:
            log.exception("the scan failed")
            broken = Fault(FaultCode.INTERNAL_ERROR, "The scan failed through a fault of this service.")
            await self._inventory.finish(claim, _failed(broken))
        finally:
            self._at_work.discard(scanning)

    async def _scan(self, claim: ScanClaim) -> None:
        clock = DatabaseClock(claim.now)
        try:
            cluster = self._cluster_of(claim)
            look = await self._look(cluster, claim, clock)
        except _NothingSeen as nothing:
            await self._tell_of_cvms(claim.cluster, clock)
            return await self._finish(claim, clock, _failed(nothing.fault))
        await self._tell_of_cvms(claim.cluster, clock)
        stored = await self._inventory.store(claim, look.seen)
        asked, failed = await self._read_guests(cluster, claim, look, clock)
        counts = ScanCounts(
            vms_seen=len(look.vms),
            vms_new=stored.new,
            vms_vanished=stored.vanished,
            dates_seen=len(look.seen.dates) if look.query_fault is None else None,
            guests_asked=asked,
            guests_failed=failed,
        )
        outcome = ScanOutcome.COMPLETE if look.query_fault is None else ScanOutcome.PARTIAL
        end = ScanEnd(outcome, _message(claim, counts, look.query_fault), counts, look.query_fault)
        return await self._finish(claim, clock, end, look.seen.at)

    def _cluster_of(self, claim: ScanClaim) -> ClusterClient:
        cluster = self._clusters.get(claim.cluster)
        if cluster is None:
            message = f"There is no cluster {claim.cluster!r} in the configuration any more."
            raise _NothingSeen(Fault(FaultCode.CLUSTER_NOT_FOUND, message))
        if claim.fence > _MOST_BEGINNINGS:
            message = f"The scan was begun {_MOST_BEGINNINGS} times, and its worker ended each time."
            raise _NothingSeen(Fault(FaultCode.INTERNAL_ERROR, message))
        return cluster

    # Looking.

    async def _look(self, cluster: ClusterClient, claim: ScanClaim, clock: DatabaseClock) -> ClusterSnapshot:
        """One listing and one query, however many VMs. Raises _NothingSeen."""
        try:
            listing = await _listing_for(cluster, claim.vm_uuid)
            vms = _wanted_of(listing, claim)
        except Fault as silent:
            raise _NothingSeen(silent) from silent
        if not listing.vms and await self._inventory.has_vms(cluster.name):
            message = f"ncli on {listing.cvm} lists no VM at all, not even a controller VM."
            raise _NothingSeen(Fault(FaultCode.UNEXPECTED_OUTPUT, message))
        known = await self._inventory.known_entities(cluster.name)
        try:
            query = await cluster.query([vm.vm_uuid for vm in vms])
            refuse_empty_query(vms, query.entities, query.other_count, known)
        except Fault as fault:
            return without_entities(listing, vms, claim, fault, known, clock)
        return with_entities(listing, vms, claim, query, clock)

    async def _tell_of_cvms(self, name: str, clock: DatabaseClock) -> None:
        cluster = self._clusters.get(name)
        if cluster is not None:
            await self._cvms.store(name, cluster.ssh.states(clock.at))

    # Guests.

    def _guest_of(self, cluster: ClusterClient, vm: VmRecord, look: ClusterSnapshot) -> AskedGuest | None:
        if not is_worth_asking(vm, has_entity=look.has_entity(vm.vm_uuid)):
            return None
        found = cluster.settings.guest_for(vm.name, vm.addresses)
        return None if found is None else AskedGuest(vm, found[0], guest_host(*found))

    async def _read_guests(
        self, cluster: ClusterClient, claim: ScanClaim, look: ClusterSnapshot, clock: DatabaseClock
    ) -> tuple[int, int]:
        """How many guests were asked, and of how many of them the certificate is not known."""
        asked = [guest for vm in look.vms if (guest := self._guest_of(cluster, vm, look)) is not None]
        if not asked:
            return 0, 0
        await self._running.say(claim, f"asks {_many(len(asked), 'guest')} for their certificates")
        faults: list[GuestFault] = []

        async def store(read: Sequence[GuestRead]) -> None:
            entities = await self._entities_now(cluster, look, read)
            failed = [fault for one in read if (fault := guest_fault_of(one, entities)) is not None]
            faulty = {fault.vm_uuid for fault in failed}
            observed = [observation_of(one) for one in read if one.vm.vm_uuid not in faulty]
            await self._inventory.store_guests(claim, observed, failed)
            faults.extend(failed)

        await read_guests(asked, self._guests, self._settings, clock, store)
        return len(asked), len(faults)

    async def _entities_now(
        self, cluster: ClusterClient, look: ClusterSnapshot, read: Sequence[GuestRead]
    ) -> Mapping[VmUuid, str | None]:
        """The entity of each VM; a VM whose guest names another one may have been renewed since the look."""
        differing = [
            one.vm.vm_uuid for one in read if names_another_entity(one.ngt_uuid, look.entities.get(one.vm.vm_uuid))
        ]
        if not differing:
            return look.entities
        try:
            query = await cluster.query(differing)
        except Fault:
            return look.entities
        return {**look.entities, **{vm_uuid: entity.ngt_uuid for vm_uuid, entity in query.entities.items()}}

    # The end.

    async def _finish(
        self, claim: ScanClaim, clock: DatabaseClock, end: ScanEnd, looked_at: datetime | None = None
    ) -> None:
        await self._inventory.finish(claim, end, looked_at)
        seconds = round((clock.now() - claim.now).total_seconds(), 1)
        code = None if end.fault is None else end.fault.code
        tell = log.info if end.fault is None else log.warning
        tell("the scan ended", outcome=end.outcome, message=end.message, error_code=code, seconds=seconds)


class _NothingSeen(Exception):
    """The cluster showed nothing that could be stored."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


async def _listing_for(cluster: ClusterClient, vm_uuid: VmUuid | None) -> Listing:
    """One for all VMs. That one VM is absent is believed only of a listing that was read for it."""
    if vm_uuid is not None:
        listing = await cluster.listing(max_age_s=_LISTING_MAX_AGE_S)
        if vm_uuid in listing.vms:
            return listing
    return await cluster.listing(max_age_s=0.0)


def _wanted_of(listing: Listing, claim: ScanClaim) -> list[VmRecord]:
    """The VMs that the scan is about; of one VM that is not there, none. Raises Fault `controller-vm`."""
    if claim.vm_uuid is None:
        return sorted((vm for vm in listing.vms.values() if not vm.controller_vm), key=lambda vm: vm.vm_uuid)
    vm = listing.vms.get(claim.vm_uuid)
    if vm is not None and vm.controller_vm:
        raise Fault(FaultCode.CONTROLLER_VM, f"VM {vm.name!r} is a controller VM: it has no NGT certificate.")
    return [] if vm is None else [vm]


def _failed(fault: Fault) -> ScanEnd:
    return ScanEnd(ScanOutcome.FAILED, f"nothing was stored, what was known stays: {fault.message}", fault=fault)


def _message(claim: ScanClaim, counts: ScanCounts, query_fault: Fault | None) -> str:
    if claim.vm_uuid is not None and not counts.vms_seen:
        return f"VM {claim.vm_uuid} is not on {claim.cluster}"
    said = [f"{_many(counts.vms_seen or 0, 'VM')} seen, {counts.vms_new} new, {counts.vms_vanished} gone"]
    if query_fault is None:
        said.append(f"the cluster tells the certificate's date of {counts.dates_seen}")
    else:
        said.append(f"what was known of certificates stays, as the cluster did not tell of them: {query_fault.message}")
    if counts.guests_asked:
        told = counts.guests_asked - (counts.guests_failed or 0)
        said.append(f"{told} of {_many(counts.guests_asked, 'guest')} showed a certificate")
    return "; ".join(said)


def _many(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"

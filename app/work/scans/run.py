"""The scan of a cluster, step by step: its listing, its tools' entities, its guests, the end.

A scan changes nothing on a cluster. After a crash all stored data is true, and another worker scans again. When a
cluster is silent or answers in part, its stored data stays and the scan says so.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import structlog

from app.ngt.errors import Fault, FaultCode
from app.ngt.inventory import is_worth_asking, names_another_entity
from app.ngt.vocabulary import VmRecord, VmUuid
from app.settings import ScanSettings
from app.ssh.pool import Pool
from app.store.clusters.cvms import Cvms
from app.store.inventory.scan_results import GuestFault, Inventory
from app.store.records.claims import FenceLost
from app.store.records.scans import ScanCounts
from app.store.scans.claims import ScanClaim, ScanClaims, ScanEnd
from app.work.clusters.client import ClusterClient
from app.work.clusters.database_clock import DatabaseClock
from app.work.clusters.rules import guest_host
from app.work.scans.guests import AskedGuest, GuestRead, guest_fault_of, observation_of, read_guests
from app.work.scans.outcome import count_of, ended_scan, failed_scan
from app.work.scans.snapshot import ClusterSnapshot, NothingSeen, take_snapshot

log = structlog.get_logger(__name__)

# A scan that ends its worker each time must not end all workers in turn.
_MOST_BEGINNINGS = 10


class Scanner:
    """Runs the scans of one process. `run` may be called concurrently for many scans."""

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
        self._scanning: set[asyncio.Task[None]] = set()

    def drain(self) -> None:
        """Releases every running scan now, and begins no further one."""
        self._draining = True
        for task in self._scanning:
            task.cancel()

    async def run(self, scan_id: UUID) -> None:
        """Does nothing when the scan has ended or another worker runs it."""
        if self._draining or (claim := await self._running.claim(scan_id)) is None:
            return
        with structlog.contextvars.bound_contextvars(scan_id=str(scan_id), cluster=claim.cluster):
            try:
                await self._run(claim)
            except FenceLost:
                log.info("another worker runs the scan now")
            finally:
                self._running.stop_heartbeat(claim)

    async def _run(self, claim: ScanClaim) -> None:
        scanning = asyncio.create_task(self._scan(claim))
        self._scanning.add(scanning)
        try:
            await scanning
        except asyncio.CancelledError:
            await self._running.release(claim, "the service stopped; the scan begins anew")
            if not self._draining:
                raise
        except (FenceLost, Fault):
            # The database is unavailable: the lease expires, and the sweep of any replica finds the scan again.
            raise
        except Exception:
            log.exception("the scan failed")
            broken = Fault(FaultCode.INTERNAL_ERROR, "The scan failed because of a fault of this service.")
            await self._inventory.finish(claim, failed_scan(broken))
        finally:
            self._scanning.discard(scanning)

    async def _scan(self, claim: ScanClaim) -> None:
        clock = DatabaseClock(claim.now)
        try:
            cluster = self._cluster_of(claim)
            snapshot = await take_snapshot(cluster, claim, self._inventory, clock)
        except NothingSeen as nothing:
            await self._store_cvm_states(claim.cluster, clock)
            return await self._finish(claim, clock, failed_scan(nothing.fault))
        await self._store_cvm_states(claim.cluster, clock)
        stored = await self._inventory.store(claim, snapshot.result)
        asked, failed = await self._read_guests(cluster, claim, snapshot, clock)
        counts = ScanCounts(
            vms_seen=len(snapshot.vms),
            vms_new=stored.new,
            vms_vanished=stored.vanished,
            dates_seen=len(snapshot.result.dates) if snapshot.query_fault is None else None,
            guests_asked=asked,
            guests_failed=failed,
        )
        return await self._finish(claim, clock, ended_scan(claim, counts, snapshot.query_fault), snapshot.result.at)

    def _cluster_of(self, claim: ScanClaim) -> ClusterClient:
        cluster = self._clusters.get(claim.cluster)
        if cluster is None:
            message = f"Cluster {claim.cluster!r} is not in the configuration any more."
            raise NothingSeen(Fault(FaultCode.CLUSTER_NOT_FOUND, message))
        if claim.fence > _MOST_BEGINNINGS:
            message = f"The scan began {_MOST_BEGINNINGS} times, and its worker ended each time."
            raise NothingSeen(Fault(FaultCode.INTERNAL_ERROR, message))
        return cluster

    async def _store_cvm_states(self, name: str, clock: DatabaseClock) -> None:
        cluster = self._clusters.get(name)
        if cluster is not None:
            await self._cvms.store(name, cluster.ssh.states(clock.at))

    def _guest_of(self, cluster: ClusterClient, vm: VmRecord, snapshot: ClusterSnapshot) -> AskedGuest | None:
        if not is_worth_asking(vm, has_entity=snapshot.has_entity(vm.vm_uuid)):
            return None
        found = cluster.settings.guest_for(vm.name, vm.addresses)
        return None if found is None else AskedGuest(vm, found[0], guest_host(*found))

    async def _read_guests(
        self, cluster: ClusterClient, claim: ScanClaim, snapshot: ClusterSnapshot, clock: DatabaseClock
    ) -> tuple[int, int]:
        """The number of guests asked, and of those whose certificate is not known."""
        asked = [guest for vm in snapshot.vms if (guest := self._guest_of(cluster, vm, snapshot)) is not None]
        if not asked:
            return 0, 0
        await self._running.show_progress(claim, f"reads the certificates of {count_of(len(asked), 'guest')}")
        faults: list[GuestFault] = []

        async def store(read: Sequence[GuestRead]) -> None:
            entities = await self._entities_now(cluster, snapshot, read)
            failed = [fault for one in read if (fault := guest_fault_of(one, entities)) is not None]
            faulty = {fault.vm_uuid for fault in failed}
            observed = [observation_of(one) for one in read if one.vm.vm_uuid not in faulty]
            await self._inventory.store_guests(claim, observed, failed)
            faults.extend(failed)

        await read_guests(asked, self._guests, self._settings, clock, store)
        return len(asked), len(faults)

    async def _entities_now(
        self, cluster: ClusterClient, snapshot: ClusterSnapshot, read: Sequence[GuestRead]
    ) -> Mapping[VmUuid, str | None]:
        """The entity of each VM; a VM whose guest names another entity may have been renewed since the snapshot."""
        differing = [
            one.vm.vm_uuid for one in read if names_another_entity(one.ngt_uuid, snapshot.entities.get(one.vm.vm_uuid))
        ]
        if not differing:
            return snapshot.entities
        try:
            query = await cluster.query(differing)
        except Fault:
            return snapshot.entities
        return {**snapshot.entities, **{vm_uuid: entity.ngt_uuid for vm_uuid, entity in query.entities.items()}}

    async def _finish(
        self, claim: ScanClaim, clock: DatabaseClock, end: ScanEnd, looked_at: datetime | None = None
    ) -> None:
        await self._inventory.finish(claim, end, looked_at)
        seconds = round((clock.now() - claim.now).total_seconds(), 1)
        code = None if end.fault is None else end.fault.code
        tell = log.info if end.fault is None else log.warning
        tell("the scan ended", outcome=end.outcome, message=end.message, error_code=code, seconds=seconds)

"""The snapshot of a cluster: one listing and one query, however many VMs, as the values that the store takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from app.ngt.errors import Fault, FaultCode
from app.ngt.inventory import ngt_state_of, refuse_empty_query
from app.ngt.vocabulary import CertificateSource, PowerState, VmRecord, VmToolsEntity, VmUuid
from app.store.inventory.scan_results import Inventory, ScannedVm, ScanResult
from app.store.records.inventory import Observation
from app.store.scans.claims import ScanClaim
from app.work.clusters.client import ClusterClient, Listing, Query
from app.work.clusters.database_clock import DatabaseClock

# The scan of one VM accepts a listing that another caller has just read.
_LISTING_MAX_AGE_S = 60.0


@dataclass(frozen=True, slots=True)
class ClusterSnapshot:
    """The VMs of a cluster. `entities`: the id of each VM's entity, from an earlier scan where the query failed."""

    result: ScanResult
    vms: Sequence[VmRecord]
    entities: Mapping[VmUuid, str | None]
    query_fault: Fault | None

    def has_entity(self, vm_uuid: VmUuid) -> bool | None:
        return vm_uuid in self.entities if self.query_fault is None else None


class NothingSeen(Exception):
    """The cluster showed nothing that can be stored."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


async def take_snapshot(
    cluster: ClusterClient, claim: ScanClaim, inventory: Inventory, clock: DatabaseClock
) -> ClusterSnapshot:
    """Raises NothingSeen when the listing fails; a failed query gives a snapshot with its fault."""
    try:
        listing = await _listing_for(cluster, claim.vm_uuid)
        vms = _scanned_vms(listing, claim)
    except Fault as silent:
        raise NothingSeen(silent) from silent
    if not listing.vms and await inventory.has_vms(cluster.name):
        message = f"ncli on {listing.cvm} lists no VM at all, not even a controller VM."
        raise NothingSeen(Fault(FaultCode.UNEXPECTED_OUTPUT, message))
    known = await inventory.known_entities(cluster.name)
    absent = None if claim.vm_uuid is None else [] if vms else [claim.vm_uuid]
    try:
        query = await cluster.query([vm.vm_uuid for vm in vms])
        refuse_empty_query(vms, query.entities, query.other_count, known)
    except Fault as fault:
        unknown = [_scanned_vm(vm, None, has_entity=None) for vm in vms]
        result = ScanResult(clock.at(listing.asked_s), unknown, has_entities=False, absent=absent)
        return ClusterSnapshot(result, vms, known, fault)
    found = query.entities
    # The listing that has the one VM may be older than its last scan; the query is not.
    asked_s = query.asked_s if claim.vm_uuid is not None and vms else listing.asked_s
    scanned = [_scanned_vm(vm, found.get(vm.vm_uuid), has_entity=vm.vm_uuid in found) for vm in vms]
    result = ScanResult(clock.at(asked_s), scanned, has_entities=True, absent=absent, dates=_dates(query, clock))
    return ClusterSnapshot(result, vms, {vm_uuid: entity.ngt_uuid for vm_uuid, entity in found.items()}, None)


async def _listing_for(cluster: ClusterClient, vm_uuid: VmUuid | None) -> Listing:
    """One VM counts as absent only when a listing that was read for it omits it."""
    if vm_uuid is not None:
        listing = await cluster.listing(max_age_s=_LISTING_MAX_AGE_S)
        if vm_uuid in listing.vms:
            return listing
    return await cluster.listing(max_age_s=0.0)


def _scanned_vms(listing: Listing, claim: ScanClaim) -> list[VmRecord]:
    """All guest VMs, or the one VM of the scan if it is listed. Raises Fault `controller-vm`."""
    if claim.vm_uuid is None:
        return sorted((vm for vm in listing.vms.values() if not vm.controller_vm), key=lambda vm: vm.vm_uuid)
    vm = listing.vms.get(claim.vm_uuid)
    if vm is not None and vm.controller_vm:
        raise Fault(FaultCode.CONTROLLER_VM, f"VM {vm.name!r} is a controller VM: it has no NGT certificate.")
    return [] if vm is None else [vm]


def _scanned_vm(vm: VmRecord, entity: VmToolsEntity | None, *, has_entity: bool | None) -> ScannedVm:
    state = ngt_state_of(vm, entity)
    return ScannedVm(
        vm_uuid=vm.vm_uuid,
        name=vm.name,
        power=None if vm.power is PowerState.UNKNOWN else vm.power,
        addresses=vm.addresses,
        ngt_enabled=state.enabled,
        iso_mounted=state.iso_mounted,
        link_active=state.link_active,
        vss_snapshot=state.vss_snapshot,
        file_level_restore=state.file_level_restore,
        communication_type=None if entity is None else entity.communication_type,
        ngt_uuid=None if entity is None else entity.ngt_uuid,
        has_entity=has_entity,
    )


def _dates(query: Query, clock: DatabaseClock) -> list[Observation]:
    at = clock.at(query.asked_s)
    source = CertificateSource.CVM_EXPIRY_DATE
    return [
        Observation(vm_uuid, source, at, datetime.fromtimestamp(entity.client_cert_expiry_date, UTC))
        for vm_uuid, entity in sorted(query.entities.items())
        if entity.client_cert_expiry_date is not None
    ]

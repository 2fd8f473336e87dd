"""What a look at a cluster showed, and what its guests did, as it is stored: facts in, values of the store out."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from app.ngt.errors import Fault, FaultCode
from app.ngt.inventory import names_another_entity, ngt_state_of, owner_of
from app.ngt.vocabulary import CertificateSource, PowerState, VmRecord, VmToolsEntity, VmUuid
from app.store.inventory.scan_results import GuestFault, ScannedVm, ScanResult
from app.store.records.inventory import Observation
from app.store.scans.claims import ScanClaim
from app.work.clusters.client import Listing, Query
from app.work.clusters.database_clock import DatabaseClock
from app.work.scans.guests import GuestRead


@dataclass(frozen=True, slots=True)
class ClusterSnapshot:
    """What the cluster showed. `entities`: the id of each VM's entity, of an earlier look where there was no answer."""

    seen: ScanResult
    vms: Sequence[VmRecord]
    entities: Mapping[VmUuid, str | None]
    query_fault: Fault | None

    def has_entity(self, vm_uuid: VmUuid) -> bool | None:
        return vm_uuid in self.entities if self.query_fault is None else None


def with_entities(
    listing: Listing, vms: Sequence[VmRecord], claim: ScanClaim, query: Query, clock: DatabaseClock
) -> ClusterSnapshot:
    """The VMs that the scan is about, as both the listing and the query show them."""
    found = query.entities
    # The listing that one VM was found in may be older than the last look at it; what the query shows is not.
    asked_s = query.asked_s if claim.vm_uuid is not None and vms else listing.asked_s
    seen = ScanResult(
        at=clock.at(asked_s),
        vms=[_seen_vm(vm, found.get(vm.vm_uuid), has_entity=vm.vm_uuid in found) for vm in vms],
        has_entities=True,
        absent=_absent_of(claim, vms),
        dates=_dates(query, clock),
    )
    return ClusterSnapshot(seen, vms, {vm_uuid: entity.ngt_uuid for vm_uuid, entity in found.items()}, None)


def without_entities(
    listing: Listing,
    vms: Sequence[VmRecord],
    claim: ScanClaim,
    fault: Fault,
    known: Mapping[VmUuid, str],
    clock: DatabaseClock,
) -> ClusterSnapshot:
    """The same where the query was not answered, with the entities that were `known` before."""
    seen = ScanResult(
        at=clock.at(listing.asked_s),
        vms=[_seen_vm(vm, None, has_entity=None) for vm in vms],
        has_entities=False,
        absent=_absent_of(claim, vms),
    )
    return ClusterSnapshot(seen, vms, known, fault)


def _absent_of(claim: ScanClaim, vms: Sequence[VmRecord]) -> Sequence[VmUuid] | None:
    if claim.vm_uuid is None:
        return None
    return [] if vms else [claim.vm_uuid]


def _seen_vm(vm: VmRecord, entity: VmToolsEntity | None, *, has_entity: bool | None) -> ScannedVm:
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


def observation_of(read: GuestRead) -> Observation:
    """What a guest showed that showed a certificate."""
    assert read.certificate is not None
    return Observation(read.vm.vm_uuid, CertificateSource.GUEST_CERTIFICATE, read.at, **asdict(read.certificate))


def guest_fault_of(read: GuestRead, entities: Mapping[VmUuid, str | None]) -> GuestFault | None:
    """Why the certificate of the VM is not known, also where a guest showed one that is not this VM's."""
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

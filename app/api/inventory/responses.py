"""VMs as responses."""

from app.api.inventory.schemas import CertificateObservation, Vm, VmNgt
from app.field_types import from_record
from app.ngt.errors import Fault, FaultCode
from app.ngt.vocabulary import PowerState, VmUuid
from app.store.records.inventory import KnownNgt, KnownVm
from app.store.records.scans import ScanRecord

# The names of the store for these members.
_STORED_AS = {
    "guest_error_code": "guest_fault_code",
    "guest_error_message": "guest_fault",
    "guest_error_at": "guest_fault_at",
}

_OF_SCAN = ("id", "status", "done", "outcome", "error_code", "error_message")


def no_such_vm(vm_uuid: VmUuid) -> Fault:
    """Also of a VM of a cluster that the caller may not use."""
    return Fault(FaultCode.VM_NOT_FOUND, f"No VM {vm_uuid} was seen on the clusters that your key may use.")


def vm_response(vm: KnownVm) -> Vm:
    """The VM as callers see it."""
    return from_record(Vm, vm, **_differences(vm))


def ngt_response(ngt: KnownNgt, scan: ScanRecord | None = None) -> VmNgt:
    """All of its NGT as callers see it, and the state of the scan that refreshes it."""
    scanned = {f"scan_{name}": getattr(scan, name, None) for name in _OF_SCAN}
    observations = [from_record(CertificateObservation, one) for one in ngt.observations]
    last_job = {"last_job_status": ngt.last_job_status, "last_job_outcome": ngt.last_job_outcome}
    return from_record(VmNgt, ngt.vm, observations=observations, **_differences(ngt.vm), **last_job, **scanned)


def _differences(vm: KnownVm) -> dict[str, object]:
    """The members that the store names otherwise, and the power, which is omitted when it is not known."""
    stored_as = {name: getattr(vm, stored) for name, stored in _STORED_AS.items()}
    return {**stored_as, "power": None if vm.power == PowerState.UNKNOWN else vm.power}

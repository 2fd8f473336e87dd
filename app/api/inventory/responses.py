"""How a VM is shown, and which VMs a caller may see."""

from dataclasses import asdict
from typing import Any

from app.api.http.responses import known
from app.api.inventory.schemas import CertificateObservation, Vm, VmNgt
from app.ngt.errors import Fault, FaultCode
from app.ngt.vocabulary import PowerState, VmUuid
from app.store.records.inventory import KnownNgt, KnownVm, SourceSaid
from app.store.records.scans import ScanRecord

# What the store calls otherwise.
_STORED_AS = {
    "guest_error_code": "guest_fault_code",
    "guest_error_message": "guest_fault",
    "guest_error_at": "guest_fault_at",
}


def no_such_vm(vm_uuid: VmUuid) -> Fault:
    """Also of a VM of a cluster that the caller may not use."""
    return Fault(FaultCode.VM_NOT_FOUND, f"No VM {vm_uuid} was seen on the clusters that your key may use.")


def shown_vm(vm: KnownVm) -> Vm:
    """The VM as callers see it."""
    return Vm(**_facts_of(vm))


def shown_ngt(ngt: KnownNgt, scan: ScanRecord | None = None) -> VmNgt:
    """All of its NGT as callers see it, and how the scan stands that looks at it."""
    return VmNgt(
        **_facts_of(ngt.vm),
        communication_type=known(ngt.vm.communication_type),
        ngt_uuid=known(ngt.vm.ngt_uuid),
        observations=[_shown_observation(one) for one in ngt.said],
        last_job_status=known(ngt.last_job_status),
        last_job_outcome=known(ngt.last_job_outcome),
        **({} if scan is None else _facts_of_scan(scan)),
    )


def _facts_of(vm: KnownVm) -> dict[str, Any]:
    """What is known of the VM, by the members of `Vm`; the rest is absent."""
    facts = {name: getattr(vm, _STORED_AS.get(name, name)) for name in Vm.model_fields}
    facts["addresses"] = list(vm.addresses)
    facts["power"] = None if vm.power == PowerState.UNKNOWN else vm.power
    facts["last_job_id"] = None if vm.last_job_id is None else str(vm.last_job_id)
    return {name: fact for name, fact in facts.items() if fact is not None}


def _facts_of_scan(scan: ScanRecord) -> dict[str, Any]:
    facts = {"id": str(scan.id), "status": scan.status, "done": scan.done, "outcome": scan.outcome}
    facts |= {"error_code": scan.error_code, "error_message": scan.error_message}
    return {f"scan_{name}": fact for name, fact in facts.items() if fact is not None}


def _shown_observation(one: SourceSaid) -> CertificateObservation:
    said: dict[str, Any] = {name: fact for name, fact in asdict(one).items() if fact is not None}
    return CertificateObservation(**said)

"""The diagnosis of a VM's NGT, from the stored facts, after a worker has scanned the VM once more.

The request never asks a CVM: it starts a scan of the one VM, or takes the last one, and waits for it.
"""

import json
from dataclasses import replace
from datetime import datetime

from fastapi import APIRouter, Response

from app.api.callers.authorization import CallerDep
from app.api.diagnosis.schemas import Diagnosis, DiagnosisFinding
from app.api.http.cluster_access import allowed_clusters, get_cluster
from app.api.http.dependencies import Services, ServicesDep
from app.api.http.parameters import VmUuidInPath
from app.api.http.problems import problem_responses
from app.api.http.request_guard import GuardedRoute
from app.api.http.responses import json_answer
from app.api.scans.scan_first import RecentScan, ScanFirstDep
from app.field_types import from_record
from app.ngt.diagnosis.diagnose import Finding, diagnose
from app.ngt.diagnosis.facts import Facts
from app.ngt.errors import Fault
from app.ngt.errors import FaultCode as C
from app.ngt.vocabulary import VmUuid
from app.store.records.callers import Caller

router = APIRouter(route_class=GuardedRoute, tags=["vms"])

_SCAN_IT = "Have its cluster scanned (`POST /clusters/{cluster}/scan`), or name it in `cluster` with `look=true`."


@router.get(
    "/vms/{vm_uuid}/ngt/diagnosis",
    operation_id="diagnoseVmNgt",
    summary="Find out why a VM's NGT does not work",
    response_model=Diagnosis,
    responses=problem_responses(
        C.TARGET_NOT_ALLOWED, C.VM_NOT_FOUND, C.CLUSTER_NOT_FOUND, C.VALIDATION_FAILED, C.TOO_MANY_WAITS
    ),
)
async def diagnose_vm_ngt(
    caller: CallerDep, services: ServicesDep, looking: ScanFirstDep, vm_uuid: VmUuidInPath
) -> Response:
    """The diagnosis of the VM, after a scan of it that the request waits for.

    Without the scope `clusters:scan`, or when the scan fails or takes too long, the diagnosis rests on stored facts
    alone; `look_message` says so, and `seen_at` gives their age.
    """
    vm, named = VmUuid(vm_uuid), looking.query.cluster
    stored = await services.store.diagnosis_facts.read(vm, _clusters(services, caller, named), caller)
    if stored is not None:
        place = stored.facts.vm.cluster
    elif named is not None:
        place = named
    else:
        raise _not_found(vm, _SCAN_IT)

    look = await looking.look(place, vm, stored)
    if look.scan_id is not None:
        stored = await services.store.diagnosis_facts.read(vm, (place,), caller)
    if stored is None:
        raise _not_found(vm, _SCAN_IT if look.scan_id is None else _said_of(look))
    facts = replace(stored.facts, look_failed=look.failure)
    return json_answer(
        _diagnosis_response(_configured(facts, services), look, stored.read_at), headers=looking.wait.applied
    )


def _clusters(services: Services, caller: Caller, named: str | None) -> tuple[str, ...]:
    if named is None:
        return allowed_clusters(services.settings, caller)
    get_cluster(services.settings, caller, named)
    return (named,)


def _said_of(look: RecentScan) -> str:
    """Of a look at a VM of which nothing is stored that an answer could be made from."""
    said = look.message if look.failure is None else f"The look failed: {look.failure.message}"
    return said if said.endswith(".") else f"{said}."


def _not_found(vm: VmUuid, why: str) -> Fault:
    """Also for a VM of a cluster that the caller may not use."""
    return Fault(C.VM_NOT_FOUND, f"No VM {vm} was seen on the clusters that your key may use. {why}")


def _configured(facts: Facts, services: Services) -> Facts:
    """The facts with what the configuration says of the cluster."""
    cluster = services.settings.cluster(facts.vm.cluster)
    guest = cluster.guest_for(facts.vm.name or "", facts.vm.addresses)
    known_cluster = replace(
        facts.cluster,
        mode=cluster.mode,
        restart_agent=cluster.restart_agent,
        accept_unverified=cluster.accept_unverified,
        renewed_recently_s=services.settings.limits.renewed_recently_s,
        guest_access=guest is not None,
        cvms=tuple(cvm for cvm in facts.cluster.cvms if cvm.address in cluster.cvms),
    )
    return replace(facts, cluster=known_cluster)


def _diagnosis_response(facts: Facts, look: RecentScan, checked_at: datetime) -> Diagnosis:
    vm, diagnosis = facts.vm, diagnose(facts, checked_at)
    return from_record(
        Diagnosis,
        vm,
        vm_name=vm.name,
        healthy=diagnosis.healthy,
        summary=diagnosis.summary,
        checked_at=checked_at,
        looked=look.looked,
        look_failed=look.failure is not None,
        look_message=look.message,
        scan_id=look.scan_id,
        findings=[_finding_response(finding) for finding in diagnosis.findings],
    )


def _finding_response(finding: Finding) -> DiagnosisFinding:
    call = finding.call
    if call is None:
        return from_record(DiagnosisFinding, finding)
    body = json.dumps(dict(call.body)) if call.body else None
    return from_record(DiagnosisFinding, finding, call_method=call.method, call_path=call.path, call_body=body)

"""Handing in what a guest has: for those who manage guests by other means than this service's SSH."""

from fastapi import APIRouter, Response

from app.api.callers.authorization import CallerDep
from app.api.http.cluster_access import allowed_clusters, get_cluster
from app.api.http.dependencies import ServicesDep
from app.api.http.parameters import VmUuidInPath
from app.api.http.problems import invalid, problem_responses
from app.api.http.request_guard import GuardedRoute
from app.api.http.responses import json_answer
from app.api.inventory.certificate_request import CertificateRequest
from app.api.inventory.responses import ngt_response, no_such_vm
from app.api.inventory.schemas import VmNgt
from app.ngt.errors import Fault
from app.ngt.errors import FaultCode as C
from app.ngt.tools.certificate import read_handed_in
from app.ngt.vocabulary import Certificate, VmUuid

router = APIRouter(route_class=GuardedRoute, tags=["vms"])


@router.put(
    "/vms/{vm_uuid}/ngt/certificate",
    operation_id="putVmNgtCertificate",
    summary="Hand in the certificate that a guest has",
    response_model=VmNgt,
    responses=problem_responses(
        C.PRIVATE_KEY_REFUSED, C.TARGET_NOT_ALLOWED, C.VM_NOT_FOUND, C.CLUSTER_NOT_FOUND, C.VALIDATION_FAILED
    ),
)
async def put_vm_ngt_certificate(
    caller: CallerDep, services: ServicesDep, vm_uuid: VmUuidInPath, body: CertificateRequest
) -> Response:
    """The public part alone; a private key anywhere in the body is refused, and nothing of it is kept.

    The caller vouches that it is the certificate in this VM's guest, whatever it says of itself, and also one that has
    expired; that of a root authority alone is refused. Where a job waits for the guest to pick its new certificate up,
    a later one ends the job as renewed.
    """
    vm, clusters = VmUuid(vm_uuid), allowed_clusters(services.settings, caller)
    if body.cluster is not None:
        get_cluster(services.settings, caller, body.cluster)
        clusters = (body.cluster,)
    certificate = _read(body.certificate_pem)
    seen = await services.store.vms.find(vm, clusters)
    if seen is None:
        raise no_such_vm(vm)
    await services.store.pushed_certificates.push(vm, seen.cluster, certificate, caller.name or caller.id)
    ngt = await services.store.vms.find_ngt(vm, (seen.cluster,))
    if ngt is None:
        raise no_such_vm(vm)
    return json_answer(ngt_response(ngt))


def _read(pem: str) -> Certificate:
    try:
        return read_handed_in(pem)
    except Fault as refused:
        if refused.code is C.VALIDATION_FAILED:
            raise invalid(f"{refused.message}; nothing was stored", "body", "certificate_pem") from None
        raise Fault(refused.code, f"The certificate was not taken: {refused.message}.") from None

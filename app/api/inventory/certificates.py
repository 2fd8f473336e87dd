"""Handing in what a guest has: for those who manage guests by other means than this service's SSH."""

import json
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.api.callers.authorization import CallerDep
from app.api.http.cluster_access import allowed_clusters, get_cluster
from app.api.http.dependencies import ServicesDep
from app.api.http.parameters import ClusterText, VmUuidInPath
from app.api.http.problems import invalid, problem_responses
from app.api.http.request_guard import GuardedRoute
from app.api.http.responses import json_answer
from app.api.inventory.responses import ngt_response, no_such_vm
from app.api.inventory.schemas import VmNgt
from app.ngt.errors import Fault
from app.ngt.errors import FaultCode as C
from app.ngt.tools.certificate import MAX_PEM_BYTES, read_handed_in, refuse_private_key
from app.ngt.vocabulary import Certificate, VmUuid

router = APIRouter(route_class=GuardedRoute, tags=["vms"])

_EXAMPLE = """\
-----BEGIN CERTIFICATE-----
MIIBWDCB/6ADAgECAhAAiKxSiGGfB/Qt41q3z6w1MAoGCCqGSM49BAMCMC4xLDAq
BgNVBAMMI1NpbXVsYXRlZCBOR1QgY2VydGlmaWNhdGUgYXV0aG9yaXR5MB4XDTI2
MTEyMzAxMDIwM1oXDTI5MDgxOTAxMDIwM1owLzEtMCsGA1UEAwwkNWU2YjBhM2Mt
NTJmMS00ZDBlLWI0NWYtOWY4YTRhMWY0YjExMFkwEwYHKoZIzj0CAQYIKoZIzj0D
AQcDQgAEbeCNko0zYLWAAK73lw1AFJnt6E6usnFzFVVhpKAFYX8pUHPenqX51OpX
qx6iuh/OJLTOh110wUKxj8+gqpUTXTAKBggqhkjOPQQDAgNIADBFAiBwn14H235u
D34Zl8RaBrS7+JY8yHoFCr0McgOcXauEKQIhALxUA+b1ff65XzpiuP1vuFv8XKQP
CHhyr2XiClts+Tkz
-----END CERTIFICATE-----
"""


class CertificateRequest(BaseModel):
    """The certificate that is in the guest, and where the VM is."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, json_schema_extra={"examples": [{"certificate_pem": _EXAMPLE}]}
    )

    # Its length is looked at later, since what is too large has an answer of its own.
    certificate_pem: Annotated[
        str,
        Field(
            description="The text of `client-cert.pem`, also with the certificates of its issuers; never a private key",
            json_schema_extra={"maxLength": MAX_PEM_BYTES},
        ),
    ]
    cluster: Annotated[
        ClusterText | None,
        Field(description="The VM's cluster; by default the one where it was seen last"),
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _has_no_private_key(cls, sent: object) -> object:
        """Before any member is looked at: no answer about a wrong one may repeat what it holds."""
        try:
            text = json.dumps(sent, ensure_ascii=False)
        except RecursionError:
            raise ValueError("The body is nested too deeply.") from None
        refuse_private_key(text)
        return sent


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

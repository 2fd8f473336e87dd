"""Schemas of a diagnosis."""

from typing import Annotated

from pydantic import MISSING, Field

from app.field_types import Id, Instant, ResponseModel, Text, Word, example


class DiagnosisFinding(ResponseModel):
    """One thing that is known of the VM's NGT, with the exact call that goes on from it, where it is one."""

    code: Annotated[Word, Field(description="A stable word; more may be added")]
    severity: Annotated[Word, Field(description="error, warning, info or ok")]
    message: Annotated[Text, Field(description="What it is, and what it means for the VM")]
    next_step: Annotated[Text, Field(description="What to do next")]
    call_method: Annotated[Word | MISSING, Field(description="POST; absent where no call is to be made")] = MISSING
    call_path: Annotated[Word | MISSING, Field(description="The path to call")] = MISSING
    call_body: Annotated[Text | MISSING, Field(description="The JSON text to send; absent where no body is needed")] = (
        MISSING
    )


class Diagnosis(ResponseModel):
    """The findings about a VM's NGT, the most important first; or the checks that passed."""

    model_config = example(
        {
            "vm_uuid": "20edafba-1b5c-4a7e-8d1f-0b6f6a9d2c11",
            "vm_name": "web01",
            "cluster": "c1",
            "healthy": False,
            "summary": "VM 'web01': its NGT does not work: the certificate has expired.",
            "checked_at": "2026-11-24T12:00:02.120Z",
            "looked": True,
            "look_failed": False,
            "look_message": "The cluster was looked at for this answer.",
            "seen_at": "2026-11-24T12:00:01.980Z",
            "findings": [
                {
                    "code": "certificate-expired",
                    "severity": "error",
                    "message": "The certificate of VM 'web01' expired 3 days ago.",
                    "next_step": "Renew the certificate.",
                    "call_method": "POST",
                    "call_path": "/vms/20edafba-1b5c-4a7e-8d1f-0b6f6a9d2c11/ngt/renew",
                    "call_body": '{"restart_agent": "manual"}',
                }
            ],
        }
    )

    vm_uuid: Id
    vm_name: Text | MISSING = MISSING
    cluster: Word
    healthy: Annotated[bool, Field(description="No finding is an error or a warning")]
    summary: Annotated[Text, Field(description="The gravest finding in a sentence")]
    checked_at: Instant
    looked: Annotated[bool, Field(description="The cluster was looked at for this answer, or less than a minute ago")]
    look_failed: Annotated[bool, Field(description="A look was tried, and failed or did not end in time")]
    look_message: Annotated[Text, Field(description="How the look went, or why there was none")]
    scan_id: Annotated[Id | MISSING, Field(description="The scan that looked, or still does")] = MISSING
    seen_at: Annotated[Instant | MISSING, Field(description="When the cluster last showed what is said here")] = MISSING
    findings: Annotated[list[DiagnosisFinding], Field(max_length=100)]

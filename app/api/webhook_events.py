"""What a webhook's body says: flat and thin. Whoever needs more reads the job, with a key of its own."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import MISSING, BaseModel, ConfigDict, Field

from app.api.schemas import CertificateDate, Id, Instant, Text, Word


class RenewalEventType(StrEnum):
    """What became of a renewal."""

    SUCCEEDED = "ngt.renewal.succeeded"
    FAILED = "ngt.renewal.failed"
    CANCELLED = "ngt.renewal.cancelled"
    SKIPPED = "ngt.renewal.skipped"
    UNVERIFIED = "ngt.renewal.unverified"
    ACTION_REQUIRED = "ngt.renewal.action_required"
    STRANDED = "ngt.renewal.stranded"


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True)


class RenewalFacts(_Body):
    """The job when the event happened; a later delivery of the same event says the same."""

    job_id: Id
    status: Annotated[Word, Field(description="As in the job")]
    outcome: Annotated[Word | MISSING, Field(description="As in the job, once it is done")] = MISSING
    message: Annotated[Text, Field(description="For a person")]
    vm_uuid: Id
    vm_name: Text | MISSING = MISSING
    cluster: Word | MISSING = MISSING
    error_code: Word | MISSING = MISSING
    error_message: Text | MISSING = MISSING
    error_action: Annotated[Text | MISSING, Field(description="What to do, and who can do it")] = MISSING
    wait_reason: Annotated[Word | MISSING, Field(description="What the job waits for")] = MISSING
    remaining_action: Annotated[Text | MISSING, Field(description="What is left to do by hand")] = MISSING
    old_not_after: CertificateDate | MISSING = MISSING
    new_not_after: CertificateDate | MISSING = MISSING
    verified_by: Annotated[Word | MISSING, Field(description="guest_certificate, cvm_expiry_date or link_only")] = (
        MISSING
    )
    correlation_id: Annotated[Word | MISSING, Field(description="As the request gave it")] = MISSING
    change_number: Annotated[Word | MISSING, Field(description="As the request gave it")] = MISSING
    created_at: Instant
    started_at: Instant | MISSING = MISSING
    finished_at: Instant | MISSING = MISSING
    link: Annotated[Word, Field(description="The path of the job")]


class RenewalEvent(_Body):
    """Something became of a renewal."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "type": "ngt.renewal.succeeded",
                    "timestamp": "2026-11-23T01:02:44.120Z",
                    "data": {
                        "job_id": "0199c1f2-7d10-7b52-a1ad-3a0f0c9a0b6e",
                        "status": "succeeded",
                        "outcome": "renewed",
                        "message": "certificate renewed; valid until 2029-08-19",
                        "vm_uuid": "20edafba-1b5c-4a7e-8d1f-0b6f6a9d2c11",
                        "vm_name": "web01",
                        "cluster": "c1",
                        "old_not_after": "2026-12-01T00:00:00Z",
                        "new_not_after": "2029-08-19T02:11:04Z",
                        "verified_by": "guest_certificate",
                        "change_number": "CHG0030123",
                        "created_at": "2026-11-23T01:02:03.000Z",
                        "finished_at": "2026-11-23T01:02:44.120Z",
                        "link": "/jobs/0199c1f2-7d10-7b52-a1ad-3a0f0c9a0b6e",
                    },
                }
            ]
        },
    )

    type: RenewalEventType
    timestamp: Annotated[Instant, Field(description="When it happened")]
    data: RenewalFacts


class WebhookTestFacts(_Body):
    """Nothing happened."""

    message: Text


class WebhookTest(_Body):
    """Sent when an operator asks for it, to try the way and the secret."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "type": "webhook.test",
                    "timestamp": "2026-11-23T01:02:44.120Z",
                    "data": {"message": "This is a test; nothing happened."},
                }
            ]
        },
    )

    type: Literal["webhook.test"]
    timestamp: Annotated[Instant, Field(description="When it was asked for")]
    data: WebhookTestFacts

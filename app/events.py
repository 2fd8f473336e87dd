"""The events that webhooks send: the name, the facts and the body of each, once. The API has everything else."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal, get_origin

from pydantic import MISSING, BaseModel, Field

from app.field_types import (
    CertificateDate,
    Count,
    DaysLeft,
    EventName,
    EventText,
    Id,
    Instant,
    ResponseModel,
    Text,
    Word,
    example,
)


class RenewalEventType(StrEnum):
    """The result of a renewal, or a wait for a person."""

    SUCCEEDED = "ngt.renewal.succeeded"
    FAILED = "ngt.renewal.failed"
    CANCELLED = "ngt.renewal.cancelled"
    SKIPPED = "ngt.renewal.skipped"
    UNVERIFIED = "ngt.renewal.unverified"
    ACTION_REQUIRED = "ngt.renewal.action_required"
    STRANDED = "ngt.renewal.stranded"


class CertificateEventType(StrEnum):
    """The expiry of a certificate: near, or past."""

    EXPIRING = "ngt.certificate.expiring"
    EXPIRED = "ngt.certificate.expired"


class ServiceEventType(StrEnum):
    """Events that have a body of their own."""

    DIGEST = "ngt.certificate.digest"
    AUTO_RENEW_STOPPED = "ngt.auto_renew.stopped"
    TEST = "webhook.test"


EventType = RenewalEventType | CertificateEventType | ServiceEventType


class RenewalFacts(ResponseModel):
    """The job when the event happened; a later delivery of the same event says the same."""

    job_id: Id
    status: Annotated[Word, Field(description="As in the job")]
    outcome: Annotated[Word | MISSING, Field(description="As in the job, once it is done")] = MISSING
    message: Annotated[EventText, Field(description="For a person")]
    vm_uuid: Id
    vm_name: EventText | MISSING = MISSING
    cluster: Word | MISSING = MISSING
    error_code: Word | MISSING = MISSING
    error_message: EventText | MISSING = MISSING
    error_action: Annotated[Text | MISSING, Field(description="What to do, and who can do it")] = MISSING
    wait_reason: Annotated[Word | MISSING, Field(description="What the job waits for")] = MISSING
    remaining_action: Annotated[EventText | MISSING, Field(description="What is left to do by hand")] = MISSING
    old_not_after: CertificateDate | MISSING = MISSING
    new_not_after: CertificateDate | MISSING = MISSING
    verified_by: Annotated[
        Word | MISSING, Field(description="guest_certificate, pushed_certificate, cvm_expiry_date or link_only")
    ] = MISSING
    correlation_id: Annotated[Word | MISSING, Field(description="As the request gave it")] = MISSING
    change_number: Annotated[Word | MISSING, Field(description="As the request gave it")] = MISSING
    automatic: Annotated[bool, Field(description="Nobody asked: the service started the job by a rule")]
    automatic_rule: Annotated[EventText | MISSING, Field(description="By which rule, in a sentence")] = MISSING
    created_at: Instant
    started_at: Instant | MISSING = MISSING
    finished_at: Instant | MISSING = MISSING
    link: Annotated[Word, Field(description="The path of the job")]


class RenewalEvent(ResponseModel):
    """Something became of a renewal."""

    model_config = example(
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
                "automatic": False,
                "created_at": "2026-11-23T01:02:03.000Z",
                "finished_at": "2026-11-23T01:02:44.120Z",
                "link": "/jobs/0199c1f2-7d10-7b52-a1ad-3a0f0c9a0b6e",
            },
        }
    )

    type: RenewalEventType
    timestamp: Annotated[Instant, Field(description="When it happened")]
    data: RenewalFacts


class CertificateFacts(ResponseModel):
    """A VM's certificate when the event happened."""

    message: Annotated[Text, Field(description="For a person")]
    action: Annotated[Text, Field(description="What to do next")]
    vm_uuid: Id
    vm_name: EventText | MISSING = MISSING
    cluster: Word
    not_after: Annotated[CertificateDate, Field(description="When it expires, or has expired")]
    days_left: Annotated[DaysLeft, Field(description="Rounded down; negative when it has expired")]
    days_before: Annotated[Count, Field(description="The number of days that was reached; 0: it has expired")]
    certificate_source: Annotated[
        Word,
        Field(
            description="Where the date comes from: guest_certificate, pushed_certificate, cvm_expiry_date; computed: "
            "from the last renewal, and not seen by any source"
        ),
    ]
    certificate_observed_at: Annotated[Instant | MISSING, Field(description="When that was last seen")] = MISSING
    serial: Annotated[Word | MISSING, Field(description="In hex, where the certificate itself was read")] = MISSING
    new_certificate_issued: Annotated[
        bool, Field(description="A newer certificate was issued, and the agent has not picked it up yet")
    ]
    link: Annotated[Word, Field(description="The path of the VM")]


class CertificateEvent(ResponseModel):
    """A certificate comes to its end; once for each number of days, the fewest that are left alone."""

    model_config = example(
        {
            "type": "ngt.certificate.expiring",
            "timestamp": "2026-11-23T02:31:07.412Z",
            "data": {
                "message": "The NGT certificate of the VM web01 expires in 6 days, on 2026-11-30.",
                "action": "Renew it with POST /vms/20edafba-1b5c-4a7e-8d1f-0b6f6a9d2c11/ngt/renew.",
                "vm_uuid": "20edafba-1b5c-4a7e-8d1f-0b6f6a9d2c11",
                "vm_name": "web01",
                "cluster": "c1",
                "not_after": "2026-11-30T02:11:04Z",
                "days_left": 6,
                "days_before": 7,
                "certificate_source": "cvm_expiry_date",
                "certificate_observed_at": "2026-11-23T02:30:12.000Z",
                "new_certificate_issued": False,
                "link": "/vms/20edafba-1b5c-4a7e-8d1f-0b6f6a9d2c11",
            },
        }
    )

    type: CertificateEventType
    timestamp: Annotated[Instant, Field(description="When it was found")]
    data: CertificateFacts


class ExpiringVm(ResponseModel):
    """A VM whose certificate is among the next to expire."""

    vm_uuid: Id
    vm_name: Annotated[EventName | MISSING, Field(description="Cut after 100 characters")] = MISSING
    not_after: CertificateDate
    certificate_source: Annotated[Word, Field(description="As in the event of a single certificate")]


class DigestFacts(ResponseModel):
    """The numbers of VMs of the cluster, without those that vanished, and the age of the facts."""

    message: Annotated[Text, Field(description="For a person")]
    action: Annotated[Text | MISSING, Field(description="What to do next, if anything")] = MISSING
    cluster: Word
    vms: Annotated[Count, Field(description="All that are known")]
    expired: Count
    within_7_days: Annotated[Count, Field(description="Expire within 7 days, and have not yet")]
    within_30_days: Annotated[Count, Field(description="Those within 7 days are counted too")]
    within_60_days: Annotated[Count, Field(description="Those within 30 days are counted too")]
    within_90_days: Annotated[Count, Field(description="Those within 60 days are counted too")]
    unknown: Annotated[Count, Field(description="No source says a date")]
    awaiting_pickup: Annotated[
        Count, Field(description="A new certificate was issued, and the agent has not picked it up yet")
    ]
    stranded: Annotated[Count, Field(description="May be without their tools entity")]
    newly_expiring: Annotated[
        Count, Field(description="Came to one of the configured numbers of days, or expired, since the last digest")
    ]
    events_left_out: Annotated[Count, Field(description="Of the newly expiring, those without an event of their own")]
    expiring_first: Annotated[
        list[ExpiringVm], Field(max_length=10, description="The next to expire, the soonest first")
    ]
    expiring_first_text: Annotated[Text | MISSING, Field(description="The same in one line")] = MISSING
    previous_digest_at: Annotated[Instant | MISSING, Field(description="The last digest before this one")] = MISSING
    last_whole_scan_at: Annotated[Instant, Field(description="How old the dates may be")]
    scan_failed_at: Annotated[Instant | MISSING, Field(description="When the last scan, if it was not whole")] = MISSING
    scan_error_code: Word | MISSING = MISSING
    scan_error_message: EventText | MISSING = MISSING
    link: Annotated[Word, Field(description="The path of the cluster's VMs, by their dates")]


class CertificateDigest(ResponseModel):
    """A cluster's certificates, once a day, also when none is near its end: a digest that stays away is a sign."""

    model_config = example(
        {
            "type": "ngt.certificate.digest",
            "timestamp": "2026-11-23T06:00:31.020Z",
            "data": {
                "message": (
                    "Of 1200 VMs of the cluster c1 the NGT certificate of 3 has expired, 14 more expire within "
                    "7 days, 260 within 30 days and 710 within 90 days; of 41 the date is not known. New since "
                    "the last digest: 90; 70 of them had no event of their own. The last whole scan was at "
                    "2026-11-23 02:30 UTC."
                ),
                "action": ("Renew what has expired or soon will: GET /vms?cluster=c1&expires_within_days=30 lists it."),
                "cluster": "c1",
                "vms": 1200,
                "expired": 3,
                "within_7_days": 14,
                "within_30_days": 260,
                "within_60_days": 540,
                "within_90_days": 710,
                "unknown": 41,
                "awaiting_pickup": 2,
                "stranded": 0,
                "newly_expiring": 90,
                "events_left_out": 70,
                "expiring_first": [
                    {
                        "vm_uuid": "20edafba-1b5c-4a7e-8d1f-0b6f6a9d2c11",
                        "vm_name": "web01",
                        "not_after": "2026-11-30T02:11:04Z",
                        "certificate_source": "cvm_expiry_date",
                    }
                ],
                "expiring_first_text": "web01 2026-11-30",
                "previous_digest_at": "2026-11-22T06:00:12.000Z",
                "last_whole_scan_at": "2026-11-23T02:30:12.000Z",
                "link": "/vms?cluster=c1&sort=not_after",
            },
        }
    )

    type: Literal[ServiceEventType.DIGEST]
    timestamp: Annotated[Instant, Field(description="When it was made")]
    data: DigestFacts


class AutoRenewStoppedFacts(ResponseModel):
    """The cluster, and the last of the jobs that failed."""

    cluster: Word
    message: Annotated[EventText, Field(description="For a person")]
    action: Annotated[Text, Field(description="How automatic renewals are started again")]
    failures_in_a_row: Count
    stopped_at: Instant
    job_id: Id
    vm_uuid: Id
    vm_name: EventText | MISSING = MISSING
    error_code: Word | MISSING = MISSING
    error_message: EventText | MISSING = MISSING
    error_action: Annotated[Text | MISSING, Field(description="What to do, and who can do it")] = MISSING
    link: Annotated[Word, Field(description="The path of the cluster's plan")]


class AutoRenewStopped(ResponseModel):
    """Too many automatic renewals in a row failed on a cluster: none begins there before somebody resumes them."""

    model_config = example(
        {
            "type": "ngt.auto_renew.stopped",
            "timestamp": "2026-11-23T01:02:44.120Z",
            "data": {
                "cluster": "c1",
                "message": "No more automatic renewals begin on c1: 3 automatic renewals in a row failed, "
                "the last one for VM web01 (20edafba-1b5c-4a7e-8d1f-0b6f6a9d2c11): no CVM of c1 answers",
                "action": "Fix the cause, then POST /clusters/c1/auto-renew/resume.",
                "failures_in_a_row": 3,
                "stopped_at": "2026-11-23T01:02:44.120Z",
                "job_id": "0199c1f2-7d10-7b52-a1ad-3a0f0c9a0b6e",
                "vm_uuid": "20edafba-1b5c-4a7e-8d1f-0b6f6a9d2c11",
                "vm_name": "web01",
                "error_code": "cvm-unreachable",
                "error_message": "No CVM of c1 answers.",
                "link": "/clusters/c1/auto-renew/plan",
            },
        }
    )

    type: Literal[ServiceEventType.AUTO_RENEW_STOPPED]
    timestamp: Annotated[Instant, Field(description="When it happened")]
    data: AutoRenewStoppedFacts


class WebhookTestFacts(ResponseModel):
    """Nothing happened."""

    message: Text


class WebhookTest(ResponseModel):
    """Sent when an operator asks for it, to try the way and the secret."""

    model_config = example(
        {
            "type": "webhook.test",
            "timestamp": "2026-11-23T01:02:44.120Z",
            "data": {"message": "This is a test; nothing happened."},
        }
    )

    type: Literal[ServiceEventType.TEST]
    timestamp: Annotated[Instant, Field(description="When it was asked for")]
    data: WebhookTestFacts


@dataclass(frozen=True, slots=True)
class EventDeclaration:
    """An event: the operation and summary of the OpenAPI document, its body and its facts."""

    operation_id: str
    summary: str
    body: type[BaseModel]
    facts: type[ResponseModel]

    @property
    def texts(self) -> frozenset[str]:
        """The names of the facts that a template may use: all but lists."""
        fields = self.facts.model_fields.items()
        return frozenset(name for name, field in fields if get_origin(field.annotation) is not list)


def _of_renewal(operation_id: str, summary: str) -> EventDeclaration:
    return EventDeclaration(operation_id, summary, RenewalEvent, RenewalFacts)


EVENTS: dict[str, EventDeclaration] = {
    RenewalEventType.SUCCEEDED: _of_renewal("onRenewalSucceeded", "A certificate was renewed, and that is proved"),
    RenewalEventType.FAILED: _of_renewal("onRenewalFailed", "A renewal failed"),
    RenewalEventType.CANCELLED: _of_renewal("onRenewalCancelled", "A renewal was cancelled"),
    RenewalEventType.SKIPPED: _of_renewal("onRenewalSkipped", "Nothing had to be done"),
    RenewalEventType.UNVERIFIED: _of_renewal("onRenewalUnverified", "A renewal ended without a proof"),
    RenewalEventType.ACTION_REQUIRED: _of_renewal("onRenewalActionRequired", "A job waits for a person"),
    RenewalEventType.STRANDED: _of_renewal("onRenewalStranded", "A VM may have lost its tools entity"),
    CertificateEventType.EXPIRING: EventDeclaration(
        "onCertificateExpiring", "A certificate comes to its end", CertificateEvent, CertificateFacts
    ),
    CertificateEventType.EXPIRED: EventDeclaration(
        "onCertificateExpired", "A certificate has expired", CertificateEvent, CertificateFacts
    ),
    ServiceEventType.DIGEST: EventDeclaration(
        "onCertificateDigest", "The certificates of a cluster, once a day", CertificateDigest, DigestFacts
    ),
    ServiceEventType.AUTO_RENEW_STOPPED: EventDeclaration(
        "onAutoRenewStopped",
        "Automatic renewals of a cluster were stopped after failures",
        AutoRenewStopped,
        AutoRenewStoppedFacts,
    ),
    ServiceEventType.TEST: EventDeclaration(
        "onWebhookTest", "An operator tries the webhook", WebhookTest, WebhookTestFacts
    ),
}

_OF_EACH_DELIVERY = frozenset({"event", "record"})

TEMPLATE_FACTS = frozenset().union(*(event.texts for event in EVENTS.values()), _OF_EACH_DELIVERY, {"work_notes"})
"""The names that a template may use. A missing fact is empty; `work_notes` is made of the others."""


def import_facts(event: str) -> frozenset[str]:
    """The columns of an import for this event, whether their facts are known or not. A test has those of a renewal."""
    facts = EVENTS[RenewalEventType.SUCCEEDED if event == ServiceEventType.TEST else event].texts
    return facts | _OF_EACH_DELIVERY

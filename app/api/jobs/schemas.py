"""Schemas of jobs, their steps and their events."""

from typing import Annotated

from pydantic import MISSING, AfterValidator, Field

from app.field_types import CertificateDate, Count, Id, Instant, Lines, ResponseModel, Text, Word, example


class Step(ResponseModel):
    """One step of a job, in one of its attempts. `status`: running, succeeded, failed or lost."""

    name: Word
    attempt: Count
    status: Word
    started_at: Instant
    finished_at: Instant | MISSING = MISSING
    duration_ms: Count | MISSING = MISSING
    cvm: Annotated[Word | MISSING, Field(description="Where it was done: a CVM, or the guest")] = MISSING
    result_vec: Annotated[Word | MISSING, Field(description="The result word of the tool, as it printed it")] = MISSING
    message: Text


# A job that is retried again and again gets more steps each time; the last ones say where it stands.
_MOST_STEPS = 1000


def _last_steps(steps: list[Step]) -> list[Step]:
    return steps[-_MOST_STEPS:]


class Plan(ResponseModel):
    """The effect of a renewal of the VM. Nothing was changed."""

    commands: Lines
    guest_address: Word | MISSING = MISSING
    restart: Annotated[Text, Field(description="How the agent would be restarted")]
    proof: Annotated[Text, Field(description="What would prove the renewal")]
    refusal_codes: Lines
    refusals: Annotated[Lines, Field(description="Why it would be refused; empty when it would not")]


class Links(ResponseModel):
    """Paths of the job's own resources."""

    self: Word
    result: Word
    events: Word
    log: Word


class Job(ResponseModel):
    """One renewal. Test `done` and `outcome`: `status` may get more words."""

    model_config = example(
        {
            "id": "0199c1f2-7d10-7b52-a1ad-3a0f0c9a0b6e",
            "status": "succeeded",
            "done": True,
            "outcome": "renewed",
            "message": "certificate renewed; valid until 2029-08-19",
            "vm_uuid": "20edafba-1b5c-4a7e-8d1f-0b6f6a9d2c11",
            "vm_name": "web01",
            "cluster": "c1",
            "cvm": "10.0.0.31",
            "mode": "recreate",
            "forced": False,
            "validate_only": False,
            "joined": False,
            "progress_percent": 100,
            "attempt": 1,
            "caller": "ServiceNow production",
            "automatic": False,
            "change_number": "CHG0030123",
            "created_at": "2026-11-23T01:02:03.000Z",
            "started_at": "2026-11-23T01:02:03.010Z",
            "finished_at": "2026-11-23T01:02:44.120Z",
            "updated_at": "2026-11-23T01:02:44.120Z",
            "old_not_after": "2026-12-01T00:00:00Z",
            "new_not_after": "2029-08-19T02:11:04Z",
            "verified_by": "guest_certificate",
            "link_active": True,
            "steps": [],
            "links": {
                "self": "/jobs/0199c1f2-7d10-7b52-a1ad-3a0f0c9a0b6e",
                "result": "/jobs/0199c1f2-7d10-7b52-a1ad-3a0f0c9a0b6e/result",
                "events": "/jobs/0199c1f2-7d10-7b52-a1ad-3a0f0c9a0b6e/events",
                "log": "/jobs/0199c1f2-7d10-7b52-a1ad-3a0f0c9a0b6e/log",
            },
        }
    )

    id: Id
    status: Annotated[
        Word, Field(description="queued, waiting, running, succeeded, failed, cancelled or skipped; more may come")
    ]
    done: bool
    outcome: Annotated[
        Word | MISSING, Field(description="renewed, unverified, already_valid, planned, failed or cancelled; once done")
    ] = MISSING
    message: Text
    vm_uuid: Id
    vm_name: Text | MISSING = MISSING
    cluster: Word | MISSING = MISSING
    cvm: Word | MISSING = MISSING
    mode: Word | MISSING = MISSING
    forced: bool
    validate_only: bool
    joined: Annotated[bool, Field(description="The request joined this job, which was open already")]
    progress_percent: Annotated[int, Field(ge=0, le=100)]
    current_step: Word | MISSING = MISSING
    attempt: Count

    wait_reason: Word | MISSING = MISSING
    deadline_at: Instant | MISSING = MISSING
    error_code: Word | MISSING = MISSING
    error_message: Text | MISSING = MISSING
    error_action: Annotated[Text | MISSING, Field(description="What to do, and who can do it")] = MISSING
    error_retryable: bool | MISSING = MISSING
    remaining_action: Annotated[Text | MISSING, Field(description="What is left to do by hand")] = MISSING

    caller: Annotated[Text, Field(description="The API key that asked")]
    correlation_id: Word | MISSING = MISSING
    correlation_display: Word | MISSING = MISSING
    change_number: Word | MISSING = MISSING
    requested_by: Annotated[Word | MISSING, Field(description="Who asked, as the request claims")] = MISSING
    automatic: Annotated[bool, Field(description="Nobody asked: the service started it by a rule")]
    automatic_rule: Annotated[Text | MISSING, Field(description="By which rule, in a sentence")] = MISSING

    created_at: Instant
    started_at: Instant | MISSING = MISSING
    finished_at: Instant | MISSING = MISSING
    updated_at: Instant

    old_not_before: CertificateDate | MISSING = MISSING
    old_not_after: CertificateDate | MISSING = MISSING
    new_not_before: CertificateDate | MISSING = MISSING
    new_not_after: CertificateDate | MISSING = MISSING
    old_serial: Word | MISSING = MISSING
    new_serial: Word | MISSING = MISSING
    verified_by: Annotated[
        Word | MISSING, Field(description="guest_certificate, pushed_certificate, cvm_expiry_date or link_only")
    ] = MISSING
    link_active: bool | MISSING = MISSING
    vss_before: bool | MISSING = MISSING
    vss_after: bool | MISSING = MISSING
    file_level_restore_before: bool | MISSING = MISSING
    file_level_restore_after: bool | MISSING = MISSING
    plan: Plan | MISSING = MISSING

    steps: Annotated[list[Step], AfterValidator(_last_steps), Field(json_schema_extra={"maxItems": _MOST_STEPS})]
    links: Links


class JobList(ResponseModel):
    """One page of jobs, newest first. Without `next_cursor` it is the last one."""

    items: Annotated[list[Job], Field(max_length=200)]
    next_cursor: Word | MISSING = MISSING


class JobEvent(ResponseModel):
    """A job as it was shown from `at` on: a version that differs from the one before."""

    model_config = example(
        {
            "version": 4,
            "at": "2026-11-23T01:02:04.120Z",
            "status": "running",
            "done": False,
            "current_step": "recreate_entity",
            "progress_percent": 30,
            "attempt": 1,
            "message": "recreating the VM tools entity",
        }
    )

    version: Annotated[Count, Field(description="The event's id within its job; versions rise, and some are left out")]
    at: Instant
    status: Word
    done: bool
    outcome: Word | MISSING = MISSING
    wait_reason: Word | MISSING = MISSING
    error_code: Word | MISSING = MISSING
    current_step: Word | MISSING = MISSING
    progress_percent: Annotated[int, Field(ge=0, le=100)]
    attempt: Count
    message: Text


class JobEventList(ResponseModel):
    """Events of one job, oldest first. The next page is the one `after` the last version of this one."""

    items: Annotated[list[JobEvent], Field(max_length=200)]


class JobEnd(ResponseModel):
    """The last event of a stream."""

    id: Id
    status: Word
    outcome: Word | MISSING = MISSING

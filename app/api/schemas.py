"""What the service answers with. Flat, and what is not known is absent, never null: low-code tools read it."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import MISSING, AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

_DATE_TIME = WithJsonSchema({"type": "string", "format": "date-time"})


def _to_milliseconds(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _to_seconds(time: datetime) -> str:
    return time.isoformat(timespec="seconds").removesuffix("+00:00") + "Z"


# What the service did, to the millisecond; and the dates of certificates, which have whole seconds.
Instant = Annotated[datetime, PlainSerializer(_to_milliseconds, return_type=str), _DATE_TIME]
CertificateDate = Annotated[datetime, PlainSerializer(_to_seconds, return_type=str), _DATE_TIME]


def _cut_after(longest: int) -> AfterValidator:
    """What a CVM or a caller said may be of any length; clients were told how long it is at most."""
    return AfterValidator(lambda text: text if len(text) <= longest else text[: longest - 1] + "…")


Text = Annotated[str, _cut_after(20_000), WithJsonSchema({"type": "string", "maxLength": 20_000})]
Word = Annotated[str, _cut_after(255), WithJsonSchema({"type": "string", "maxLength": 255})]
Id = Annotated[str, WithJsonSchema({"type": "string", "format": "uuid"})]
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
Lines = Annotated[list[Text], Field(max_length=1000)]


def _example(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(frozen=True, json_schema_extra={"examples": [example]})


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class FieldError(_Answer):
    """One value that is refused."""

    pointer: Annotated[Word, Field(description="JSON Pointer into the request: /body/…, /query/…, /path/…, /header/…")]
    detail: Text


class Problem(_Answer):
    """An error, as RFC 9457 has it."""

    model_config = _example(
        {
            "type": "urn:problem:ngt-renewal:job-not-found",
            "title": "No such job",
            "status": 404,
            "detail": "There is no job 0199c1f2-0000-7000-8000-000000000000.",
            "instance": "/jobs/0199c1f2-0000-7000-8000-000000000000",
            "code": "job-not-found",
            "action": "Check the id; finished jobs are kept 90 days unless configured otherwise.",
            "retryable": False,
            "request_id": "0199c1f2-7d10-7b52-a1ad-3a0f0c9a0b6e",
        }
    )

    type: Word
    title: Word
    status: Annotated[int, Field(ge=400, le=599)]
    detail: Text | MISSING = MISSING
    instance: Annotated[Text, Field(description="The path of the request")]
    code: Annotated[Word, Field(description="A stable word; more may be added")]
    action: Annotated[Text, Field(description="What to do next")]
    retryable: Annotated[bool, Field(description="Whether the same request can succeed later")]
    request_id: Word
    errors: Annotated[list[FieldError], Field(max_length=100)] | MISSING = MISSING
    job_id: Annotated[Id | MISSING, Field(description="The open job of a VM that is busy")] = MISSING


class Step(_Answer):
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


class Plan(_Answer):
    """What a renewal of the VM would do. Nothing was changed."""

    commands: Lines
    guest_address: Word | MISSING = MISSING
    restart: Annotated[Text, Field(description="How the agent would be restarted")]
    proof: Annotated[Text, Field(description="What would prove the renewal")]
    refusal_codes: Lines
    refusals: Annotated[Lines, Field(description="Why it would be refused; empty when it would not")]


class Links(_Answer):
    """Paths of the job's own resources."""

    self: Word
    result: Word
    events: Word
    log: Word


class Job(_Answer):
    """One renewal. Test `done` and `outcome`: `status` may get more words."""

    model_config = _example(
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


class JobList(_Answer):
    """One page of jobs, newest first. Without `next_cursor` it is the last one."""

    items: Annotated[list[Job], Field(max_length=200)]
    next_cursor: Word | MISSING = MISSING


class JobEvent(_Answer):
    """What was shown of a job from `at` on: a version of it that looks different from the one before."""

    model_config = _example(
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


class JobEventList(_Answer):
    """Events of one job, oldest first. The next page is the one `after` the last version of this one."""

    items: Annotated[list[JobEvent], Field(max_length=200)]


class JobEnd(_Answer):
    """What the last event of a stream says."""

    id: Id
    status: Word
    outcome: Word | MISSING = MISSING


class Cluster(_Answer):
    """A configured cluster. Until one renewal was proved on it, one runs at a time."""

    model_config = _example(
        {
            "name": "c1",
            "paused": False,
            "proven": True,
            "mode": "recreate",
            "restart_agent": "ssh",
            "max_running": 3,
            "auto_renew": True,
            "auto_renew_stopped": False,
            "auto_renew_failures_in_a_row": 0,
        }
    )

    name: Word
    paused: bool
    paused_at: Instant | MISSING = MISSING
    paused_by: Text | MISSING = MISSING
    pause_reason: Text | MISSING = MISSING
    proven: bool
    proven_at: Instant | MISSING = MISSING
    mode: Word
    restart_agent: Word
    max_running: Count
    auto_renew: Annotated[bool, Field(description="Whether automatic renewal is switched on")]
    auto_renew_stopped: Annotated[bool, Field(description="Too many in a row failed; see `resumeAutoRenew`")]
    auto_renew_stopped_at: Instant | MISSING = MISSING
    auto_renew_stopped_reason: Text | MISSING = MISSING
    auto_renew_failures_in_a_row: Count


class ClusterList(_Answer):
    """The clusters that the key may use, by name."""

    items: Annotated[list[Cluster], Field(max_length=1000)]


class ServicePause(_Answer):
    """Whether the whole service is paused. With `until` the pause ends by itself."""

    model_config = _example(
        {
            "paused": True,
            "paused_at": "2026-11-24T16:00:00.000Z",
            "paused_by": "operations",
            "reason": "Maintenance of all clusters, CHG0030201",
            "until": "2026-11-24T20:00:00.000Z",
        }
    )

    paused: bool
    paused_at: Instant | MISSING = MISSING
    paused_by: Text | MISSING = MISSING
    reason: Text | MISSING = MISSING
    until: Instant | MISSING = MISSING


class Webhook(_Answer):
    """A configured webhook target. Its secrets, and the path of its address, are not shown."""

    model_config = _example(
        {
            "name": "snow-prod",
            "profile": "servicenow_table",
            "host": "example.service-now.com",
            "events": ["*"],
            "clusters": [],
            "callback_only": True,
            "accepts_record": True,
            "needs_record": True,
            "disabled": False,
        }
    )

    name: Word
    profile: Annotated[Word, Field(description="standard, github-hash, servicenow_table or servicenow_import")]
    host: Word
    events: Annotated[Lines, Field(description="Patterns of the events that it is told of; * for all")]
    clusters: Annotated[Lines, Field(description="The clusters that it is told of; empty for all")]
    callback_only: Annotated[bool, Field(description="It is told only of jobs whose request names it")]
    accepts_record: Annotated[bool, Field(description="A request may give a `callback_record` with it")]
    needs_record: Annotated[bool, Field(description="A request must give a `callback_record` with it")]
    disabled: Annotated[bool, Field(description="It answered 410; a test that it takes enables it again")]
    disabled_at: Instant | MISSING = MISSING
    disabled_because: Text | MISSING = MISSING


class WebhookList(_Answer):
    """The configured webhook targets, by name."""

    items: Annotated[list[Webhook], Field(max_length=1000)]


class Delivery(_Answer):
    """One event for one webhook target. Its id is the `webhook-id`, the same at every attempt."""

    model_config = _example(
        {
            "id": "0199c1f2-9a01-7c11-8f00-6b1f0c9a0b6e",
            "target": "snow-prod",
            "event": "ngt.renewal.succeeded",
            "job_id": "0199c1f2-7d10-7b52-a1ad-3a0f0c9a0b6e",
            "cluster": "c1",
            "record": "CHG0030123",
            "status": "delivered",
            "attempts": 1,
            "last_attempt_at": "2026-11-23T01:02:44.310Z",
            "last_http_status": 200,
            "created_at": "2026-11-23T01:02:44.120Z",
            "finished_at": "2026-11-23T01:02:44.390Z",
        }
    )

    id: Id
    target: Word
    event: Word
    job_id: Id | MISSING = MISSING
    cluster: Word | MISSING = MISSING
    record: Annotated[Word | MISSING, Field(description="The record that the request named")] = MISSING
    status: Annotated[
        Word, Field(description="pending, delivered, exhausted, disabled, removed or superseded; more may come")
    ]
    attempts: Annotated[Count, Field(description="How many were begun")]
    due_at: Annotated[Instant | MISSING, Field(description="When it is sent next, while it is pending")] = MISSING
    last_attempt_at: Instant | MISSING = MISSING
    last_http_status: Annotated[int | MISSING, Field(ge=0, le=999)] = MISSING
    last_error: Annotated[Text | MISSING, Field(description="Why the last attempt did not succeed")] = MISSING
    created_at: Instant
    finished_at: Instant | MISSING = MISSING


class DeliveryList(_Answer):
    """One page of deliveries, newest first. Without `next_cursor` it is the last one."""

    items: Annotated[list[Delivery], Field(max_length=200)]
    next_cursor: Word | MISSING = MISSING


class Check(_Answer):
    """One thing that the service needs."""

    name: Word
    passed: bool


class Health(_Answer):
    """Whether the service works; `checks` with `?verbose=true` and an API key."""

    status: Word
    checks: Annotated[list[Check], Field(max_length=100)] | MISSING = MISSING
    paused: Annotated[bool | MISSING, Field(description="The service is paused, which does not make it unready")] = (
        MISSING
    )


class Meta(_Answer):
    """Which service this is, what it keeps to, and whether it is paused."""

    name: Word
    version: Word
    database_revision: Word | MISSING = MISSING
    docs: Word
    openapi: Word
    server_time_at: Annotated[Instant, Field(description="The clock by which all times are given")]
    max_wait_s: Annotated[Count, Field(description="The longest `wait` of a request")]
    max_queued_jobs: Annotated[Count, Field(description="More are refused with 503 `queue-full`")]
    jobs_kept_days: Annotated[Count, Field(description="How long finished jobs are kept")]
    idempotency_keys_kept_days: Annotated[Count, Field(description="How long an Idempotency-Key counts")]
    deliveries_kept_days: Annotated[Count, Field(description="How long finished deliveries to webhooks are kept")]
    paused: Annotated[bool, Field(description="No new job starts; renewals are accepted, and wait")]
    paused_at: Instant | MISSING = MISSING
    paused_by: Text | MISSING = MISSING
    pause_reason: Text | MISSING = MISSING
    paused_until: Annotated[Instant | MISSING, Field(description="When the pause ends by itself")] = MISSING

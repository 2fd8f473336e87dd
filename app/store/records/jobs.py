"""Jobs as the store returns them, and what starts one. Times are aware and UTC."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from app.ngt.vocabulary import VmUuid
from app.store.records.callers import Caller


class JobStatus(StrEnum):
    """Where a job stands. Clients are told to test `done` and `outcome` instead: this list may grow."""

    QUEUED = "queued"
    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Callback:
    """The receiver of the job's events that a request names: a target, and the caller's record there."""

    target: str
    record: str | None


@dataclass(frozen=True, slots=True)
class NewRenewal:
    """A renewal to store.

    `request` is `app.ngt.renewal.request.RenewalRequest` as JSON, with every default filled in;
    `asked` has the literal members of the request, by which two requests are compared for joining. `automatic_rule` is
    the rule of an automatic renewal.
    """

    vm_uuid: VmUuid
    cluster: str | None
    request: dict[str, Any]
    asked: dict[str, Any]
    validate_only: bool
    fail_on_conflict: bool
    caller: Caller
    correlation_id: str | None = None
    correlation_display: str | None = None
    change_number: str | None = None
    requested_by: str | None = None
    callback: Callback | None = None
    automatic_rule: str | None = None


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """The key of a request, its route, and the hash of its path and canonical body."""

    key: str
    route: str
    request_sha256: str


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step of a job as it is shown. `status`: running, succeeded, failed, lost."""

    name: str
    attempt: int
    status: str
    started_at: datetime
    finished_at: datetime | None
    cvm: str | None
    result_vec: str | None
    message: str


@dataclass(frozen=True, slots=True)
class PlanRecord:
    """The effect of a renewal of the VM (`validate_only`): nothing was changed."""

    commands: tuple[str, ...]
    restart: str
    proof: str
    refusal_codes: tuple[str, ...]
    refusals: tuple[str, ...]
    # None: there is no way into the guest.
    guest_address: str | None = None


@dataclass(frozen=True, slots=True)
class Results:
    """The findings and proofs of a job so far; an unknown value is `None`."""

    mode: str | None = None
    old_not_before: datetime | None = None
    old_not_after: datetime | None = None
    new_not_before: datetime | None = None
    new_not_after: datetime | None = None
    old_serial: str | None = None
    new_serial: str | None = None
    verified_by: str | None = None
    link_active: bool | None = None
    vss_before: bool | None = None
    vss_after: bool | None = None
    file_level_restore_before: bool | None = None
    file_level_restore_after: bool | None = None
    plan: PlanRecord | None = None


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as callers see it. `version` grows with every change (ETag).

    `mode` is None until the configuration of the VM's cluster has decided it.
    """

    id: UUID
    vm_uuid: VmUuid
    validate_only: bool
    status: JobStatus
    done: bool
    outcome: str | None
    message: str
    wait_reason: str | None
    deadline_at: datetime | None
    error_code: str | None
    error_message: str | None
    remaining_action: str | None
    vm_name: str | None
    cluster: str | None
    cvm: str | None
    mode: str | None
    forced: bool
    current_step: str | None
    progress_percent: int
    attempt: int
    version: int
    results: Results
    caller_id: str
    caller: str
    correlation_id: str | None
    correlation_display: str | None
    change_number: str | None
    requested_by: str | None
    automatic_rule: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    updated_at: datetime
    due_at: datetime | None
    steps: tuple[StepRecord, ...] = field(default=())

    def visible_to(self, caller: Caller) -> bool:
        """A key of some clusters sees the jobs of these, and its own while their cluster is not known yet."""
        if caller.clusters is None:
            return True
        return self.caller_id == caller.id if self.cluster is None else caller.may_use(self.cluster)


@dataclass(frozen=True, slots=True)
class StartedRenewal:
    """The job that a request led to: a new one, the same request's (`replayed`), or another's (`joined`)."""

    job: JobRecord
    replayed: bool = False
    joined: bool = False


@dataclass(frozen=True, slots=True)
class Exchange:
    """One text that was sent, and what came back, both masked. Sizes are bounded by the store."""

    step: str
    place: str
    sent_at: datetime
    sent: str
    answered_at: datetime | None
    exit_status: int | None
    stdout: str | None
    stderr: str | None
    fault: str | None

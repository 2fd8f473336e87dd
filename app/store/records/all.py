"""What the store answers with: frozen values, each complete in itself. Times are aware and UTC."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from app.ngt.vocabulary import CertificateSource, VmUuid


class JobStatus(StrEnum):
    """Where a job stands. Clients are told to test `done` and `outcome` instead: this list may grow."""

    QUEUED = "queued"
    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


class DeliveryStatus(StrEnum):
    """Where a delivery stands. All but `pending` are ends, and all ends can be replayed."""

    PENDING = "pending"
    DELIVERED = "delivered"
    # No attempt is left.
    EXHAUSTED = "exhausted"
    # The receiver wanted no more events.
    DISABLED = "disabled"
    # The target is not configured any more.
    REMOVED = "removed"
    # A later event of the job stands on the record already, which this one would overwrite.
    SUPERSEDED = "superseded"


class ScanOrigin(StrEnum):
    """Why a scan was started."""

    REQUESTED = "requested"
    SCHEDULED = "scheduled"
    # Somebody wanted to see one VM as it is now.
    REFRESH = "refresh"
    DIAGNOSIS = "diagnosis"


class ScanStatus(StrEnum):
    """Where a scan stands. `succeeded` is also the end of one that saw only a part: its outcome says so."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class ScanOutcome(StrEnum):
    """What a scan has seen: all that it should, the listing but not the tools' entities, or nothing."""

    COMPLETE = "complete"
    PARTIAL = "partial"
    FAILED = "failed"


class Scope(StrEnum):
    """What an API key may do."""

    VMS_READ = "vms:read"
    JOBS_READ = "jobs:read"
    RENEW = "renew"
    JOBS_CANCEL = "jobs:cancel"
    CERTIFICATES_WRITE = "certificates:write"
    CLUSTERS_SCAN = "clusters:scan"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the key, what it may do, and on which clusters (`None`: on all)."""

    id: str
    name: str
    scopes: frozenset[Scope]
    clusters: frozenset[str] | None

    def may_use(self, cluster: str) -> bool:
        return self.clusters is None or cluster in self.clusters


THIS_SERVICE = Caller("", "this service", frozenset(), None)
"""Who asks for what nobody asked for: the schedule of scans, for one."""


@dataclass(frozen=True, slots=True)
class Callback:
    """Whom a request wants told of the job's events: a configured target, and the caller's record there."""

    target: str
    record: str | None


@dataclass(frozen=True, slots=True)
class NewRenewal:
    """A renewal to store.

    `request` is `app.ngt.renewal.machine.RenewalRequest` as JSON, with every default filled in;
    `asked` is what the caller literally asked for, by which two requests are compared for joining. `automatic_rule` is
    the rule by which the service asks by itself.
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
class Plan:
    """What a renewal of the VM would do (`validate_only`): nothing was changed."""

    commands: tuple[str, ...]
    restart: str
    proof: str
    refusal_codes: tuple[str, ...]
    refusals: tuple[str, ...]
    # None: there is no way into the guest.
    guest_address: str | None = None


@dataclass(frozen=True, slots=True)
class Results:
    """What a job found and proved so far; what is not known is `None`."""

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
    plan: Plan | None = None


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


@dataclass(frozen=True, slots=True)
class Observation:
    """What one source said of a VM's certificate; all but its end may be unknown. As `app.ngt.vocabulary.Certificate`.

    `given_by` is the caller who handed a pushed certificate in.
    """

    vm_uuid: VmUuid
    source: CertificateSource
    observed_at: datetime
    not_after: datetime
    not_before: datetime | None = None
    serial: str | None = None
    fingerprint: str | None = None
    subject: str | None = None
    issuer: str | None = None
    given_by: str | None = None


@dataclass(frozen=True, slots=True)
class ScanCounts:
    """What a scan saw, as far as it got; None: it did not get there.

    `dates_seen`: VMs of which the cluster told the certificate's date. Guests are asked that are configured and on.
    """

    vms_seen: int | None = None
    vms_new: int | None = None
    vms_vanished: int | None = None
    dates_seen: int | None = None
    guests_asked: int | None = None
    guests_failed: int | None = None


@dataclass(frozen=True, slots=True)
class ScanRecord:
    """A scan of a cluster, or of one VM on it (`vm_uuid`), as callers see it. `version` grows with every change."""

    id: UUID
    cluster: str
    vm_uuid: VmUuid | None
    origin: ScanOrigin
    status: ScanStatus
    done: bool
    outcome: ScanOutcome | None
    message: str
    error_code: str | None
    error_message: str | None
    counts: ScanCounts
    version: int
    caller_id: str
    caller: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class StartedScan:
    """The scan that a request led to: a new one, or an open one of the same (`joined`)."""

    scan: ScanRecord
    joined: bool


@dataclass(frozen=True, slots=True)
class ClusterRecord:
    """What is remembered of a configured cluster."""

    name: str
    paused_at: datetime | None
    pause_reason: str | None
    paused_by: str | None
    proven_at: datetime | None
    unproven_in_a_row: int
    watched_at: datetime | None
    auto_failures_in_a_row: int
    auto_stopped_at: datetime | None
    auto_stopped_reason: str | None


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    """One event for one webhook target; `id` is the `webhook-id`, the same at every attempt.

    `facts` is the `data` of the event, ready for JSON; a fact that is not known is absent. `attempts` counts those
    that were begun. `due_at` is None when nothing more will be sent.
    """

    id: UUID
    target: str
    event: str
    job_id: UUID | None
    cluster: str | None
    record: str | None
    facts: dict[str, Any]
    status: DeliveryStatus
    attempts: int
    due_at: datetime | None
    last_attempt_at: datetime | None
    last_http_status: int | None
    last_error: str | None
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """An API key as the operator sees it: never the secret."""

    id: str
    description: str
    scopes: tuple[Scope, ...]
    clusters: tuple[str, ...] | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None

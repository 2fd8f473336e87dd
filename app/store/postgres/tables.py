"""The tables. Rows never leave the store: its functions answer with frozen values of `app.store.records`.

All times are the database's, with time zone. A job's row is the truth about it; a queue entry is only a wake-up.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    Text,
    TextClause,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field, SQLModel


def _time(*, nullable: bool = True, server_default: TextClause | None = None) -> Column[datetime]:
    return Column(DateTime(timezone=True), nullable=nullable, server_default=server_default)


def _text(*, nullable: bool = True) -> Column[str]:
    return Column(Text, nullable=nullable)


_NOW = text("now()")


class JobRow(SQLModel, table=True):
    """One renewal of one VM."""

    __tablename__ = "job"
    __table_args__ = (
        # One open job per VM: two renewals of one VM would delete each other's entity.
        Index("job_one_open_per_vm", "vm_uuid", unique=True, postgresql_where=text("NOT done AND NOT validate_only")),
        Index("job_due", "due_at", postgresql_where=text("NOT done")),
        Index("job_open_by_cluster", "cluster", postgresql_where=text("NOT done")),
        Index("job_by_creation", "created_at", "id"),
        Index("job_by_vm", "vm_uuid", "created_at"),
        Index("job_automatic", "cluster", "created_at", postgresql_where=text("automatic_rule IS NOT NULL")),
        Index("job_by_change_number", "change_number", postgresql_where=text("change_number IS NOT NULL")),
    )

    id: UUID = Field(primary_key=True)
    vm_uuid: str = Field(sa_column=_text(nullable=False))
    validate_only: bool = Field(sa_column=Column(Boolean, nullable=False))

    # Shown to callers.
    status: str = Field(sa_column=_text(nullable=False))
    done: bool = Field(sa_column=Column(Boolean, nullable=False))
    outcome: str | None = Field(sa_column=_text())
    message: str = Field(sa_column=_text(nullable=False))
    wait_reason: str | None = Field(sa_column=_text())
    deadline_at: datetime | None = Field(sa_column=_time())
    error_code: str | None = Field(sa_column=_text())
    error_message: str | None = Field(sa_column=_text())
    remaining_action: str | None = Field(sa_column=_text())
    vm_name: str | None = Field(sa_column=_text())
    cluster: str | None = Field(sa_column=_text())
    cvm: str | None = Field(sa_column=_text())
    current_step: str | None = Field(sa_column=_text())
    progress_percent: int = Field(sa_column=Column(Integer, nullable=False))
    attempt: int = Field(sa_column=Column(Integer, nullable=False))
    # The facts of `app.store.records.jobs.Results`: dates, serials, capabilities, the plan.
    results: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))

    # The request and its caller.
    request: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    # The request without defaults: an equal one may join this job.
    asked: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    caller_id: str = Field(sa_column=_text(nullable=False))
    caller: str = Field(sa_column=_text(nullable=False))
    correlation_id: str | None = Field(sa_column=_text())
    correlation_display: str | None = Field(sa_column=_text())
    change_number: str | None = Field(sa_column=_text())
    requested_by: str | None = Field(sa_column=_text())
    # The rule by which the service started it automatically; null: a caller requested it.
    automatic_rule: str | None = Field(sa_column=_text())
    # The callback targets of this job: a list, since each joined request may name its own.
    callback: list[dict[str, Any]] | None = Field(sa_column=Column(JSONB))

    # The state of the renewal: `app.ngt.renewal.progress.Progress`.
    progress: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))

    # The lease, and the next due time. A job without `due_at` waits for the pickup poller or a caller.
    version: int = Field(sa_column=Column(Integer, nullable=False))
    fence: int = Field(sa_column=Column(Integer, nullable=False))
    runner: str | None = Field(sa_column=_text())
    lease_until: datetime | None = Field(sa_column=_time())
    due_at: datetime | None = Field(sa_column=_time())
    # Takes one of the cluster's `max_running` slots while it runs: it has not finished its changes on the cluster.
    takes_slot: bool = Field(sa_column=Column(Boolean, nullable=False))
    # The first intent to change anything; from then on the job cannot be cancelled or held by a pause.
    changing_since: datetime | None = Field(sa_column=_time())
    # A change may still run on a CVM until then; no other change of this VM is sent before.
    remote_until_at: datetime | None = Field(sa_column=_time())
    stranded_since: datetime | None = Field(sa_column=_time())
    # A caller reported a change: the job runs at once, or, if it runs now, again after its release.
    look_now: bool = Field(sa_column=Column(Boolean, nullable=False))

    created_at: datetime = Field(sa_column=_time(nullable=False, server_default=_NOW))
    started_at: datetime | None = Field(sa_column=_time())
    finished_at: datetime | None = Field(sa_column=_time())
    updated_at: datetime = Field(sa_column=_time(nullable=False, server_default=_NOW))


class StepRow(SQLModel, table=True):
    """One step of one job: the intent, then the answer."""

    __tablename__ = "step"

    job_id: UUID = Field(sa_column=Column(ForeignKey("job.id", ondelete="CASCADE"), primary_key=True))
    number: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    name: str = Field(sa_column=_text(nullable=False))
    attempt: int = Field(sa_column=Column(Integer, nullable=False))
    status: str = Field(sa_column=_text(nullable=False))
    started_at: datetime = Field(sa_column=_time(nullable=False))
    finished_at: datetime | None = Field(sa_column=_time())
    cvm: str | None = Field(sa_column=_text())
    result_vec: str | None = Field(sa_column=_text())
    message: str = Field(sa_column=_text(nullable=False))


class JobEventRow(SQLModel, table=True):
    """A job as it was shown at one of its versions. A trigger of the table `job` writes every row."""

    __tablename__ = "job_event"

    job_id: UUID = Field(sa_column=Column(ForeignKey("job.id", ondelete="CASCADE"), primary_key=True))
    version: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    at: datetime = Field(sa_column=_time(nullable=False))
    status: str = Field(sa_column=_text(nullable=False))
    done: bool = Field(sa_column=Column(Boolean, nullable=False))
    outcome: str | None = Field(sa_column=_text())
    wait_reason: str | None = Field(sa_column=_text())
    error_code: str | None = Field(sa_column=_text())
    current_step: str | None = Field(sa_column=_text())
    progress_percent: int = Field(sa_column=Column(Integer, nullable=False))
    attempt: int = Field(sa_column=Column(Integer, nullable=False))
    message: str = Field(sa_column=_text(nullable=False))


class ExchangeRow(SQLModel, table=True):
    """One command that was sent for a job, and its answer, both masked."""

    __tablename__ = "exchange"
    __table_args__ = (Index("exchange_by_job", "job_id", "id"),)

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    job_id: UUID = Field(sa_column=Column(ForeignKey("job.id", ondelete="CASCADE"), nullable=False))
    step: str = Field(sa_column=_text(nullable=False))
    place: str = Field(sa_column=_text(nullable=False))
    sent_at: datetime = Field(sa_column=_time(nullable=False))
    sent: str = Field(sa_column=_text(nullable=False))
    answered_at: datetime | None = Field(sa_column=_time())
    exit_status: int | None = Field(sa_column=Column(Integer))
    stdout: str | None = Field(sa_column=_text())
    stderr: str | None = Field(sa_column=_text())
    fault: str | None = Field(sa_column=_text())


class CorrelationRow(SQLModel, table=True):
    """A correlation id of a job; each joined request adds its own."""

    __tablename__ = "correlation"
    __table_args__ = (Index("correlation_by_id", "correlation_id"),)

    job_id: UUID = Field(sa_column=Column(ForeignKey("job.id", ondelete="CASCADE"), primary_key=True))
    correlation_id: str = Field(sa_column=Column(Text, primary_key=True))


class IdempotencyRow(SQLModel, table=True):
    """The idempotency key of a request, and the job that it started."""

    __tablename__ = "idempotency"

    caller_id: str = Field(sa_column=Column(Text, primary_key=True))
    route: str = Field(sa_column=Column(Text, primary_key=True))
    key: str = Field(sa_column=Column(Text, primary_key=True))
    request_sha256: str = Field(sa_column=_text(nullable=False))
    # Deferred, since the key is claimed before its job is written: of two requests with one key the second waits here.
    job_id: UUID = Field(
        sa_column=Column(
            ForeignKey("job.id", ondelete="CASCADE", deferrable=True, initially="DEFERRED"), nullable=False, index=True
        )
    )
    created_at: datetime = Field(sa_column=_time(nullable=False, server_default=_NOW))


class VmRow(SQLModel, table=True):
    """A VM on its cluster as it was last seen, the best observation of its certificate, and its last renewal."""

    __tablename__ = "vm"
    __table_args__ = (
        Index("vm_awaiting_pickup", "cluster", postgresql_where=text("awaiting_pickup_since IS NOT NULL")),
        # VMs are listed by expiry, earliest first; unknown dates come last.
        Index("vm_by_not_after", "not_after", "vm_uuid", "cluster"),
        Index("vm_by_name", "name", "vm_uuid", "cluster"),
        Index("vm_by_cluster", "cluster", "not_after"),
    )

    vm_uuid: str = Field(sa_column=Column(Text, primary_key=True))
    cluster: str = Field(sa_column=Column(Text, primary_key=True))
    name: str | None = Field(sa_column=_text())
    # From the last scan, in the words of `app.ngt.vocabulary`; null: unknown, or never scanned.
    power: str | None = Field(sa_column=_text())
    addresses: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False, server_default=text("'{}'")))
    ngt_enabled: bool | None = Field(sa_column=Column(Boolean))
    iso_mounted: bool | None = Field(sa_column=Column(Boolean))
    link_active: bool | None = Field(sa_column=Column(Boolean))
    vss_snapshot: bool | None = Field(sa_column=Column(Boolean))
    file_level_restore: bool | None = Field(sa_column=Column(Boolean))
    communication_type: str | None = Field(sa_column=_text())
    # The VM tools entity's own id; `has_entity` null: the query was not answered.
    ngt_uuid: str | None = Field(sa_column=_text())
    has_entity: bool | None = Field(sa_column=Column(Boolean))
    first_seen_at: datetime | None = Field(sa_column=_time())
    last_seen_at: datetime | None = Field(sa_column=_time())
    # A complete listing of its cluster did not contain the VM; the row stays.
    vanished_at: datetime | None = Field(sa_column=_time())
    # The fault of the last read of the guest's certificate; null when it succeeded.
    guest_fault_code: str | None = Field(sa_column=_text())
    guest_fault: str | None = Field(sa_column=_text())
    guest_fault_at: datetime | None = Field(sa_column=_time())
    # The last pickup poll, as `app.ngt.renewal.progress.Sighting`; `changed_at` moves only when it differs.
    sighting: dict[str, Any] | None = Field(sa_column=Column(JSONB))
    observed_at: datetime | None = Field(sa_column=_time())
    changed_at: datetime | None = Field(sa_column=_time())
    # When a renewal was last proved.
    renewed_at: datetime | None = Field(sa_column=_time())
    # The best of the VM's rows in `certificate_observation`, chosen by `app.store.observations`.
    certificate_source: str | None = Field(sa_column=_text())
    certificate_observed_at: datetime | None = Field(sa_column=_time())
    not_before: datetime | None = Field(sa_column=_time())
    not_after: datetime | None = Field(sa_column=_time())
    serial: str | None = Field(sa_column=_text())
    fingerprint: str | None = Field(sa_column=_text())
    subject: str | None = Field(sa_column=_text())
    issuer: str | None = Field(sa_column=_text())
    # A new certificate was issued for the VM and has not been seen in it yet.
    awaiting_pickup_since: datetime | None = Field(sa_column=_time())
    last_job_id: UUID | None = Field(default=None)


class CertificateObservationRow(SQLModel, table=True):
    """One source's last observation of a VM's certificate; `source` as `app.ngt.vocabulary.CertificateSource`."""

    __tablename__ = "certificate_observation"
    __table_args__ = (ForeignKeyConstraint(["vm_uuid", "cluster"], ["vm.vm_uuid", "vm.cluster"], ondelete="CASCADE"),)

    vm_uuid: str = Field(sa_column=Column(Text, primary_key=True))
    cluster: str = Field(sa_column=Column(Text, primary_key=True))
    source: str = Field(sa_column=Column(Text, primary_key=True))
    observed_at: datetime = Field(sa_column=_time(nullable=False))
    not_before: datetime | None = Field(sa_column=_time())
    not_after: datetime = Field(sa_column=_time(nullable=False))
    serial: str | None = Field(sa_column=_text())
    fingerprint: str | None = Field(sa_column=_text())
    subject: str | None = Field(sa_column=_text())
    issuer: str | None = Field(sa_column=_text())
    # The caller who pushed the certificate.
    given_by: str | None = Field(sa_column=_text())


class CertificateWarningRow(SQLModel, table=True):
    """A warning that a certificate expires in so many days; 0: it has expired.

    One row covers all greater numbers of days too.
    """

    __tablename__ = "certificate_warning"
    __table_args__ = (ForeignKeyConstraint(["vm_uuid", "cluster"], ["vm.vm_uuid", "vm.cluster"], ondelete="CASCADE"),)

    vm_uuid: str = Field(sa_column=Column(Text, primary_key=True))
    cluster: str = Field(sa_column=Column(Text, primary_key=True))
    # Identifies the certificate: its end is the only fact that every source has.
    not_after: datetime = Field(sa_column=Column(DateTime(timezone=True), primary_key=True))
    days_before: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    # False: only the daily digest contains it, since the day's limit of events was reached.
    own_event: bool = Field(sa_column=Column(Boolean, nullable=False))
    warned_at: datetime = Field(sa_column=_time(nullable=False, server_default=_NOW))


class ScanRow(SQLModel, table=True):
    """One scan of a cluster, or of one VM on it. It only reads, so it starts over if its runner dies."""

    __tablename__ = "scan"
    __table_args__ = (
        # A request for a scan that is open joins it.
        Index(
            "scan_one_open", "cluster", text("coalesce(vm_uuid, '')"), unique=True, postgresql_where=text("NOT done")
        ),
        Index("scan_by_creation", "created_at", "id"),
        Index("scan_by_cluster", "cluster", "created_at"),
    )

    id: UUID = Field(primary_key=True)
    cluster: str = Field(sa_column=_text(nullable=False))
    # Null: all VMs of the cluster.
    vm_uuid: str | None = Field(sa_column=_text())
    # The origin: requested, scheduled, refresh, diagnosis.
    origin: str = Field(sa_column=_text(nullable=False))
    caller_id: str = Field(sa_column=_text(nullable=False))
    caller: str = Field(sa_column=_text(nullable=False))

    status: str = Field(sa_column=_text(nullable=False))
    done: bool = Field(sa_column=Column(Boolean, nullable=False))
    outcome: str | None = Field(sa_column=_text())
    message: str = Field(sa_column=_text(nullable=False))
    error_code: str | None = Field(sa_column=_text())
    error_message: str | None = Field(sa_column=_text())
    vms_seen: int | None = Field(sa_column=Column(Integer))
    vms_new: int | None = Field(sa_column=Column(Integer))
    vms_vanished: int | None = Field(sa_column=Column(Integer))
    dates_seen: int | None = Field(sa_column=Column(Integer))
    guests_asked: int | None = Field(sa_column=Column(Integer))
    guests_failed: int | None = Field(sa_column=Column(Integer))

    version: int = Field(sa_column=Column(Integer, nullable=False))
    fence: int = Field(sa_column=Column(Integer, nullable=False))
    runner: str | None = Field(sa_column=_text())
    lease_until: datetime | None = Field(sa_column=_time())
    due_at: datetime | None = Field(sa_column=_time())
    created_at: datetime = Field(sa_column=_time(nullable=False, server_default=_NOW))
    started_at: datetime | None = Field(sa_column=_time())
    finished_at: datetime | None = Field(sa_column=_time())
    updated_at: datetime = Field(sa_column=_time(nullable=False, server_default=_NOW))


class CvmRow(SQLModel, table=True):
    """A CVM as the workers last found it."""

    __tablename__ = "cvm"

    cluster: str = Field(sa_column=Column(Text, primary_key=True))
    address: str = Field(sa_column=Column(Text, primary_key=True))
    is_up: bool = Field(sa_column=Column(Boolean, nullable=False))
    # The time of the last change of `is_up`, and of the last check.
    changed_at: datetime = Field(sa_column=_time(nullable=False))
    checked_at: datetime = Field(sa_column=_time(nullable=False))
    fault_code: str | None = Field(sa_column=_text())
    fault: str | None = Field(sa_column=_text())


class ClusterRow(SQLModel, table=True):
    """The state of a configured cluster."""

    __tablename__ = "cluster"

    name: str = Field(sa_column=Column(Text, primary_key=True))
    paused_at: datetime | None = Field(sa_column=_time())
    pause_reason: str | None = Field(sa_column=_text())
    paused_by: str | None = Field(sa_column=_text())
    # The time of the first proved renewal; until then one runs at a time.
    proven_at: datetime | None = Field(sa_column=_time())
    unproven_in_a_row: int = Field(sa_column=Column(Integer, nullable=False, server_default=text("0")))
    watch_due_at: datetime | None = Field(sa_column=_time())
    # The last complete scan of all its VMs; and the fault of the last scan, null when it was complete.
    scanned_at: datetime | None = Field(sa_column=_time())
    scan_fault_code: str | None = Field(sa_column=_text())
    scan_fault: str | None = Field(sa_column=_text())
    scan_fault_at: datetime | None = Field(sa_column=_time())
    # The last daily digest of its certificates.
    digest_at: datetime | None = Field(sa_column=_time())
    # Consecutive failures of automatic renewals, and the reason why no more are started.
    auto_failures_in_a_row: int = Field(sa_column=Column(Integer, nullable=False, server_default=text("0")))
    auto_stopped_at: datetime | None = Field(sa_column=_time())
    auto_stopped_reason: str | None = Field(sa_column=_text())


class PauseRow(SQLModel, table=True):
    """The pause of the whole service; there is at most one row."""

    __tablename__ = "pause"
    __table_args__ = (CheckConstraint("single", name="pause_single"),)

    single: bool = Field(sa_column=Column(Boolean, primary_key=True, server_default=text("true")))
    paused_at: datetime = Field(sa_column=_time(nullable=False, server_default=_NOW))
    paused_by: str = Field(sa_column=_text(nullable=False))
    reason: str | None = Field(sa_column=_text())
    # A pause without an end lasts until an operator resumes.
    until: datetime | None = Field(sa_column=_time())


class DeliveryRow(SQLModel, table=True):
    """One event for one webhook target, written with its cause (an outbox). Its id is the `webhook-id`."""

    __tablename__ = "delivery"
    __table_args__ = (
        Index("delivery_due", "target", "due_at", postgresql_where=text("due_at IS NOT NULL")),
        Index("delivery_by_target", "target", "created_at", "id"),
        Index("delivery_by_job", "job_id"),
    )

    id: UUID = Field(primary_key=True)
    target: str = Field(sa_column=_text(nullable=False))
    event: str = Field(sa_column=_text(nullable=False))
    job_id: UUID | None = Field(sa_column=Column(ForeignKey("job.id", ondelete="CASCADE")))
    cluster: str | None = Field(sa_column=_text())
    # The record that the request named: a sys_id, or a number such as CHG0030123.
    record: str | None = Field(sa_column=_text())
    # The `data` of the event; the target's profile makes a body of them.
    facts: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    status: str = Field(sa_column=_text(nullable=False))
    attempts: int = Field(sa_column=Column(Integer, nullable=False, server_default=text("0")))
    # The next attempt; null: none, unless it is replayed.
    due_at: datetime | None = Field(sa_column=_time())
    lease_until: datetime | None = Field(sa_column=_time())
    last_attempt_at: datetime | None = Field(sa_column=_time())
    last_http_status: int | None = Field(sa_column=Column(Integer))
    last_error: str | None = Field(sa_column=_text())
    created_at: datetime = Field(sa_column=_time(nullable=False, server_default=_NOW))
    finished_at: datetime | None = Field(sa_column=_time())


class WebhookTargetRow(SQLModel, table=True):
    """The state of a configured webhook target."""

    __tablename__ = "webhook_target"

    name: str = Field(sa_column=Column(Text, primary_key=True))
    # The receiver answered 410; a successful test or an operator enables the target again.
    disabled_at: datetime | None = Field(sa_column=_time())
    disabled_because: str | None = Field(sa_column=_text())


class KeyRow(SQLModel, table=True):
    """An API key: never the secret, only its SHA-256."""

    __tablename__ = "api_key"

    id: str = Field(sa_column=Column(Text, primary_key=True))
    secret_sha256: str = Field(sa_column=_text(nullable=False))
    description: str = Field(sa_column=_text(nullable=False))
    scopes: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    # The clusters that the key may use; null means all.
    clusters: list[str] | None = Field(sa_column=Column(ARRAY(Text)))
    created_at: datetime = Field(sa_column=_time(nullable=False, server_default=_NOW))
    expires_at: datetime | None = Field(sa_column=_time())
    revoked_at: datetime | None = Field(sa_column=_time())
    last_used_at: datetime | None = Field(sa_column=_time())


class QueueSchemaRow(SQLModel, table=True):
    """The version of procrastinate that the queue's tables belong to; there is one row."""

    __tablename__ = "queue_schema"

    version: str = Field(sa_column=Column(Text, primary_key=True))


# The same tables for statements of SQLAlchemy Core, which the store runs.
JOB = SQLModel.metadata.tables["job"]
STEP = SQLModel.metadata.tables["step"]
JOB_EVENT = SQLModel.metadata.tables["job_event"]
EXCHANGE = SQLModel.metadata.tables["exchange"]
CORRELATION = SQLModel.metadata.tables["correlation"]
IDEMPOTENCY = SQLModel.metadata.tables["idempotency"]
VM = SQLModel.metadata.tables["vm"]
CERTIFICATE_OBSERVATION = SQLModel.metadata.tables["certificate_observation"]
CERTIFICATE_WARNING = SQLModel.metadata.tables["certificate_warning"]
SCAN = SQLModel.metadata.tables["scan"]
CVM = SQLModel.metadata.tables["cvm"]
CLUSTER = SQLModel.metadata.tables["cluster"]
PAUSE = SQLModel.metadata.tables["pause"]
DELIVERY = SQLModel.metadata.tables["delivery"]
WEBHOOK_TARGET = SQLModel.metadata.tables["webhook_target"]
API_KEY = SQLModel.metadata.tables["api_key"]

"""Reading jobs: one with its steps, lists newest first, the log, and the counts for metrics."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, RowMapping, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.ngt.errors import Fault, FaultCode
from app.ngt.renewal.progress import WaitReason
from app.ngt.vocabulary import VmUuid
from app.store.postgres.database import Database
from app.store.postgres.pages import PageCursor, newest_first
from app.store.postgres.tables import CORRELATION, EXCHANGE, JOB, STEP, VM
from app.store.records.callers import Caller
from app.store.records.jobs import Exchange, JobRecord, JobStatus, StepRecord
from app.store.records.rows import job_record, record_of

_PAUSED = (WaitReason.SERVICE_PAUSED, WaitReason.CLUSTER_PAUSED)


@dataclass(frozen=True, slots=True)
class JobFilter:
    """The filter of a list of jobs; None means any.

    `created_after` is included, `created_before` is not. `correlation_id` finds joined requests too. `caller` limits
    the list to the jobs that this caller may see (`JobRecord.visible_to`).
    """

    status: JobStatus | None = None
    done: bool | None = None
    vm_uuid: VmUuid | None = None
    cluster: str | None = None
    correlation_id: str | None = None
    change_number: str | None = None
    automatic: bool | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    job_ids: tuple[UUID, ...] | None = None
    caller: Caller | None = None


@dataclass(frozen=True, slots=True)
class JobCounts:
    """The numbers of jobs and VMs for metrics; the last two by cluster.

    `oldest_queued_at` leaves out the jobs that a pause holds.
    """

    open_by_status: dict[JobStatus, int]
    oldest_queued_at: datetime | None
    stranded: dict[str, int]
    awaiting_pickup: dict[str, int]


class JobQueries:
    """Reads the jobs of one database. Every method raises Fault `database-unavailable` when it does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, job_id: UUID) -> JobRecord | None:
        """The job with its steps."""
        async with self._database.transaction() as connection:
            return await find_job(connection, job_id)

    async def list(
        self, wanted: JobFilter, *, limit: int = 50, after: PageCursor | None = None
    ) -> tuple[JobRecord, ...]:
        """At most `limit` jobs with their steps, newest first, from below `after`; two queries for any number."""
        page = newest_first(JOB, limit, after).where(*_conditions(wanted))
        async with self._database.transaction() as connection:
            return await with_steps(connection, (await connection.execute(page)).mappings())

    async def read_log(self, job_id: UUID) -> tuple[Exchange, ...]:
        """The texts that were sent for the job, and their answers, in order."""
        logged = select(EXCHANGE).where(EXCHANGE.c.job_id == job_id).order_by(EXCHANGE.c.sent_at, EXCHANGE.c.id)
        async with self._database.transaction() as connection:
            return tuple(record_of(Exchange, row) for row in (await connection.execute(logged)).mappings())

    async def counts(self) -> JobCounts:
        held_by_pause = func.coalesce(JOB.c.wait_reason.in_(_PAUSED), False)
        oldest = func.min(JOB.c.created_at).filter(~held_by_pause)
        by_status = select(JOB.c.status, func.count(), oldest).where(~JOB.c.done)
        stranded = select(JOB.c.cluster, func.count()).where(~JOB.c.done, JOB.c.stranded_since.is_not(None))
        awaiting = select(VM.c.cluster, func.count()).where(
            VM.c.awaiting_pickup_since.is_not(None), VM.c.vanished_at.is_(None)
        )
        async with self._database.transaction() as connection:
            statuses = (await connection.execute(by_status.group_by(JOB.c.status))).all()
            stranded_rows = (await connection.execute(stranded.group_by(JOB.c.cluster))).all()
            awaiting_rows = (await connection.execute(awaiting.group_by(VM.c.cluster))).all()
        return JobCounts(
            open_by_status={JobStatus(status): count for status, count, _ in statuses},
            oldest_queued_at=next((oldest for status, _, oldest in statuses if status == JobStatus.QUEUED), None),
            stranded=dict(stranded_rows),
            awaiting_pickup=dict(awaiting_rows),
        )


async def find_job(connection: AsyncConnection, job_id: UUID) -> JobRecord | None:
    found = await with_steps(connection, (await connection.execute(select(JOB).where(JOB.c.id == job_id))).mappings())
    return found[0] if found else None


async def get_job(connection: AsyncConnection, job_id: UUID) -> JobRecord:
    """Raises Fault `job-not-found`."""
    if (job := await find_job(connection, job_id)) is None:
        raise Fault(FaultCode.JOB_NOT_FOUND, f"There is no job {job_id}.")
    return job


async def with_steps(connection: AsyncConnection, rows: Iterable[RowMapping]) -> tuple[JobRecord, ...]:
    """The rows as records, in their order, each with its steps; one query for all of them."""
    jobs = tuple(rows)
    steps: defaultdict[UUID, list[StepRecord]] = defaultdict(list)
    if jobs:
        of_jobs = STEP.c.job_id.in_([job["id"] for job in jobs])
        wanted = select(STEP).where(of_jobs).order_by(STEP.c.job_id, STEP.c.number)
        for step in (await connection.execute(wanted)).mappings():
            steps[step["job_id"]].append(record_of(StepRecord, step))
    return tuple(job_record(job, tuple(steps[job["id"]])) for job in jobs)


def _conditions(wanted: JobFilter) -> list[ColumnElement[bool]]:
    equal = {
        JOB.c.status: wanted.status,
        JOB.c.done: wanted.done,
        JOB.c.vm_uuid: wanted.vm_uuid,
        JOB.c.cluster: wanted.cluster,
        JOB.c.change_number: wanted.change_number,
    }
    conditions: list[ColumnElement[bool]] = [column == value for column, value in equal.items() if value is not None]
    if wanted.correlation_id is not None:
        asked = select(CORRELATION.c.job_id).where(CORRELATION.c.correlation_id == wanted.correlation_id)
        conditions.append(JOB.c.id.in_(asked))
    if wanted.automatic is not None:
        by_rule = JOB.c.automatic_rule.is_not(None)
        conditions.append(by_rule if wanted.automatic else ~by_rule)
    if wanted.created_after is not None:
        conditions.append(JOB.c.created_at >= wanted.created_after)
    if wanted.created_before is not None:
        conditions.append(JOB.c.created_at < wanted.created_before)
    if wanted.job_ids is not None:
        conditions.append(JOB.c.id.in_(wanted.job_ids))
    if wanted.caller is not None and wanted.caller.clusters is not None:
        own = and_(JOB.c.cluster.is_(None), JOB.c.caller_id == wanted.caller.id)
        conditions.append(or_(JOB.c.cluster.in_(sorted(wanted.caller.clusters)), own))
    return conditions

"""How a row of `job` becomes a record, and the one way in which a row is changed: counted, dated and announced."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Text, func, select, update
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql.dml import Insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.dml import ReturningInsert, ReturningUpdate

from app.ngt.errors import Fault, FaultCode
from app.store.postgres.tables import JOB, STEP
from app.store.records.jobs import JobRecord, StepRecord
from app.store.records.rows import JobValues, job_record, step_record

JOB_CHANNEL = "ngt_job"
"""The channel on which every change of a job is announced, with its id."""

_ANNOUNCED = func.pg_notify(JOB_CHANNEL, sql_cast(JOB.c.id, Text))


def update_job(job_id: UUID, **values: object) -> ReturningUpdate[Any]:
    """The statement that changes a job: it raises the version, and announces the job once it is committed.

    Returns the changed row.
    """
    return update_jobs(JOB.c.id == job_id, **values)


def update_jobs(*which: ColumnElement[bool], **values: object) -> ReturningUpdate[Any]:
    """The same for all jobs that meet the conditions."""
    changed = update(JOB).where(*which)
    return changed.values(version=JOB.c.version + 1, updated_at=func.now(), **values).returning(JOB, _ANNOUNCED)


def returning_with_notify(inserted: Insert) -> ReturningInsert[Any]:
    """The insertion of a job, announced once it is committed; returns the row."""
    return inserted.returning(JOB, _ANNOUNCED)


async def lock_job(connection: AsyncConnection, job_id: UUID) -> JobValues:
    """The job's row, which nobody else changes until this transaction ends. Raises Fault `job-not-found`."""
    locked = select(JOB).where(JOB.c.id == job_id).with_for_update(key_share=True)
    row = (await connection.execute(locked)).mappings().first()
    if row is None:
        raise Fault(FaultCode.JOB_NOT_FOUND, f"There is no job {job_id}.")
    return row


async def with_steps(connection: AsyncConnection, rows: Iterable[JobValues]) -> tuple[JobRecord, ...]:
    """The rows as records, in their order, each with its steps; one query for all of them."""
    jobs = tuple(rows)
    steps: defaultdict[UUID, list[StepRecord]] = defaultdict(list)
    if jobs:
        of_jobs = STEP.c.job_id.in_([job["id"] for job in jobs])
        wanted = select(STEP).where(of_jobs).order_by(STEP.c.job_id, STEP.c.number)
        for step in (await connection.execute(wanted)).mappings():
            steps[step["job_id"]].append(step_record(step))
    return tuple(job_record(job, tuple(steps[job["id"]])) for job in jobs)

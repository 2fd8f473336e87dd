"""Changes of rows of `job`: each one raises the version, sets the time, and is announced once it is committed."""

from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, RowMapping, Text, func, select, update
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql.dml import Insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.dml import ReturningInsert, ReturningUpdate

from app.ngt.errors import Fault, FaultCode
from app.store.postgres.tables import JOB

JOB_CHANNEL = "ngt_job"
"""The channel on which every change of a job is announced, with its id."""

_NOTIFY = func.pg_notify(JOB_CHANNEL, sql_cast(JOB.c.id, Text))


def update_job(job_id: UUID, **values: object) -> ReturningUpdate[Any]:
    """The statement that changes a job and returns its row."""
    return update_jobs(JOB.c.id == job_id, **values)


def update_jobs(*which: ColumnElement[bool], **values: object) -> ReturningUpdate[Any]:
    """The statement that changes all jobs that meet the conditions, and returns their rows."""
    changed = update(JOB).where(*which)
    return changed.values(version=JOB.c.version + 1, updated_at=func.now(), **values).returning(JOB, _NOTIFY)


def returning_with_notify(inserted: Insert) -> ReturningInsert[Any]:
    """The statement that inserts a job and returns its row."""
    return inserted.returning(JOB, _NOTIFY)


async def lock_job(connection: AsyncConnection, job_id: UUID) -> RowMapping:
    """The job's row, locked against changes until this transaction ends. Raises Fault `job-not-found`."""
    locked = select(JOB).where(JOB.c.id == job_id).with_for_update(key_share=True)
    row = (await connection.execute(locked)).mappings().first()
    if row is None:
        raise Fault(FaultCode.JOB_NOT_FOUND, f"There is no job {job_id}.")
    return row

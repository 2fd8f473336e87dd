"""Finding jobs: newest first, page after page, and only those that the caller may see."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, and_, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from app.ngt.vocabulary import VmUuid
from app.store.jobs.mapping import with_steps
from app.store.postgres.pages import PageCursor
from app.store.postgres.tables import CORRELATION, JOB
from app.store.records.callers import Caller
from app.store.records.jobs import JobRecord, JobStatus


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs are wanted; None means any.

    `created_after` is included, `created_before` is not. `correlation_id` finds joined requests too. With `caller`
    only the jobs are found that this caller may see (`JobRecord.visible_to`).
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


async def search(
    connection: AsyncConnection, wanted: JobFilter, limit: int, after: PageCursor | None
) -> tuple[JobRecord, ...]:
    """At most `limit` jobs with their steps, newest first; two queries whatever the number."""
    statement = select(JOB).where(*_conditions(wanted)).order_by(JOB.c.created_at.desc(), JOB.c.id.desc()).limit(limit)
    if after is not None:
        statement = statement.where(tuple_(JOB.c.created_at, JOB.c.id) < tuple_(after.created_at, after.id))
    return await with_steps(connection, (await connection.execute(statement)).mappings())


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

"""How a row of `job` becomes a record, and the one way in which a row is changed: counted, dated and announced."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, cast
from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, RowMapping, Text, func, select, update
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql.dml import Insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.dml import ReturningInsert, ReturningUpdate

from app.ngt.errors import Fault, FaultCode
from app.ngt.vocabulary import VmUuid
from app.store.postgres.tables import JOB, STEP
from app.store.records.all import JobRecord, JobStatus, Results, StepRecord

JobValues = RowMapping
"""One row of `job` by column name."""

JOB_CHANNEL = "ngt_job"
"""The channel on which every change of a job is announced, with its id."""

_RESULTS = TypeAdapter(Results)
_ANNOUNCED = func.pg_notify(JOB_CHANNEL, sql_cast(JOB.c.id, Text))


def change_job(job_id: UUID, **values: object) -> ReturningUpdate[Any]:
    """The statement that changes a job: it raises the version, and announces the job once it is committed.

    Returns the changed row.
    """
    return change_jobs(JOB.c.id == job_id, **values)


def change_jobs(*which: ColumnElement[bool], **values: object) -> ReturningUpdate[Any]:
    """The same for all jobs that meet the conditions."""
    changed = update(JOB).where(*which)
    return changed.values(version=JOB.c.version + 1, updated_at=func.now(), **values).returning(JOB, _ANNOUNCED)


def announced(inserted: Insert) -> ReturningInsert[Any]:
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
            steps[step["job_id"]].append(_step_record(step))
    return tuple(job_record(job, tuple(steps[job["id"]])) for job in jobs)


def job_record(job: JobValues, steps: tuple[StepRecord, ...] = ()) -> JobRecord:
    return JobRecord(
        id=job["id"],
        vm_uuid=VmUuid(job["vm_uuid"]),
        validate_only=job["validate_only"],
        status=JobStatus(job["status"]),
        done=job["done"],
        outcome=job["outcome"],
        message=job["message"],
        wait_reason=job["wait_reason"],
        deadline_at=job["deadline_at"],
        error_code=job["error_code"],
        error_message=job["error_message"],
        remaining_action=job["remaining_action"],
        vm_name=job["vm_name"],
        cluster=job["cluster"],
        cvm=job["cvm"],
        mode=job["request"].get("mode") or job["results"].get("mode"),
        forced=job["request"].get("force", False),
        current_step=job["current_step"],
        progress_percent=job["progress_percent"],
        attempt=job["attempt"],
        version=job["version"],
        results=load_results(job["results"]),
        caller_id=job["caller_id"],
        caller=job["caller"],
        correlation_id=job["correlation_id"],
        correlation_display=job["correlation_display"],
        change_number=job["change_number"],
        requested_by=job["requested_by"],
        automatic_rule=job["automatic_rule"],
        created_at=job["created_at"],
        started_at=job["started_at"],
        finished_at=job["finished_at"],
        updated_at=job["updated_at"],
        due_at=job["due_at"],
        steps=steps,
    )


def load_results(stored: Mapping[str, Any]) -> Results:
    return _RESULTS.validate_python(stored)


def dump_results(results: Results) -> dict[str, Any]:
    """As it is stored in `job.results`: what is not known is left out."""
    return cast("dict[str, Any]", _RESULTS.dump_python(results, mode="json", exclude_none=True))


def _step_record(step: RowMapping) -> StepRecord:
    return StepRecord(**{name: step[name] for name in StepRecord.__slots__})

"""How a row of a table becomes a record."""

from collections.abc import Mapping
from typing import Any, cast

from pydantic import TypeAdapter
from sqlalchemy import RowMapping

from app.ngt.vocabulary import VmUuid
from app.store.records.jobs import JobRecord, JobStatus, Results, StepRecord

JobValues = RowMapping
"""One row of `job` by column name."""


_RESULTS = TypeAdapter(Results)


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


def step_record(step: RowMapping) -> StepRecord:
    return StepRecord(**{name: step[name] for name in StepRecord.__slots__})

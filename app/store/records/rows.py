"""Rows of tables as records."""

from collections.abc import Mapping
from functools import partial
from typing import Any, TypeVar

from pydantic import TypeAdapter
from sqlalchemy import RowMapping

from app.store.records.jobs import JobRecord, JobStatus, Results, StepRecord
from app.store.records.scans import ScanCounts, ScanOrigin, ScanOutcome, ScanRecord, ScanStatus

_Record = TypeVar("_Record")
_RESULTS = TypeAdapter(Results)

dump_results = partial(_RESULTS.dump_python, mode="json", exclude_none=True)
"""Results as `job.results` stores them: unknown ones are omitted."""


def columns_of(record: type[Any]) -> tuple[str, ...]:
    """The names of the record's fields, which are those of its columns."""
    return tuple(record.__slots__)


def record_of(record: type[_Record], row: Mapping[Any, Any], **converted: object) -> _Record:
    """The row as a record. `converted` holds the fields that differ from the column of their name, or have none."""
    same = {name: row[name] for name in columns_of(record) if name not in converted}
    return record(**same, **converted)


def job_record(job: RowMapping, steps: tuple[StepRecord, ...] = ()) -> JobRecord:
    return record_of(
        JobRecord,
        job,
        status=JobStatus(job["status"]),
        mode=job["request"].get("mode") or job["results"].get("mode"),
        forced=job["request"].get("force", False),
        results=_RESULTS.validate_python(job["results"]),
        steps=steps,
    )


def scan_record(scan: RowMapping) -> ScanRecord:
    return record_of(
        ScanRecord,
        scan,
        origin=ScanOrigin(scan["origin"]),
        status=ScanStatus(scan["status"]),
        outcome=None if scan["outcome"] is None else ScanOutcome(scan["outcome"]),
        counts=record_of(ScanCounts, scan),
    )

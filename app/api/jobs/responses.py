"""Jobs as responses, and the headers that go with them."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from uuid import UUID

from fastapi import Response

from app.api.http.responses import etag, json_answer
from app.api.jobs.schemas import Job, Links, Plan, Step
from app.field_types import from_record
from app.ngt.errors import RULES, Fault, FaultCode
from app.store.jobs.commands import Jobs
from app.store.records.callers import Caller
from app.store.records.jobs import JobRecord, JobStatus, Results, StepRecord

_RUNNING_POLL_S = 2
_LONGEST_POLL_S = 60
# A job without a due time waits for the watch of its cluster, or for a person.
_WATCHED_POLL_S = 30


async def get_visible_job(jobs: Jobs, job_id: UUID, caller: Caller) -> JobRecord:
    """Raises Fault `job-not-found`, also for a job of a cluster that the caller may not use."""
    job = await jobs.find(job_id)
    if job is None or not job.visible_to(caller):
        raise Fault(FaultCode.JOB_NOT_FOUND, f"There is no job {job_id}.")
    return job


def job_answer(
    job: JobRecord, status: int, *, joined: bool = False, headers: Mapping[str, str] | None = None
) -> Response:
    """The job with its ETag, and how long to wait before asking again while it is open."""
    return json_answer(job_response(job, joined=joined), status, {**job_headers(job), **(headers or {})})


def accepted_answer(job: JobRecord, *, joined: bool = False, headers: Mapping[str, str] | None = None) -> Response:
    """200 when the job is done, else 202."""
    return job_answer(job, HTTPStatus.OK if job.done else HTTPStatus.ACCEPTED, joined=joined, headers=headers)


def job_headers(job: JobRecord) -> dict[str, str]:
    headers = {"ETag": etag(job)}
    if not job.done:
        headers["Retry-After"] = str(poll_after_s(job, datetime.now(UTC)))
    return headers


def poll_after_s(job: JobRecord, now: datetime) -> int:
    """Whole seconds until it is worth asking again: a waiting job changes at its due time at the earliest."""
    if job.status is not JobStatus.WAITING:
        return _RUNNING_POLL_S
    if job.due_at is None:
        return _WATCHED_POLL_S
    return min(max(math.ceil((job.due_at - now).total_seconds()), _RUNNING_POLL_S), _LONGEST_POLL_S)


def job_response(job: JobRecord, *, joined: bool = False) -> Job:
    """The job as callers see it; `joined`: the request found it open."""
    results = job.results
    rule = RULES[FaultCode(job.error_code)] if job.error_code in RULES else None
    # A job has the dates, serials, capabilities and the proof of its results.
    found = {name: getattr(results, name) for name in Results.__slots__ if name in Job.model_fields}
    found["mode"] = job.mode
    return from_record(
        Job,
        job,
        **found
        | {
            "joined": joined,
            "error_action": None if rule is None else rule.addressed_action(),
            "error_retryable": None if rule is None else rule.retryable,
            "caller": job.caller or job.caller_id,
            "automatic": job.automatic_rule is not None,
            "plan": None if results.plan is None else from_record(Plan, results.plan),
            "steps": [_step_response(step) for step in job.steps],
            "links": _links_of(job.id),
        },
    )


def _links_of(job_id: UUID) -> Links:
    own = f"/jobs/{job_id}"
    return Links(self=own, result=f"{own}/result", events=f"{own}/events", log=f"{own}/log")


def _step_response(step: StepRecord) -> Step:
    ended = step.finished_at
    return from_record(Step, step, duration_ms=None if ended is None else _milliseconds(ended - step.started_at))


def _milliseconds(duration: timedelta) -> int:
    # The database's clock may be set back between the two.
    return max(round(duration / timedelta(milliseconds=1)), 0)

"""How a job is shown, and the headers that go with it."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from uuid import UUID

from fastapi import Response
from pydantic import MISSING

from app.api.http.responses import json_answer, known
from app.api.jobs.schemas import Job, Links, Plan, Step
from app.ngt.errors import RULES, Fault, FaultCode
from app.store.jobs.commands import Jobs
from app.store.records.callers import Caller
from app.store.records.jobs import JobRecord, JobStatus, PlanRecord, StepRecord

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
    return json_answer(shown(job, joined=joined), status, {**job_headers(job), **(headers or {})})


def accepted_answer(job: JobRecord, *, joined: bool = False, headers: Mapping[str, str] | None = None) -> Response:
    """200 when the job is done, else 202."""
    return job_answer(job, HTTPStatus.OK if job.done else HTTPStatus.ACCEPTED, joined=joined, headers=headers)


def job_headers(job: JobRecord) -> dict[str, str]:
    headers = {"ETag": etag(job)}
    if not job.done:
        headers["Retry-After"] = str(poll_after_s(job, datetime.now(UTC)))
    return headers


def etag(job: JobRecord) -> str:
    return f'"{job.version}"'


def poll_after_s(job: JobRecord, now: datetime) -> int:
    """Whole seconds until it is worth asking again: a waiting job changes at its due time at the earliest."""
    if job.status is not JobStatus.WAITING:
        return _RUNNING_POLL_S
    if job.due_at is None:
        return _WATCHED_POLL_S
    return min(max(math.ceil((job.due_at - now).total_seconds()), _RUNNING_POLL_S), _LONGEST_POLL_S)


def shown(job: JobRecord, *, joined: bool = False) -> Job:
    """The job as callers see it."""
    results = job.results
    rule = RULES[FaultCode(job.error_code)] if job.error_code in RULES else None
    return Job(
        id=str(job.id),
        status=job.status,
        done=job.done,
        outcome=known(job.outcome),
        message=job.message,
        vm_uuid=job.vm_uuid,
        vm_name=known(job.vm_name),
        cluster=known(job.cluster),
        cvm=known(job.cvm),
        mode=known(job.mode),
        forced=job.forced,
        validate_only=job.validate_only,
        joined=joined,
        progress_percent=job.progress_percent,
        current_step=known(job.current_step),
        attempt=job.attempt,
        wait_reason=known(job.wait_reason),
        deadline_at=known(job.deadline_at),
        error_code=known(job.error_code),
        error_message=known(job.error_message),
        error_action=MISSING if rule is None else rule.told(),
        error_retryable=MISSING if rule is None else rule.retryable,
        remaining_action=known(job.remaining_action),
        caller=job.caller or job.caller_id,
        correlation_id=known(job.correlation_id),
        correlation_display=known(job.correlation_display),
        change_number=known(job.change_number),
        requested_by=known(job.requested_by),
        automatic=job.automatic_rule is not None,
        automatic_rule=known(job.automatic_rule),
        created_at=job.created_at,
        started_at=known(job.started_at),
        finished_at=known(job.finished_at),
        updated_at=job.updated_at,
        old_not_before=known(results.old_not_before),
        old_not_after=known(results.old_not_after),
        new_not_before=known(results.new_not_before),
        new_not_after=known(results.new_not_after),
        old_serial=known(results.old_serial),
        new_serial=known(results.new_serial),
        verified_by=known(results.verified_by),
        link_active=known(results.link_active),
        vss_before=known(results.vss_before),
        vss_after=known(results.vss_after),
        file_level_restore_before=known(results.file_level_restore_before),
        file_level_restore_after=known(results.file_level_restore_after),
        plan=MISSING if results.plan is None else _shown_plan(results.plan),
        steps=[_shown_step(step) for step in job.steps],
        links=_links_of(job.id),
    )


def _links_of(job_id: UUID) -> Links:
    own = f"/jobs/{job_id}"
    return Links(self=own, result=f"{own}/result", events=f"{own}/events", log=f"{own}/log")


def _shown_step(step: StepRecord) -> Step:
    return Step(
        name=step.name,
        attempt=step.attempt,
        status=step.status,
        started_at=step.started_at,
        finished_at=known(step.finished_at),
        duration_ms=MISSING if step.finished_at is None else _milliseconds(step.finished_at - step.started_at),
        cvm=known(step.cvm),
        result_vec=known(step.result_vec),
        message=step.message,
    )


def _milliseconds(duration: timedelta) -> int:
    # The database's clock may be set back between the two.
    return max(round(duration / timedelta(milliseconds=1)), 0)


def _shown_plan(plan: PlanRecord) -> Plan:
    return Plan(
        commands=list(plan.commands),
        guest_address=known(plan.guest_address),
        restart=plan.restart,
        proof=plan.proof,
        refusal_codes=list(plan.refusal_codes),
        refusals=list(plan.refusals),
    )

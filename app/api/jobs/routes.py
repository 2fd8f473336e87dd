"""Reading jobs, and telling an open or failed one what to do. Jobs of other callers are visible with `jobs:read`."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response

from app.api.callers.authorization import CallerDep
from app.api.http.cursor import cut_page, link_to_next, read_cursor
from app.api.http.dependencies import ServicesDep
from app.api.http.problems import problem_responses
from app.api.http.request_guard import GuardedRoute
from app.api.http.request_headers import WaitPreference, names_tag
from app.api.http.responses import etag, json_answer, or_missing
from app.api.http.waiting import WaitForChange, WaitForEnd, is_done, wait_until
from app.api.jobs.log import write_log
from app.api.jobs.query import JobQuery
from app.api.jobs.responses import accepted_answer, get_visible_job, job_answer, job_headers, job_response
from app.api.jobs.schemas import Job, JobList
from app.ngt.errors import FaultCode as C
from app.store.records.jobs import JobRecord

router = APIRouter(route_class=GuardedRoute, tags=["jobs"])

JobId = Annotated[UUID, Path(description="The job's `id`", examples=["0199c1f2-7d10-7b52-a1ad-3a0f0c9a0b6e"])]
_ONE_JOB = problem_responses(C.JOB_NOT_FOUND, C.VALIDATION_FAILED)
_ONE_JOB_IN_TIME = {**_ONE_JOB, **problem_responses(C.TOO_MANY_WAITS)}


@router.get(
    "/jobs",
    operation_id="listJobs",
    summary="List jobs, newest first",
    response_model=JobList,
    responses=problem_responses(C.VALIDATION_FAILED),
)
async def list_jobs(
    request: Request, caller: CallerDep, services: ServicesDep, query: Annotated[JobQuery, Query()]
) -> Response:
    """Jobs of every caller, on the clusters that the key may use; all filters must hold."""
    after = None if query.cursor is None else read_cursor(query.cursor)
    found = await services.store.jobs.list(query.filter_for(caller), limit=query.limit + 1, after=after)
    page, next_cursor = cut_page(found, query.limit)
    body = JobList(items=[job_response(job) for job in page], next_cursor=or_missing(next_cursor))
    return json_answer(body, headers=link_to_next(request, next_cursor))


@router.get(
    "/jobs/{job_id}",
    operation_id="getJob",
    summary="Read a job",
    response_model=Job,
    responses={304: {"description": "The job has not changed"}, **_ONE_JOB_IN_TIME},
)
async def get_job(
    request: Request,
    caller: CallerDep,
    services: ServicesDep,
    job_id: JobId,
    wait: WaitForChange,
) -> Response:
    """200 for every job that exists, also for a failed one. With `If-None-Match` an unchanged job is 304.

    With `wait` the answer comes with the next change; at once for a job that is done, or is another than the one named.
    """
    with services.store.changes.watch(job_id) as watch:
        job = await get_visible_job(services.store.jobs, job_id, caller)
        seen = job.version
        given = request.headers.getlist("if-none-match")
        has_it = names_tag(given, etag(job))
        if has_it or not given:
            job = await wait_until(request, watch, job, lambda now: now.done or now.version != seen, wait)
    if has_it and job.version == seen:
        return _unchanged(job, wait)
    return job_answer(job, 200, headers=wait.applied)


@router.get(
    "/jobs/{job_id}/result",
    operation_id="getJobResult",
    summary="Read a job once it is done",
    response_model=Job,
    response_description="The job is done",
    responses={
        202: {"model": Job, "description": "The job is open: ask again as `Retry-After` says"},
        304: {"description": "The job has not changed"},
        **_ONE_JOB_IN_TIME,
    },
)
async def get_job_result(
    request: Request, caller: CallerDep, services: ServicesDep, job_id: JobId, wait: WaitForEnd
) -> Response:
    """For pollers that test the status code: 202 while the job is open, then 200, also for a failed one.

    With `If-None-Match` an unchanged job is 304.
    """
    with services.store.changes.watch(job_id) as watch:
        job = await get_visible_job(services.store.jobs, job_id, caller)
        job = await wait_until(request, watch, job, is_done, wait)
    if names_tag(request.headers.getlist("if-none-match"), etag(job)):
        return _unchanged(job, wait)
    return accepted_answer(job, headers=wait.applied)


def _unchanged(job: JobRecord, wait: WaitPreference) -> Response:
    return Response(status_code=304, headers={**job_headers(job), **wait.applied})


@router.get(
    "/jobs/{job_id}/log",
    operation_id="getJobLog",
    summary="Read what was sent for a job, and what came back",
    response_class=Response,
    responses={
        200: {
            "description": "In the order of sending; secrets are masked",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
        **_ONE_JOB,
    },
)
async def get_job_log(caller: CallerDep, services: ServicesDep, job_id: JobId) -> Response:
    """Plain text for the ticket: each command with its time and CVM, and each answer."""
    job = await get_visible_job(services.store.jobs, job_id, caller)
    return Response(write_log(job, await services.store.jobs.read_log(job_id)), media_type="text/plain")


@router.post(
    "/jobs/{job_id}/cancel",
    operation_id="cancelJob",
    summary="Cancel a job",
    status_code=202,
    response_model=Job,
    response_description="The job is cancelled",
    responses={**_ONE_JOB, **problem_responses(C.JOB_NOT_CANCELLABLE)},
)
async def cancel_job(caller: CallerDep, services: ServicesDep, job_id: JobId) -> Response:
    """Until its VM is changed, or while it waits for a person; `remaining_action` then says what is left to do."""
    await get_visible_job(services.store.jobs, job_id, caller)
    return job_answer(await services.store.jobs.cancel(job_id, caller), 202)


@router.post(
    "/jobs/{job_id}/retry",
    operation_id="retryJob",
    summary="Retry a failed or cancelled job",
    status_code=202,
    response_model=Job,
    response_description="The job goes on where it stopped, as its next attempt",
    responses={**_ONE_JOB, **problem_responses(C.JOB_NOT_RETRYABLE, C.VM_BUSY)},
)
async def retry_job(caller: CallerDep, services: ServicesDep, job_id: JobId) -> Response:
    """The same job with `attempt` + 1; steps that are done are not done again."""
    await get_visible_job(services.store.jobs, job_id, caller)
    return job_answer(await services.store.jobs.retry(job_id), 202)


@router.post(
    "/jobs/{job_id}/agent-restarted",
    operation_id="reportAgentRestarted",
    summary="Tell a waiting job that the agent was restarted",
    status_code=202,
    response_model=Job,
    response_description="The job looks at once",
    responses={**_ONE_JOB, **problem_responses(C.JOB_NOT_WAITING)},
)
async def report_agent_restarted(caller: CallerDep, services: ServicesDep, job_id: JobId) -> Response:
    """The job looks for the new certificate now, instead of at its next turn."""
    await get_visible_job(services.store.jobs, job_id, caller)
    return job_answer(await services.store.jobs.report_agent_restarted(job_id), 202)

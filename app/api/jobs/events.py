"""The events of a job: page by page as JSON, or followed to the job's end as Server-Sent Events.

A stream that has nothing to say holds a place among the waiters and nothing else: no connection to the database, no
task of its own.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Send

from app.api.callers.authorization import CallerDep
from app.api.http.dependencies import Services, ServicesDep
from app.api.http.problems import problem_responses
from app.api.http.request_guard import GuardedRoute
from app.api.http.request_headers import preferred_media_type, read_last_event_id
from app.api.http.responses import json_answer, or_missing
from app.api.http.waiting import WaitSlotDep
from app.api.jobs.responses import get_visible_job
from app.api.jobs.routes import JobId
from app.api.jobs.schemas import JobEnd, JobEvent, JobEventList
from app.field_types import from_record
from app.ngt.errors import Fault
from app.ngt.errors import FaultCode as C
from app.store.jobs.events import JobEventRecord
from app.store.records.jobs import JobRecord

router = APIRouter(route_class=GuardedRoute, tags=["jobs"])

_JSON = "application/json"
_STREAM = EventSourceResponse.media_type
_MOST_EVENTS = 200
# Proxies end what is silent for a minute, and a dead client is found by what it does not take.
_PING_S = 15.0
# A client connects again after it, with a credential that is looked at again.
_LONGEST_STREAM_S = 3600.0
_READ_AGAIN_S = 1.0


class EventQuery(BaseModel):
    """The range of events."""

    model_config = ConfigDict(frozen=True)

    after: Annotated[int, Field(ge=0, le=2**31 - 1, description="Only events of later versions of the job")] = 0
    limit: Annotated[int, Field(ge=1, le=_MOST_EVENTS, description="Events of an answer in JSON")] = 50


@router.get(
    "/jobs/{job_id}/events",
    operation_id="listJobEvents",
    summary="Read or follow what happens to a job",
    response_model=JobEventList,
    responses={
        200: {
            "description": "The events, oldest first; or a stream of them, for `Accept: text/event-stream`",
            "content": {_STREAM: {"schema": {"type": "string"}}},
        },
        **problem_responses(C.JOB_NOT_FOUND, C.VALIDATION_FAILED, C.TOO_MANY_WAITS),
    },
)
async def list_job_events(
    request: Request,
    caller: CallerDep,
    services: ServicesDep,
    take_place: WaitSlotDep,
    job_id: JobId,
    query: Annotated[EventQuery, Query()],
) -> Response:
    """An event for each version of the job that looks different from the one before; a full page is not the last one.

    As a stream each event has the name `job`, the version as its `id` and the same JSON as its data; a comment comes
    when nothing else did for 15 seconds. After the job's end comes the event `end`, and the stream is closed.
    `Last-Event-ID` goes on where another stream was cut.
    """
    job = await get_visible_job(services.store.jobs, job_id, caller)
    last_seen = read_last_event_id(request)
    if preferred_media_type(request, _JSON, _STREAM) == _JSON:
        events = await services.store.job_events.list(job_id, after=query.after, limit=query.limit)
        return json_answer(JobEventList(items=[_event_response(event) for event in events]))
    if request.state.head_only:
        return Response(media_type=_STREAM)
    take_place()
    return _EventStream(follow(services, job, query.after if last_seen is None else last_seen))


async def follow(
    services: Services, job: JobRecord, after: int, *, ping_s: float = _PING_S, longest_s: float = _LONGEST_STREAM_S
) -> AsyncGenerator[bytes]:
    """The events of versions above `after`, in the format of Server-Sent Events, until the job is done.

    It ends earlier, without the event `end`, after `longest_s` and when the service stops: the client goes on with
    `Last-Event-ID` then. While the database does not answer it is pinged.
    """
    clock = asyncio.get_running_loop().time
    until = clock() + longest_s
    # Nobody saw an event that has not happened; its number would keep those away that do.
    after = min(after, job.version)
    with services.store.changes.watch(job.id) as watch:

        def is_over() -> bool:
            return watch.ended or clock() >= until

        while not is_over():
            try:
                # Read after the watch began, so that nothing is missed whatever happened since the job was read.
                events = await services.store.job_events.list(job.id, after=after, limit=_MOST_EVENTS)
            except Fault as away:
                if away.code is not C.DATABASE_UNAVAILABLE:
                    raise
                yield KEEPALIVE_COMMENT
                await asyncio.sleep(_READ_AGAIN_S)
                continue
            for event in events:
                after = event.version
                yield _written("job", _event_response(event), str(after))
            last = events[-1] if events else job
            if len(events) == _MOST_EVENTS:
                continue
            if last.done:
                yield _written("end", JobEnd(id=str(job.id), status=last.status, outcome=or_missing(last.outcome)))
                return
            seen = max(job.version, after)
            while job.version <= seen and not is_over():
                job = await watch.until(job, _later_than(seen), ping_s)
                if job.version <= seen and not is_over():
                    yield KEEPALIVE_COMMENT


class _EventStream(EventSourceResponse):
    """Ends its events at once when the client goes away, also in the middle of a write."""

    def __init__(self, events: AsyncGenerator[bytes]) -> None:
        # Without the last one nginx would keep the events until it has a buffer full of them.
        super().__init__(events, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        self._events = events

    async def stream_response(self, send: Send) -> None:
        async with aclosing(self._events):
            await super().stream_response(send)


def _later_than(version: int) -> Callable[[JobRecord], bool]:
    return lambda job: job.version > version


def _written(name: str, data: BaseModel, event_id: str | None = None) -> bytes:
    return format_sse_event(event=name, data_str=data.model_dump_json(), id=event_id)


def _event_response(event: JobEventRecord) -> JobEvent:
    return from_record(JobEvent, event)

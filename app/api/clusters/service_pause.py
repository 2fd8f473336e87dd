"""Holding the whole service while somebody works below it. A change of a VM that has begun is never held."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Body, Response
from pydantic import BaseModel, ConfigDict, Field

from app.api.callers.authorization import CallerDep
from app.api.clusters.schemas import ServicePause
from app.api.http.dependencies import ServicesDep
from app.api.http.parameters import NOTE_PATTERN, Timestamp
from app.api.http.problems import invalid, problem_responses
from app.api.http.request_guard import GuardedRoute
from app.api.http.responses import json_answer
from app.field_types import from_record
from app.ngt.errors import Fault
from app.ngt.errors import FaultCode as C
from app.store.jobs.service_pause import PauseRecord
from app.store.records.callers import Caller

router = APIRouter(route_class=GuardedRoute, tags=["admin"])

# A longer pause is a forgotten one, or a mistyped year.
_LONGEST_PAUSE = timedelta(days=366)
_OF_ADMIN = problem_responses(C.TARGET_NOT_ALLOWED, C.VALIDATION_FAILED)


class ServicePauseRequest(BaseModel):
    """The reason of the pause, which waiting jobs show, and its end."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        json_schema_extra={"examples": [{"reason": "Maintenance of all clusters, CHG0030201"}]},
    )

    reason: Annotated[Annotated[str, Field(max_length=200, pattern=NOTE_PATTERN)] | None, Field()] = None
    until: Annotated[
        Timestamp | None,
        Field(description="The end of the pause, at most a year ahead; without it, `resumeService` ends it"),
    ] = None


@router.post(
    "/admin/pause",
    operation_id="pauseService",
    summary="Begin no more renewals anywhere",
    response_model=ServicePause,
    responses=_OF_ADMIN,
)
async def pause_service(
    caller: CallerDep,
    services: ServicesDep,
    body: Annotated[ServicePauseRequest, Body()] = ServicePauseRequest(),  # noqa: B008 - frozen, and what no body means
) -> Response:
    """For maintenance of all clusters at once. Renewals that have begun a change go on to their end.

    Renewals are still accepted, and wait. Pausing twice keeps the first time, and takes the newer reason and end. The
    key must not be limited to some clusters.
    """
    _must_have_all_clusters(caller)
    if body.until is not None:
        now = (await services.store.pauses.state()).now
        if not now < body.until <= now + _LONGEST_PAUSE:
            too_early = body.until <= now
            said = "not in the future" if too_early else f"more than {_LONGEST_PAUSE.days} days ahead"
            raise invalid(f"The time is {said}.", "body", "until")
    return json_answer(pause_response(await services.store.pauses.pause(body.reason or None, body.until, caller.name)))


@router.post(
    "/admin/resume",
    operation_id="resumeService",
    summary="Let renewals begin again",
    response_model=ServicePause,
    responses=_OF_ADMIN,
)
async def resume_service(caller: CallerDep, services: ServicesDep) -> Response:
    """Clusters that are paused themselves stay paused. The key must not be limited to some clusters."""
    _must_have_all_clusters(caller)
    await services.store.pauses.resume()
    return json_answer(pause_response(None))


def pause_response(pause: PauseRecord | None) -> ServicePause:
    return from_record(ServicePause, pause, paused=pause is not None)


def _must_have_all_clusters(caller: Caller) -> None:
    if caller.clusters is not None:
        message = "This concerns all clusters, and the API key is limited to some of them."
        raise Fault(C.TARGET_NOT_ALLOWED, message)

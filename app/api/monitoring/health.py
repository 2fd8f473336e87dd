"""Liveness, readiness and version of the service. No route here asks a CVM."""

from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import MISSING, BeforeValidator

from app.api.http.dependencies import Services, ServicesDep
from app.api.http.problems import OF_KEYS, answer_not_ready, problem_responses
from app.api.http.request_guard import GuardedRoute
from app.api.http.request_headers import LONGEST_WAIT_S
from app.api.http.responses import json_answer, or_missing
from app.api.monitoring.schemas import Check, Health, Meta
from app.ngt.errors import Fault
from app.ngt.errors import FaultCode as C
from app.store.postgres.schema import current_revision, is_at_head

router = APIRouter(route_class=GuardedRoute, tags=["health"])


def _named_alone(given: object) -> object:
    """`?verbose` without a value is what Kubernetes has taught people to write."""
    return True if given == "" else given


@router.get("/livez", operation_id="getLiveness", summary="Whether the service lives", response_model=Health)
async def get_liveness() -> Response:
    """The process answers. Nothing else is looked at, so that a lost database does not get it killed."""
    return json_answer(Health(status="alive"))


@router.get(
    "/readyz",
    operation_id="getReadiness",
    summary="Whether the service can take requests",
    response_model=Health,
    responses=problem_responses(*OF_KEYS, C.VALIDATION_FAILED),
)
async def get_readiness(
    request: Request,
    services: ServicesDep,
    *,
    verbose: Annotated[
        bool, Query(description="Show each check; needs an API key or a token"), BeforeValidator(_named_alone)
    ] = False,
) -> Response:
    """The database answers and has this version's schema, the worker runs, and the service is not stopping.

    A service that is paused is ready: it accepts renewals.
    """
    if verbose:
        await services.logins.authenticate(request)
    checks = {name: fault async for name, fault in _checks(services)}
    faults = {name: fault for name, fault in checks.items() if fault is not None}
    if faults:
        return answer_not_ready(request, faults, verbose=verbose)
    if not verbose:
        return json_answer(Health(status="ready"))
    paused = (await services.store.pauses.state()).pause is not None
    return json_answer(Health(status="ready", checks=[Check(name=name, passed=True) for name in checks], paused=paused))


@router.get("/meta", operation_id="getMeta", summary="Which service this is", response_model=Meta)
async def get_meta(services: ServicesDep) -> Response:
    """Its version, that of its database, where its documents are, what it keeps to, and whether it is paused."""
    state = await services.store.pauses.state()
    pause, kept = state.pause, services.settings.retention
    return json_answer(
        Meta(
            name="ngt-renewal",
            version=version("ngt-renewal"),
            database_revision=or_missing(await current_revision(services.store.database)),
            docs="/docs",
            openapi="/openapi.json",
            server_time_at=state.now,
            max_wait_s=LONGEST_WAIT_S,
            max_queued_jobs=services.settings.callers.max_queued_jobs,
            jobs_kept_days=kept.jobs_days,
            idempotency_keys_kept_days=kept.idempotency_days,
            deliveries_kept_days=kept.deliveries_days,
            paused=pause is not None,
            paused_at=MISSING if pause is None else pause.paused_at,
            paused_by=MISSING if pause is None else pause.paused_by,
            pause_reason=MISSING if pause is None else or_missing(pause.reason),
            paused_until=MISSING if pause is None else or_missing(pause.until),
        )
    )


async def _checks(services: Services) -> AsyncIterator[tuple[str, Fault | None]]:
    try:
        at_head = await is_at_head(services.store.database)
    except Fault as unavailable:
        yield "database", unavailable
    else:
        yield "database", None
        not_migrated = Fault(C.DATABASE_UNAVAILABLE, "The database has another schema: run `ngt-renewal migrate`.")
        yield "migrations", None if at_head else not_migrated
    stopped = Fault(C.INTERNAL_ERROR, "The worker of this process has stopped.")
    yield "worker", None if services.worker_alive() else stopped
    yield "draining", Fault(C.DRAINING, "The service is stopping.") if services.draining.is_set() else None

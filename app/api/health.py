"""Whether the service lives and works, what it counts, and which version it is. None of it asks a CVM."""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from datetime import datetime
from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from pydantic import MISSING, BeforeValidator

from app.api.answers import json_answer, known
from app.api.auth import CallerOf
from app.api.guard import GuardedRoute
from app.api.headers import LONGEST_WAIT_S
from app.api.openapi_words import OF_KEYS
from app.api.parts import Parts, PartsOf
from app.api.problems import answer_not_ready, problem_responses
from app.api.schemas import Check, Health, Meta
from app.ngt.errors import Fault
from app.ngt.errors import FaultCode as C
from app.store.jobs import JobCounts
from app.store.records import JobStatus
from app.store.schema import current_revision, is_at_head

router = APIRouter(route_class=GuardedRoute, tags=["health"])

# The text format 0.0.4, which every Prometheus reads.
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


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
    parts: PartsOf,
    *,
    verbose: Annotated[
        bool, Query(description="Show each check; needs an API key or a token"), BeforeValidator(_named_alone)
    ] = False,
) -> Response:
    """The database answers and has this version's schema, the worker runs, and the service is not stopping.

    A service that is paused is ready: it accepts renewals.
    """
    if verbose:
        await parts.logins.log_in(request)
    checks = {name: fault async for name, fault in _checks(parts)}
    faults = {name: fault for name, fault in checks.items() if fault is not None}
    if faults:
        return answer_not_ready(request, faults, verbose=verbose)
    if not verbose:
        return json_answer(Health(status="ready"))
    paused = (await parts.pauses.state()).pause is not None
    return json_answer(Health(status="ready", checks=[Check(name=name, passed=True) for name in checks], paused=paused))


@router.get(
    "/metrics",
    operation_id="getMetrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={
        200: {
            "description": "The text format of Prometheus",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
        **problem_responses(C.TARGET_NOT_ALLOWED),
    },
)
async def get_metrics(parts: PartsOf, caller: CallerOf) -> Response:
    """Jobs, stranded VMs and VMs that await pickup are counted in the database; the rest by this process.

    All clusters are counted, so a key that is limited to some of them does not get to see this.
    """
    if caller.clusters is not None:
        raise Fault(C.TARGET_NOT_ALLOWED, "The metrics show all clusters, and this API key is limited to some of them.")
    stored = CollectorRegistry()
    paused = (await parts.pauses.state()).pause is not None
    stored.register(_StoredCounts(await parts.jobs.counts(), tuple(parts.settings.clusters), paused=paused))
    stored.register(_PendingDeliveries(*await parts.deliveries.count_pending()))
    return Response(generate_latest(parts.metrics.registry) + generate_latest(stored), media_type=_METRICS_TYPE)


@router.get("/meta", operation_id="getMeta", summary="Which service this is", response_model=Meta)
async def get_meta(parts: PartsOf) -> Response:
    """Its version, that of its database, where its documents are, what it keeps to, and whether it is paused."""
    state = await parts.pauses.state()
    pause, kept = state.pause, parts.settings.retention
    return json_answer(
        Meta(
            name="ngt-renewal",
            version=version("ngt-renewal"),
            database_revision=known(await current_revision(parts.database)),
            docs="/docs",
            openapi="/openapi.json",
            server_time_at=state.now,
            max_wait_s=LONGEST_WAIT_S,
            max_queued_jobs=parts.settings.callers.max_queued_jobs,
            jobs_kept_days=kept.jobs_days,
            idempotency_keys_kept_days=kept.idempotency_days,
            deliveries_kept_days=kept.deliveries_days,
            paused=pause is not None,
            paused_at=MISSING if pause is None else pause.paused_at,
            paused_by=MISSING if pause is None else pause.paused_by,
            pause_reason=MISSING if pause is None else known(pause.reason),
            paused_until=MISSING if pause is None else known(pause.until),
        )
    )


async def _checks(parts: Parts) -> AsyncIterator[tuple[str, Fault | None]]:
    try:
        at_head = await is_at_head(parts.database)
    except Fault as unavailable:
        yield "database", unavailable
    else:
        yield "database", None
        not_migrated = Fault(C.DATABASE_UNAVAILABLE, "The database has another schema: run `ngt-renewal migrate`.")
        yield "migrations", None if at_head else not_migrated
    stopped = Fault(C.INTERNAL_ERROR, "The worker of this process has stopped.")
    yield "worker", None if parts.worker_alive() else stopped
    yield "draining", Fault(C.DRAINING, "The service is stopping.") if parts.draining.begun else None


class _StoredCounts(Collector):
    """What the database counted, at one moment. A cluster without any is a zero: alerts need the series."""

    def __init__(self, counts: JobCounts, clusters: Iterable[str], *, paused: bool) -> None:
        self._counts = counts
        self._clusters = clusters
        self._paused = paused

    def collect(self) -> Iterator[Metric]:
        jobs = GaugeMetricFamily("ngt_renew_jobs", "Open jobs.", labels=["status"])
        for status in (JobStatus.QUEUED, JobStatus.WAITING, JobStatus.RUNNING):
            jobs.add_metric([status], self._counts.open_by_status.get(status, 0))
        yield jobs
        yield self._by_cluster("ngt_stranded_vms", "VMs without their tools entity.", self._counts.stranded)
        yield self._by_cluster(
            "ngt_vms_awaiting_pickup",
            "VMs whose new certificate was not seen in them yet.",
            self._counts.awaiting_pickup,
        )
        oldest = GaugeMetricFamily(
            "ngt_renew_oldest_queued_timestamp_seconds", "When the oldest queued job was created; absent without one."
        )
        if self._counts.oldest_queued_at is not None:
            oldest.add_metric([], self._counts.oldest_queued_at.timestamp())
        yield oldest
        yield GaugeMetricFamily("ngt_executions_paused", "1 while the whole service is paused.", float(self._paused))

    def _by_cluster(self, name: str, documentation: str, counted: Mapping[str, int]) -> GaugeMetricFamily:
        family = GaugeMetricFamily(name, documentation, labels=["cluster"])
        for cluster in sorted({*self._clusters, *counted}):
            family.add_metric([cluster], counted.get(cluster, 0))
        return family


class _PendingDeliveries(Collector):
    """What webhook targets were not told yet."""

    def __init__(self, count: int, oldest_at: datetime | None) -> None:
        self._count = count
        self._oldest_at = oldest_at

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("ngt_webhook_pending", "Deliveries to be made, now or later.", value=self._count)
        oldest = GaugeMetricFamily(
            "ngt_webhook_oldest_pending_timestamp_seconds", "When the oldest of them was written; absent without one."
        )
        if self._oldest_at is not None:
            oldest.add_metric([], self._oldest_at.timestamp())
        yield oldest

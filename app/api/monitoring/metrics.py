"""The metrics for Prometheus. Stored counts are the same on all replicas; each replica adds its own."""

import asyncio
import re
import zlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import cast

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.api.callers.authorization import CallerDep
from app.api.http.dependencies import Services, ServicesDep
from app.api.http.problems import problem_responses
from app.api.http.request_guard import GuardedRoute
from app.api.monitoring.inventory_metrics import GZIP_BITS, InventoryMetrics
from app.ngt.errors import Fault
from app.ngt.errors import FaultCode as C
from app.settings import ClusterSettings
from app.store.inventory.counts import CertificateCounts
from app.store.jobs.queries import JobCounts
from app.store.records.jobs import JobStatus

router = APIRouter(route_class=GuardedRoute, tags=["health"])

# The text format 0.0.4, which every Prometheus reads.
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_VARIES = {"Vary": "Accept-Encoding"}
_TAKES_GZIP = re.compile(r"(?:x-)?gzip\s*(?:;\s*q\s*=\s*(?:1(?:\.0*)?|0?\.\d*[1-9]\d*)\s*)?", re.IGNORECASE)


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
async def get_metrics(request: Request, services: ServicesDep, caller: CallerDep) -> Response:
    """Jobs, VMs, certificates, scans, API keys and deliveries are counted in the database; the rest by this process.

    The counts of VMs, certificates, scans and API keys may be five seconds old. The answer is compressed for clients
    that accept gzip.

    All clusters are counted, so a key that is limited to some of them does not get to see this.
    """
    if caller.clusters is not None:
        raise Fault(C.TARGET_NOT_ALLOWED, "The metrics show all clusters, and this API key is limited to some of them.")
    stored = CollectorRegistry()
    paused = (await services.store.pauses.state()).pause is not None
    stored.register(_StoredCounts(await services.store.jobs.counts(), services.settings.clusters, paused=paused))
    stored.register(_PendingDeliveries(*await services.store.deliveries.count_pending()))
    inventory = await _inventory_metrics(request, services).text()
    own = generate_latest(services.metrics.registry) + generate_latest(stored)
    compressed = inventory.with_end(own)
    if _takes_gzip(request):
        return Response(compressed, media_type=_METRICS_TYPE, headers={**_VARIES, "Content-Encoding": "gzip"})
    text = await asyncio.to_thread(zlib.decompress, compressed, GZIP_BITS)
    return Response(text, media_type=_METRICS_TYPE, headers=_VARIES)


def _inventory_metrics(request: Request, services: Services) -> InventoryMetrics:
    """One for the process, made with its first scrape: all scrapes share what it has just written."""
    state = request.app.state
    if not hasattr(state, "inventory_metrics"):
        clusters = tuple(services.settings.clusters)
        counts = CertificateCounts(services.store.database)
        state.inventory_metrics = InventoryMetrics(counts, clusters, per_vm=services.settings.metrics_per_vm)
    return cast("InventoryMetrics", state.inventory_metrics)


def _takes_gzip(request: Request) -> bool:
    """True when `Accept-Encoding` names gzip. A client that only sends `*` gets the plain text."""
    given = ",".join(request.headers.getlist("accept-encoding"))
    return any(_TAKES_GZIP.fullmatch(coding.strip()) for coding in given.split(","))


class _StoredCounts(Collector):
    """The counts of the database at one moment, and the switches of the configuration.

    A cluster without any is a zero: alerts need the series.
    """

    def __init__(self, counts: JobCounts, clusters: Mapping[str, ClusterSettings], *, paused: bool) -> None:
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
        yield self._by_cluster(
            "ngt_auto_renew_enabled",
            "1 where the configuration switches automatic renewal on.",
            {name: int(cluster.auto_renew.enabled) for name, cluster in self._clusters.items()},
        )
        oldest = GaugeMetricFamily(
            "ngt_renew_oldest_queued_timestamp_seconds",
            "When the oldest queued job that no pause holds was created; absent without one.",
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
    """The deliveries that are still to be made."""

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

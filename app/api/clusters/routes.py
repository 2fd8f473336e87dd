"""The configured clusters, and holding them while somebody works on them."""

from typing import Annotated

from fastapi import APIRouter, Body, Response
from pydantic import BaseModel, ConfigDict, Field

from app.api.callers.authorization import CallerDep
from app.api.clusters.schemas import Cluster, ClusterList
from app.api.http.cluster_access import allowed_clusters, get_cluster
from app.api.http.dependencies import ServicesDep
from app.api.http.parameters import NOTE_PATTERN, ClusterName
from app.api.http.problems import problem_responses
from app.api.http.request_guard import GuardedRoute
from app.api.http.responses import json_answer
from app.field_types import from_record
from app.ngt.errors import FaultCode as C
from app.settings import ClusterSettings
from app.store.records.clusters import ClusterRecord

router = APIRouter(route_class=GuardedRoute, tags=["clusters"])


_ONE_CLUSTER = problem_responses(C.TARGET_NOT_ALLOWED, C.CLUSTER_NOT_FOUND, C.VALIDATION_FAILED)


class PauseRequest(BaseModel):
    """The reason of a pause, which waiting jobs show."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, json_schema_extra={"examples": [{"reason": "AOS upgrade CHG0030200"}]}
    )

    reason: Annotated[Annotated[str, Field(max_length=200, pattern=NOTE_PATTERN)] | None, Field()] = None


@router.get("/clusters", operation_id="listClusters", summary="List the clusters", response_model=ClusterList)
async def list_clusters(caller: CallerDep, services: ServicesDep) -> Response:
    """The configured clusters that the key may use, by name."""
    names = allowed_clusters(services.settings, caller)
    remembered = {record.name: record for record in await services.store.clusters.list(names)}
    return json_answer(
        ClusterList(
            items=[cluster_response(name, services.settings.clusters[name], remembered.get(name)) for name in names]
        )
    )


@router.post(
    "/clusters/{cluster}/pause",
    operation_id="pauseCluster",
    summary="Begin no more renewals on a cluster",
    response_model=Cluster,
    responses=_ONE_CLUSTER,
)
async def pause_cluster(
    caller: CallerDep,
    services: ServicesDep,
    cluster: ClusterName,
    body: Annotated[PauseRequest, Body()] = PauseRequest(),  # noqa: B008 - frozen, and what no body means
) -> Response:
    """Holds the cluster, for example for an upgrade. Begun changes go on; other renewals wait for `resume`."""
    configured = get_cluster(services.settings, caller, cluster)
    await services.store.clusters.ensure([cluster])
    record = await services.store.clusters.pause(cluster, body.reason or None, caller.name)
    return json_answer(cluster_response(cluster, configured, record))


@router.post(
    "/clusters/{cluster}/resume",
    operation_id="resumeCluster",
    summary="Let renewals begin again on a cluster",
    response_model=Cluster,
    responses=_ONE_CLUSTER,
)
async def resume_cluster(caller: CallerDep, services: ServicesDep, cluster: ClusterName) -> Response:
    """Also resumes a cluster that the service paused because several renewals in a row were not proved."""
    configured = get_cluster(services.settings, caller, cluster)
    await services.store.clusters.ensure([cluster])
    return json_answer(
        cluster_response(cluster, configured, await services.store.clusters.resume(cluster, services.store.wakeups))
    )


def cluster_response(name: str, configured: ClusterSettings, record: ClusterRecord | None) -> Cluster:
    record = record or ClusterRecord(name)
    return from_record(
        Cluster,
        record,
        paused=record.paused_at is not None,
        proven=record.proven_at is not None,
        mode=configured.mode,
        restart_agent=configured.restart_agent,
        max_running=configured.max_running,
        auto_renew=configured.auto_renew.enabled,
        auto_renew_stopped=record.auto_stopped_at is not None,
        auto_renew_stopped_at=record.auto_stopped_at,
        auto_renew_stopped_reason=record.auto_stopped_reason,
        auto_renew_failures_in_a_row=record.auto_failures_in_a_row,
    )

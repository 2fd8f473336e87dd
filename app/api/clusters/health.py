"""The health of a cluster as the workers last found it. The request asks no CVM."""

from fastapi import APIRouter, Response

from app.api.callers.authorization import CallerDep
from app.api.clusters.schemas import ClusterHealth, CvmHealth
from app.api.http.cluster_access import get_cluster
from app.api.http.dependencies import ServicesDep
from app.api.http.parameters import ClusterName
from app.api.http.problems import problem_responses
from app.api.http.request_guard import GuardedRoute
from app.api.http.responses import json_answer
from app.field_types import from_record
from app.ngt.errors import FaultCode as C
from app.ngt.vocabulary import CvmState
from app.store.clusters.health import ClusterHealthRecord, read_health

router = APIRouter(route_class=GuardedRoute, tags=["clusters"])


@router.get(
    "/clusters/{cluster}/health",
    operation_id="getClusterHealth",
    summary="Read how a cluster is",
    response_model=ClusterHealth,
    responses=problem_responses(C.TARGET_NOT_ALLOWED, C.CLUSTER_NOT_FOUND, C.VALIDATION_FAILED),
)
async def get_cluster_health(caller: CallerDep, services: ServicesDep, cluster: ClusterName) -> Response:
    """The state of its CVMs, its last scan and its open work, as stored. The cluster is not asked.

    A CVM is `unknown` until the service needs it, and stays as it was found until the service needs it again.
    """
    configured = get_cluster(services.settings, caller, cluster)
    health = await read_health(services.store.database, cluster)
    return json_answer(_health_response(cluster, configured.cvms, health))


def _health_response(name: str, cvms: tuple[str, ...], health: ClusterHealthRecord) -> ClusterHealth:
    found = [(cvm, health.cvms.get(cvm)) for cvm in cvms]
    states = [cvm.is_up for _, cvm in found if cvm is not None]
    return from_record(
        ClusterHealth,
        health,
        name=name,
        reachable=any(states) if states else None,
        cvms=[_cvm_response(address, cvm) for address, cvm in found],
        scan_failed_at=health.scan_fault_at,
        scan_error_code=health.scan_fault_code,
        scan_error_message=health.scan_fault,
        paused=health.paused_at is not None,
    )


def _cvm_response(address: str, cvm: CvmState | None) -> CvmHealth:
    if cvm is None:
        return CvmHealth(address=address, state="unknown")
    return from_record(
        CvmHealth,
        cvm,
        address=address,
        state="up" if cvm.is_up else "down",
        since_at=cvm.changed_at,
        error_code=cvm.fault_code,
        error_message=cvm.fault,
    )

"""How a cluster is, from what the workers have found: asking it costs the cluster nothing."""

from fastapi import APIRouter, Response
from pydantic import MISSING

from app.api.callers.authorization import CallerDep
from app.api.clusters.schemas import ClusterHealth, CvmHealth
from app.api.http.cluster_access import get_cluster
from app.api.http.dependencies import ServicesDep
from app.api.http.parameters import ClusterName
from app.api.http.problems import problem_responses
from app.api.http.request_guard import GuardedRoute
from app.api.http.responses import json_answer, known
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
    """Whether its CVMs answer, when it was last scanned, and what is open there. The cluster is not asked.

    A CVM is `unknown` until the service needs it, and stays as it was found until the service needs it again.
    """
    configured = get_cluster(services.settings, caller, cluster)
    health = await read_health(services.database, cluster)
    return json_answer(_shown(cluster, configured.cvms, health))


def _shown(name: str, cvms: tuple[str, ...], health: ClusterHealthRecord) -> ClusterHealth:
    found = [(cvm, health.cvms.get(cvm)) for cvm in cvms]
    states = [cvm.is_up for _, cvm in found if cvm is not None]
    return ClusterHealth(
        name=name,
        reachable=any(states) if states else MISSING,
        cvms=[_shown_cvm(address, cvm) for address, cvm in found],
        scanned_at=known(health.scanned_at),
        scan_failed_at=known(health.scan_fault_at),
        scan_error_code=known(health.scan_fault_code),
        scan_error_message=known(health.scan_fault),
        scanning=health.scanning,
        paused=health.paused_at is not None,
        paused_at=known(health.paused_at),
        paused_by=known(health.paused_by),
        pause_reason=known(health.pause_reason),
        open_jobs=health.open_jobs,
        stranded_vms=health.stranded_vms,
        vms_awaiting_pickup=health.vms_awaiting_pickup,
    )


def _shown_cvm(address: str, cvm: CvmState | None) -> CvmHealth:
    if cvm is None:
        return CvmHealth(address=address, state="unknown")
    return CvmHealth(
        address=address,
        state="up" if cvm.is_up else "down",
        since_at=known(cvm.changed_at),
        checked_at=cvm.checked_at,
        error_code=known(cvm.fault_code),
        error_message=known(cvm.fault),
    )

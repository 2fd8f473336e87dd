"""Having a cluster scanned, and reading what became of it. No request looks at a cluster itself: a worker does."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from app.api.callers.authorization import CallerDep
from app.api.http.cluster_access import get_cluster
from app.api.http.cursor import cut_page, link_to_next, read_cursor
from app.api.http.dependencies import Services, ServicesDep
from app.api.http.parameters import ClusterName, ClusterText, CursorInQuery
from app.api.http.problems import problem_responses
from app.api.http.request_guard import GuardedRoute
from app.api.http.request_headers import WaitPreference, names_tag
from app.api.http.responses import etag, json_answer, or_missing
from app.api.http.waiting import WaitForScan, is_done, wait_until
from app.api.scans.responses import ask_again, scan_response
from app.api.scans.schemas import Scan, ScanList
from app.ngt.errors import Fault
from app.ngt.errors import FaultCode as C
from app.store.records.callers import Caller
from app.store.records.scans import ScanOrigin, ScanRecord
from app.store.scans.queries import ScanFilter

router = APIRouter(route_class=GuardedRoute, tags=["scans"])

ScanId = Annotated[UUID, Path(description="The scan's `id`", examples=["0199c1f2-8c20-7d11-9a00-1f3f0c9a0b6e"])]


class ScanQuery(BaseModel):
    """All that is given must hold."""

    model_config = ConfigDict(frozen=True)

    cluster: Annotated[ClusterText | None, Field(description="Scans of this cluster")] = None
    limit: Annotated[int, Field(ge=1, le=200, description="Scans on a page")] = 50
    cursor: CursorInQuery = None


@router.post(
    "/clusters/{cluster}/scan",
    operation_id="scanCluster",
    summary="Look at all VMs of a cluster, and at their certificates",
    status_code=202,
    response_model=Scan,
    response_description="The scan is open: poll it as `Retry-After` says",
    responses=problem_responses(C.TARGET_NOT_ALLOWED, C.CLUSTER_NOT_FOUND, C.VALIDATION_FAILED),
)
async def scan_cluster(caller: CallerDep, services: ServicesDep, cluster: ClusterName) -> Response:
    """One listing for all VMs, the dates that the cluster tells, and the guests that the service may log in to.

    A cluster that is being scanned, or waits for it, is answered with that scan.
    """
    get_cluster(services.settings, caller, cluster)
    started = await services.store.scans.start(cluster, origin=ScanOrigin.REQUESTED, caller=caller)
    headers = {"Location": f"/scans/{started.scan.id}", **_headers(started.scan)}
    return json_answer(scan_response(started.scan, joined=started.joined), HTTPStatus.ACCEPTED, headers)


@router.get(
    "/scans",
    operation_id="listScans",
    summary="List scans, newest first",
    response_model=ScanList,
    responses=problem_responses(C.VALIDATION_FAILED),
)
async def list_scans(
    request: Request, caller: CallerDep, services: ServicesDep, query: Annotated[ScanQuery, Query()]
) -> Response:
    """Those of the clusters that the key may use. Ended ones are kept for 14 days unless configured otherwise."""
    after = None if query.cursor is None else read_cursor(query.cursor)
    wanted = ScanFilter(cluster=query.cluster, caller=caller)
    page, next_cursor = cut_page(
        await services.store.scans.list(wanted, limit=query.limit + 1, after=after), query.limit
    )
    body = ScanList(items=[scan_response(scan) for scan in page], next_cursor=or_missing(next_cursor))
    return json_answer(body, headers=link_to_next(request, next_cursor))


@router.get(
    "/scans/{scan_id}",
    operation_id="getScan",
    summary="Read a scan",
    response_model=Scan,
    responses={
        304: {"description": "The scan has not changed"},
        **problem_responses(C.SCAN_NOT_FOUND, C.VALIDATION_FAILED, C.TOO_MANY_WAITS),
    },
)
async def get_scan(
    request: Request, caller: CallerDep, services: ServicesDep, scan_id: ScanId, wait: WaitForScan
) -> Response:
    """200 for every scan that exists, also for a failed one. With `If-None-Match` an unchanged scan is 304.

    With `wait` the answer comes with the end of the scan.
    """
    with services.store.scans.watch(scan_id) as watch:
        scan = await _get_visible_scan(services, scan_id, caller)
        scan = await wait_until(request, watch, scan, is_done, wait)
    if names_tag(request.headers.getlist("if-none-match"), etag(scan)):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=_headers(scan, wait))
    return json_answer(scan_response(scan), headers=_headers(scan, wait))


async def _get_visible_scan(services: Services, scan_id: UUID, caller: Caller) -> ScanRecord:
    scan = await services.store.scans.find(scan_id)
    if scan is None or not caller.may_use(scan.cluster):
        raise Fault(C.SCAN_NOT_FOUND, f"There is no scan {scan_id}.")
    return scan


def _headers(scan: ScanRecord, wait: WaitPreference | None = None) -> Mapping[str, str]:
    return {"ETag": etag(scan), **ask_again(scan), **(wait.applied if wait is not None else {})}

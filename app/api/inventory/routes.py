"""VMs and their certificates, as the scans stored them. No request asks a cluster."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from app.api.callers.authorization import CallerDep, InsufficientScope
from app.api.http.cluster_access import allowed_clusters, get_cluster
from app.api.http.cursor import link_to_next
from app.api.http.dependencies import Services, ServicesDep
from app.api.http.parameters import VmUuidInPath
from app.api.http.problems import problem_responses
from app.api.http.request_guard import GuardedRoute
from app.api.http.request_headers import preferred_media_type
from app.api.http.responses import json_answer, or_missing
from app.api.http.waiting import WaitForScan, wait_for_scan
from app.api.inventory.csv import CSV, CsvOfVms
from app.api.inventory.cursor import write_vm_cursor
from app.api.inventory.query import VmQuery
from app.api.inventory.responses import ngt_response, no_such_vm, vm_response
from app.api.inventory.schemas import Vm, VmList, VmNgt
from app.api.scans.responses import ask_again
from app.ngt.errors import FaultCode as C
from app.ngt.vocabulary import VmUuid
from app.settings.callers.scopes import Scope
from app.store.inventory.search import VmFilter
from app.store.records.scans import ScanOrigin

router = APIRouter(route_class=GuardedRoute, tags=["vms"])

_JSON = "application/json"
_ONE_VM = problem_responses(C.VM_NOT_FOUND, C.VALIDATION_FAILED)


@router.get(
    "/vms",
    operation_id="listVms",
    summary="List the VMs, those whose certificate expires next first",
    response_model=VmList,
    responses={
        200: {
            "description": "A page of VMs; or all of them as a file, for `Accept: text/csv`",
            "content": {CSV: {"schema": {"type": "string"}}},
        },
        **problem_responses(C.TARGET_NOT_ALLOWED, C.CLUSTER_NOT_FOUND, C.VALIDATION_FAILED),
    },
)
async def list_vms(
    request: Request, caller: CallerDep, services: ServicesDep, query: Annotated[VmQuery, Query()]
) -> Response:
    """VMs of the clusters that the key may use, as the last scans saw them; all filters must hold.

    As CSV (RFC 4180, with a line of names) the file has every VM that the filters leave, at one moment: `limit` and
    `cursor` are refused. A text that a spreadsheet would take for a formula has an apostrophe before it.
    """
    if query.cluster is not None:
        # An empty list of a cluster that there is not would read as if nothing expired there.
        get_cluster(services.settings, caller, query.cluster)
    wanted = query.filter_on(allowed_clusters(services.settings, caller))
    if preferred_media_type(request, _JSON, CSV) == CSV:
        query.check_for_csv()
        return await _csv_answer(request, services, wanted, query)
    found = await services.store.vms.list(wanted, query.sort, limit=query.limit + 1, after=query.after())
    page = found[: query.limit]
    next_cursor = write_vm_cursor(page[-1], query.sort) if len(found) > query.limit else None
    body = VmList(items=[vm_response(vm) for vm in page], next_cursor=or_missing(next_cursor))
    return json_answer(body, headers=link_to_next(request, next_cursor))


async def _csv_answer(request: Request, services: Services, wanted: VmFilter, query: VmQuery) -> Response:
    rows = services.store.vms.stream(wanted, query.sort)
    # A database that is away is told as such only before the file has begun.
    first = await anext(rows)
    if request.state.head_only:
        await rows.aclose()
        return Response(headers=CsvOfVms((), rows).headers)
    return CsvOfVms(first, rows)


@router.get(
    "/vms/{vm_uuid}",
    operation_id="getVm",
    summary="Read what is known of a VM",
    response_model=Vm,
    responses=_ONE_VM,
)
async def get_vm(caller: CallerDep, services: ServicesDep, vm_uuid: VmUuidInPath) -> Response:
    """As the last scan of its cluster saw it. A VM on several clusters is the one that was seen last."""
    vm = await services.store.vms.find(VmUuid(vm_uuid), allowed_clusters(services.settings, caller))
    if vm is None:
        raise no_such_vm(VmUuid(vm_uuid))
    return json_answer(vm_response(vm))


class NgtQuery(BaseModel):
    """The scan before the answer."""

    model_config = ConfigDict(frozen=True)

    refresh: Annotated[
        bool,
        Field(description="Start a scan of this VM; the key needs the scope `clusters:scan` too. `wait` waits for it"),
    ] = False


@router.get(
    "/vms/{vm_uuid}/ngt",
    operation_id="getVmNgt",
    summary="Read all that is known of a VM's NGT",
    response_model=VmNgt,
    responses={**_ONE_VM, **problem_responses(C.TOO_MANY_WAITS)},
)
async def get_vm_ngt(
    request: Request,
    caller: CallerDep,
    services: ServicesDep,
    wait: WaitForScan,
    vm_uuid: VmUuidInPath,
    query: Annotated[NgtQuery, Query()],
) -> Response:
    """The state of NGT, the link, the certificate, what each source last said of it, and the last renewal.

    With `refresh` a scan of the VM is started, or an open one joined: `Location` and `scan_id` name it. With `wait`
    the answer comes with its end and shows what it found; else, and when it is not done in time, what was known before.
    """
    vm, clusters = VmUuid(vm_uuid), allowed_clusters(services.settings, caller)
    if query.refresh and Scope.CLUSTERS_SCAN not in caller.scopes:
        raise InsufficientScope(frozenset({Scope.CLUSTERS_SCAN}))
    ngt = await services.store.vms.find_ngt(vm, clusters)
    if ngt is None:
        raise no_such_vm(vm)
    # A HEAD asks for nothing to be done.
    if not query.refresh or request.state.head_only:
        return json_answer(ngt_response(ngt), headers=wait.applied)
    started = await services.store.scans.start(ngt.vm.cluster, vm_uuid=vm, origin=ScanOrigin.REFRESH, caller=caller)
    scan = started.scan
    if wait.seconds:
        scan = await wait_for_scan(request, services, scan, wait)
        ngt = await services.store.vms.find_ngt(vm, clusters) or ngt
    headers = {"Location": f"/scans/{scan.id}", **ask_again(scan), **wait.applied}
    return json_answer(ngt_response(ngt, scan), headers=headers)

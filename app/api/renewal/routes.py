"""Starting a renewal. Only what is stored is asked here, never a cluster: the answer comes at once."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Body, Request, Response

from app.api.callers.authorization import CallerDep
from app.api.http.cluster_access import candidate_clusters, check_restart_possible
from app.api.http.dependencies import ServicesDep
from app.api.http.parameters import VmUuidInPath
from app.api.http.problems import problem_responses
from app.api.http.request_guard import GuardedRoute
from app.api.http.request_headers import read_idempotency_key
from app.api.http.waiting import WaitForEnd, wait_until_done
from app.api.jobs.responses import accepted_answer
from app.api.jobs.schemas import Job
from app.api.renewal.callback import callback_of
from app.api.renewal.request import RenewRequest
from app.ngt.errors import FaultCode as C
from app.ngt.renewal.request import RenewalRequest
from app.ngt.vocabulary import VmUuid
from app.store.jobs.progress_json import dump_request
from app.store.records.callers import Caller
from app.store.records.jobs import IdempotencyKey, NewRenewal

router = APIRouter(route_class=GuardedRoute)

_PATH = "/vms/{vm_uuid}/ngt/renew"
_ROUTE = f"POST {_PATH}"


@router.post(
    _PATH,
    operation_id="renewVmNgtCertificate",
    tags=["renewals"],
    summary="Renew the NGT client certificate of a VM",
    status_code=202,
    response_model=Job,
    response_description="The job is open: poll it as `Retry-After` says",
    responses={
        200: {"model": Job, "description": "The job is done"},
        **problem_responses(
            C.IDEMPOTENCY_KEY_INVALID,
            C.CALLBACK_NOT_ALLOWED,
            C.TARGET_NOT_ALLOWED,
            C.CLUSTER_NOT_FOUND,
            C.VM_BUSY,
            C.VALIDATION_FAILED,
            C.IDEMPOTENCY_KEY_REUSED,
            C.AGENT_RESTART_NOT_POSSIBLE,
            C.TOO_MANY_WAITS,
            C.QUEUE_FULL,
        ),
    },
)
async def renew(
    request: Request,
    caller: CallerDep,
    services: ServicesDep,
    wait: WaitForEnd,
    vm_uuid: VmUuidInPath,
    body: Annotated[RenewRequest, Body()] = RenewRequest(),  # noqa: B008 - frozen, and what no body means
) -> Response:
    """Starts a job, or joins the VM's open one that does the same. The body may be left out.

    A request that is repeated with its `Idempotency-Key` answers with the same job, for 7 days
    unless configured otherwise (`getMeta`).
    """
    key = read_idempotency_key(request)
    vm = VmUuid(vm_uuid)
    seen_on = await services.store.vms.known_cluster(vm) if body.cluster is None else ()
    candidates = candidate_clusters(services.settings, caller, body.cluster, seen_on)
    check_restart_possible(services.settings, candidates, body.restart_agent)
    callback = callback_of(services.settings, body, candidates)

    started = await services.store.jobs.start_renewal(
        replace(_new_renewal(vm, body, caller, candidates), callback=callback),
        None if key is None else IdempotencyKey(key, _ROUTE, _request_sha256(vm, body)),
        max_queued=services.settings.callers.max_queued_jobs,
    )
    job = await wait_until_done(request, services, started.job, wait)

    headers = {"Location": f"/jobs/{job.id}", **wait.applied}
    if started.replayed:
        headers["Idempotency-Replayed"] = "true"
    return accepted_answer(job, joined=started.joined, headers=headers)


def _new_renewal(vm: VmUuid, body: RenewRequest, caller: Caller, candidates: Sequence[str]) -> NewRenewal:
    wanted = RenewalRequest(
        mode=body.mode,
        force=body.force,
        skip_if_valid_days=body.skip_if_valid_days,
        cluster=body.cluster,
        clusters=tuple(candidates),
        restart_agent=body.restart_agent,
        when_powered_off=body.when_powered_off,
        create_if_absent=body.create_if_absent,
        accept_unverified=body.accept_unverified,
        validate_only=body.validate_only,
    )
    return NewRenewal(
        vm_uuid=vm,
        cluster=candidates[0] if len(candidates) == 1 else None,
        request=dump_request(wanted),
        asked=body.asked(),
        validate_only=body.validate_only,
        fail_on_conflict=body.on_conflict == "fail",
        caller=caller,
        correlation_id=body.correlation_id or None,
        correlation_display=body.correlation_display or None,
        change_number=body.change_number or None,
        requested_by=body.requested_by or None,
    )


def _request_sha256(vm: VmUuid, body: RenewRequest) -> str:
    """The same for two requests that ask for the same, in whatever order and spelling of numbers."""
    canonical = json.dumps(body.canonical(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(f"/vms/{vm}/ngt/renew\n{canonical}".encode()).hexdigest()

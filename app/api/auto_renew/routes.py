"""The plan of automatic renewal, which can be read before it is switched on, and its resume after failures."""

import asyncio
from collections import Counter

from fastapi import APIRouter, Response

from app.api.auto_renew.schemas import (
    MOST_SHOWN,
    AutoRenewOpening,
    AutoRenewPlan,
    AutoRenewWindow,
    LeftOutVm,
    PlannedRenewal,
)
from app.api.callers.authorization import CallerDep
from app.api.clusters.routes import cluster_response
from app.api.clusters.schemas import Cluster
from app.api.http.cluster_access import get_cluster
from app.api.http.dependencies import ServicesDep
from app.api.http.parameters import ClusterName
from app.api.http.problems import problem_responses
from app.api.http.request_guard import GuardedRoute
from app.api.http.responses import json_answer
from app.field_types import from_record
from app.ngt.auto_renew.messages import reason_of, sentences_of
from app.ngt.auto_renew.plan import AutoPlan, AutoRules, Planned, Skipped, plan_renewals
from app.ngt.errors import FaultCode as C
from app.settings import ClusterSettings
from app.store.auto_renew import PlannerInput

router = APIRouter(route_class=GuardedRoute, tags=["clusters"])

_ONE_CLUSTER = problem_responses(C.TARGET_NOT_ALLOWED, C.CLUSTER_NOT_FOUND, C.VALIDATION_FAILED)


@router.get(
    "/clusters/{cluster}/auto-renew/plan",
    operation_id="getAutoRenewPlan",
    summary="Read the plan of automatic renewals of a cluster",
    response_model=AutoRenewPlan,
    responses=_ONE_CLUSTER,
)
async def get_auto_renew_plan(caller: CallerDep, services: ServicesDep, cluster: ClusterName) -> Response:
    """The VMs that would be renewed, with the time; those that would be too late; and those left out, with the reason.

    The plan is the same before automatic renewal is switched on. It is made from the present facts.
    """
    configured = get_cluster(services.settings, caller, cluster)
    sight = await services.store.auto_renewals.look(cluster, configured)
    rules = configured.auto_renew.rules(services.settings.limits.renewed_recently_s)
    # Some thousand VMs take a moment, in which other requests go on.
    plan = await asyncio.to_thread(plan_renewals, rules, sight.now, sight.known.candidates, sight.known.started_at)
    return json_answer(_plan_response(cluster, configured, rules, sight, plan))


@router.post(
    "/clusters/{cluster}/auto-renew/resume",
    operation_id="resumeAutoRenew",
    summary="Let automatic renewals begin again on a cluster",
    response_model=Cluster,
    responses=_ONE_CLUSTER,
)
async def resume_auto_renew(caller: CallerDep, services: ServicesDep, cluster: ClusterName) -> Response:
    """Starts them again after several in a row failed and the service stopped them. Otherwise it changes nothing."""
    configured = get_cluster(services.settings, caller, cluster)
    await services.store.clusters.ensure([cluster])
    return json_answer(cluster_response(cluster, configured, await services.store.clusters.resume_auto_renew(cluster)))


def _plan_response(
    name: str, configured: ClusterSettings, rules: AutoRules, sight: PlannerInput, plan: AutoPlan
) -> AutoRenewPlan:
    settings, upcoming = configured.auto_renew, plan.upcoming[0] if plan.upcoming else None
    counts = Counter(one.opening for one in plan.planned if one.opening is not None)
    return from_record(
        AutoRenewPlan,
        rules,
        cluster=name,
        enabled=settings.enabled,
        stopped=sight.stopped_at is not None,
        stopped_at=sight.stopped_at,
        stopped_reason=sight.standing.stopped_because,
        made_at=plan.now,
        sentences=sentences_of(name, rules, plan, sight.standing),
        stop_after_failures=settings.stop_after_failures,
        restart_agent=settings.restart_agent or configured.restart_agent,
        windows=[from_record(AutoRenewWindow, window) for window in rules.windows],
        open_now=plan.present is not None,
        next_opens_at=None if upcoming is None else upcoming.opens_at,
        next_closes_at=None if upcoming is None else upcoming.closes_at,
        started_today=plan.started_today,
        needed_per_day=plan.needed_per_day,
        openings=[
            from_record(AutoRenewOpening, opening, renewals=count)
            for opening, count in list(counts.items())[:MOST_SHOWN]
        ],
        planned_count=len(plan.planned),
        items=[_planned(one, rules, plan) for one in plan.planned[:MOST_SHOWN]],
        too_late_count=len(plan.too_late),
        too_late=[_planned(one, rules, plan) for one in plan.too_late[:MOST_SHOWN]],
        left_out_count=len(plan.left_out),
        left_out=[_left_out(one) for one in plan.left_out[:MOST_SHOWN]],
    )


def _planned(one: Planned, rules: AutoRules, plan: AutoPlan) -> PlannedRenewal:
    return from_record(
        PlannedRenewal,
        one,
        vm_uuid=one.vm.vm_uuid,
        vm_name=one.vm.name,
        certificate_source=one.vm.source,
        planned_from=None if one.opening is None else one.opening.opens_at,
        planned_until=None if one.opening is None else one.opening.closes_at,
        reason=reason_of(rules, one, plan.now),
    )


def _left_out(one: Skipped) -> LeftOutVm:
    return from_record(LeftOutVm, one.vm, vm_name=one.vm.name, reason_code=one.because, reason=one.sentence)

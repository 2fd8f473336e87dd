"""What the service renews by itself, readable before it is switched on; and starting it again after failures."""

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
from app.api.clusters.routes import shown_cluster
from app.api.clusters.schemas import Cluster
from app.api.http.cluster_access import get_cluster
from app.api.http.dependencies import ServicesDep
from app.api.http.parameters import ClusterName
from app.api.http.problems import problem_responses
from app.api.http.request_guard import GuardedRoute
from app.api.http.responses import json_answer, known
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
    summary="Read what is renewed by itself on a cluster",
    response_model=AutoRenewPlan,
    responses=_ONE_CLUSTER,
)
async def get_auto_renew_plan(caller: CallerDep, services: ServicesDep, cluster: ClusterName) -> Response:
    """Which VMs would be renewed when, which would be too late, and which are left out and why.

    It is the same before automatic renewal is switched on. It is made from what is known now, and changes with that.
    """
    configured = get_cluster(services.settings, caller, cluster)
    sight = await services.auto_renewals.look(cluster, configured)
    rules = configured.auto_renew.rules()
    # Some thousand VMs take a moment, in which other requests go on.
    plan = await asyncio.to_thread(plan_renewals, rules, sight.now, sight.known.candidates, sight.known.started_at)
    return json_answer(_shown(cluster, configured, rules, sight, plan))


@router.post(
    "/clusters/{cluster}/auto-renew/resume",
    operation_id="resumeAutoRenew",
    summary="Let automatic renewals begin again on a cluster",
    response_model=Cluster,
    responses=_ONE_CLUSTER,
)
async def resume_auto_renew(caller: CallerDep, services: ServicesDep, cluster: ClusterName) -> Response:
    """After the service stopped them by itself, because several in a row failed. Otherwise this is harmless."""
    configured = get_cluster(services.settings, caller, cluster)
    await services.clusters.ensure([cluster])
    return json_answer(shown_cluster(cluster, configured, await services.clusters.resume_auto_renew(cluster)))


def _shown(
    name: str, configured: ClusterSettings, rules: AutoRules, sight: PlannerInput, plan: AutoPlan
) -> AutoRenewPlan:
    settings, stopped = configured.auto_renew, sight.stopped_at is not None
    next_opening = plan.upcoming[0] if plan.upcoming else None
    counts = Counter(one.opening for one in plan.planned if one.opening is not None)
    return AutoRenewPlan(
        cluster=name,
        enabled=settings.enabled,
        stopped=stopped,
        stopped_at=known(sight.stopped_at),
        stopped_reason=known(sight.standing.stopped_because),
        made_at=plan.now,
        sentences=list(sentences_of(name, rules, plan, sight.standing)),
        before_days=rules.before_days,
        at_most_per_day=rules.at_most_per_day,
        at_most_at_once=rules.at_most_at_once,
        stop_after_failures=settings.stop_after_failures,
        restart_agent=settings.restart_agent or configured.restart_agent,
        windows=[
            AutoRenewWindow(cron=window.cron, duration_minutes=window.duration_minutes, time_zone=window.time_zone)
            for window in rules.windows
        ],
        include=list(rules.include),
        exclude=list(rules.exclude),
        open_now=plan.present is not None,
        next_opens_at=known(next_opening.opens_at if next_opening is not None else None),
        next_closes_at=known(next_opening.closes_at if next_opening is not None else None),
        started_today=plan.started_today,
        needed_per_day=known(plan.needed_per_day),
        openings=[
            AutoRenewOpening(opens_at=opening.opens_at, closes_at=opening.closes_at, renewals=count)
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
    opening = one.opening
    return PlannedRenewal(
        vm_uuid=one.vm.vm_uuid,
        vm_name=known(one.vm.name),
        not_after=one.not_after,
        certificate_source=known(one.vm.source),
        planned_from=known(opening.opens_at if opening is not None else None),
        planned_until=known(opening.closes_at if opening is not None else None),
        in_time=one.in_time,
        reason=reason_of(rules, one, plan.now),
    )


def _left_out(one: Skipped) -> LeftOutVm:
    return LeftOutVm(
        vm_uuid=one.vm.vm_uuid,
        vm_name=known(one.vm.name),
        not_after=known(one.vm.not_after),
        reason_code=one.because,
        reason=one.sentence,
    )

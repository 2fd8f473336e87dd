"""Starts automatic renewals: on each cluster those that its plan has for this moment, and no more."""

from collections.abc import Mapping
from datetime import datetime

import structlog

from app.ngt.auto_renew.capacity import capacity
from app.ngt.auto_renew.messages import rule_of
from app.ngt.auto_renew.plan import AutoRules, Planned, plan_renewals, present_opening
from app.ngt.renewal.request import RenewalRequest
from app.settings import AutoRenew, ClusterSettings
from app.settings.callers.scopes import Scope
from app.store.auto_renew import AutoRenewals, PlannerLock
from app.store.jobs.commands import Jobs
from app.store.jobs.progress_json import dump_request
from app.store.jobs.start import VmBusy
from app.store.records.callers import Caller
from app.store.records.jobs import JobRecord, NewRenewal
from app.work.clusters.rounds import for_each_cluster

log = structlog.get_logger(__name__)

CALLER = Caller("automatic", "automatic renewal", frozenset({Scope.RENEW}), None)
"""The caller of automatic jobs."""


class AutoRenewal:
    """Starts automatic renewals on the clusters of this configuration, in turn with the other replicas."""

    def __init__(
        self,
        auto: AutoRenewals,
        jobs: Jobs,
        clusters: Mapping[str, ClusterSettings],
        *,
        max_queued: int,
        renewed_recently_s: float,
    ) -> None:
        self._auto = auto
        self._jobs = jobs
        self._clusters = {name: cluster for name, cluster in clusters.items() if cluster.auto_renew.enabled}
        self._max_queued = max_queued
        self._renewed_recently_s = renewed_recently_s

    async def start_due(self, now: datetime | None = None) -> tuple[JobRecord, ...]:
        """Starts the due renewals of every cluster; `now` replaces the database's clock."""
        started: list[JobRecord] = []

        async def start_on(name: str) -> None:
            cluster = self._clusters[name]
            async with self._auto.turn(name, cluster, now) as turn:
                if turn is not None:
                    started.extend(await self._start_on(name, cluster.auto_renew, turn))

        await for_each_cluster(self._clusters, start_on, "automatic renewals were not started")
        return tuple(started)

    async def _start_on(self, name: str, settings: AutoRenew, turn: PlannerLock) -> list[JobRecord]:
        rules = settings.rules(self._renewed_recently_s)
        places = capacity(rules, turn.standing)
        if places == 0 or present_opening(rules, turn.now) is None:
            return []
        known = await turn.read_known()
        plan = plan_renewals(rules, turn.now, known.candidates, known.started_at)
        started: list[JobRecord] = []
        for one in plan.due:
            if len(started) == places:
                break
            if (job := await self._start(name, settings, rules, one, turn.now)) is not None:
                started.append(job)
        return started

    async def _start(
        self, name: str, settings: AutoRenew, rules: AutoRules, one: Planned, now: datetime
    ) -> JobRecord | None:
        """The new job, or None where another job has renewed the VM since its row was read."""
        rule = rule_of(name, rules, one, now)
        try:
            started = await self._jobs.start_renewal(
                _new_renewal(name, settings, one, rule), max_queued=self._max_queued
            )
        except VmBusy:
            return None
        log.info("automatic renewal", cluster=name, vm_uuid=one.vm.vm_uuid, job_id=str(started.job.id), rule=rule)
        return started.job


def _new_renewal(cluster: str, settings: AutoRenew, one: Planned, rule: str) -> NewRenewal:
    restart = settings.restart_agent
    wanted = RenewalRequest(
        # A certificate that proves to be valid for longer is left alone.
        skip_if_valid_days=settings.before_days,
        cluster=cluster,
        clusters=(cluster,),
        restart_agent=restart,
    )
    asked = {"cluster": cluster, "skip_if_valid_days": settings.before_days}
    return NewRenewal(
        vm_uuid=one.vm.vm_uuid,
        cluster=cluster,
        request=dump_request(wanted),
        # A request with the same members joins this job.
        asked=asked if restart is None else {**asked, "restart_agent": restart.value},
        validate_only=False,
        fail_on_conflict=True,
        caller=CALLER,
        automatic_rule=rule,
    )

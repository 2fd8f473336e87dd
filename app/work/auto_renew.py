"""Starts the renewals that nobody asked for: on each cluster what its plan has for this moment, and no more."""

from collections.abc import Mapping
from datetime import datetime

import structlog

from app.ngt.auto_renew.capacity import capacity
from app.ngt.auto_renew.messages import rule_of
from app.ngt.auto_renew.plan import AutoRules, Planned, plan_renewals, present_opening
from app.ngt.errors import Fault
from app.ngt.renewal.request import RenewalRequest
from app.settings import AutoRenew, ClusterSettings
from app.settings.callers.scopes import Scope
from app.store.auto_renew import AutoRenewals, PlannerLock
from app.store.jobs.commands import Jobs
from app.store.jobs.progress_json import dump_request
from app.store.jobs.start import VmBusy
from app.store.records.callers import Caller
from app.store.records.jobs import JobRecord, NewRenewal

log = structlog.get_logger(__name__)

START_EVERY_S = 30.0
"""How often each replica looks whether there is something to start."""

CALLER = Caller("automatic", "automatic renewal", frozenset({Scope.RENEW}), None)
"""Who asks for automatic jobs."""


class AutoRenewal:
    """Starts automatic renewals on the clusters of this configuration, in turn with the other replicas."""

    def __init__(
        self,
        auto: AutoRenewals,
        jobs: Jobs,
        clusters: Mapping[str, ClusterSettings],
        *,
        max_queued: int,
        renewed_recently_s: float = 86400,
    ) -> None:
        self._auto = auto
        self._jobs = jobs
        self._clusters = {name: cluster for name, cluster in clusters.items() if cluster.auto_renew.enabled}
        self._max_queued = max_queued
        self._renewed_recently_s = renewed_recently_s

    async def start_due(self, now: datetime | None = None) -> tuple[JobRecord, ...]:
        """Starts on every cluster what is due and has room; answers with the new jobs.

        `now` stands in for the database's clock. A cluster that cannot be served holds up no other one.
        """
        started: list[JobRecord] = []
        for name, cluster in self._clusters.items():
            try:
                async with self._auto.turn(name, cluster, now) as turn:
                    if turn is not None:
                        started += await self._start_on(name, cluster.auto_renew, turn)
            except Fault as fault:
                said = "automatic renewals were not started"
                log.warning(said, cluster=name, error_code=fault.code, error=fault.message)
            except Exception:
                # Whatever one cluster meets, the certificates of the others end meanwhile.
                log.exception("automatic renewals were not started", cluster=name)
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
        """The new job, or None where somebody else renews the VM since its row was read."""
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
        # A certificate that turns out to be good for longer is left alone.
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
        # As a request would ask for the same, which then joins this job.
        asked=asked if restart is None else {**asked, "restart_agent": restart.value},
        validate_only=False,
        fail_on_conflict=True,
        caller=CALLER,
        automatic_rule=rule,
    )

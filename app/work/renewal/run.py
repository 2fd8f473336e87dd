"""The renewal of one VM, from claim to end, readable from top to bottom.

Each turn of the loop commits the intent together with the previous answer, and then acts. A wake-up may come twice or
find nothing to do. A crash is harmless: the commits are true, and an intent without an answer may still be running.
"""

from dataclasses import replace
from datetime import datetime
from itertools import product
from uuid import UUID, uuid4

import structlog

from app.ngt.renewal.change import begin
from app.ngt.renewal.machine import PROCEDURE, advance, next_action
from app.ngt.renewal.progress import EntityStage, Progress, ProvedBy
from app.ngt.renewal.request import Rules
from app.ngt.renewal.steps import (
    FindVm,
    Finish,
    LookAtEntity,
    MakeChange,
    ReadBefore,
    RestartTheAgent,
    Resumed,
    Transition,
    Verify,
    Wait,
)
from app.settings import AutoRenew, Limits
from app.store.jobs.claims import JobClaims
from app.store.records.claims import Claim, FenceLost, Held, NewExchange, Outcome, ProgressColumns, Release, StepIntent
from app.store.records.jobs import JobStatus
from app.store.records.rows import dump_results
from app.telemetry.metrics import Metrics
from app.work.clusters.client import ClusterClient
from app.work.clusters.database_clock import DatabaseClock
from app.work.renewal.actions import Actions, Performed, Uncommitted
from app.work.renewal.results import certificate_of, results_of

log = structlog.get_logger(__name__)

_STATUS_OF_OUTCOME = {
    "renewed": JobStatus.SUCCEEDED,
    "unverified": JobStatus.SUCCEEDED,
    "planned": JobStatus.SUCCEEDED,
    "already_valid": JobStatus.SKIPPED,
    "failed": JobStatus.FAILED,
}
_STOPPING = "the service stopped between two steps; the job continues where it was"


class Renewals:
    """Runs the jobs of one worker process, many at the same time."""

    def __init__(
        self, claims: JobClaims, clusters: dict[str, ClusterClient], actions: Actions, limits: Limits, metrics: Metrics
    ) -> None:
        self._claims = claims
        self._clusters = clusters
        self._actions = actions
        self._limits = limits
        self._metrics = metrics
        self._draining = False
        self._slots = {name: cluster.slots for name, cluster in clusters.items()}
        # A counter that appears only with its first job would hide that job from every rate.
        for cluster, outcome in product(clusters, _STATUS_OF_OUTCOME):
            metrics.jobs_total.labels(cluster=cluster, outcome=outcome)
        # Before the cluster is known there are only looks, by the rules that all clusters share.
        self._rules_before = Rules(
            retry_first_s=limits.retry_first_s,
            retry_last_s=limits.retry_last_s,
            unreachable_retries=limits.unreachable_retries,
        )

    def drain(self) -> None:
        """From now on, a job is released as soon as its present step has ended."""
        self._draining = True

    async def run(self, job_id: UUID) -> None:
        """Run the job until it waits or ends. Does nothing when it is not due or another worker has it."""
        claim = await self._claims.claim(job_id, self._slots)
        if claim is None:
            return
        with structlog.contextvars.bound_contextvars(job_id=str(job_id), vm_uuid=claim.vm_uuid, cluster=claim.cluster):
            try:
                await self._run(claim)
            except FenceLost:
                log.info("another runner or a caller took the job over")
            except Held as held:
                log.info("held", reason=str(held))
            finally:
                self._claims.stop_heartbeat(claim)

    async def _run(self, claim: Claim) -> None:
        clock, rules = DatabaseClock(claim.now), self._rules(claim.cluster)
        resumed = Resumed(claim.sighting, claim.look_now, claim.pushed)
        progress = advance(claim.progress, resumed, rules, clock.now()).progress
        uncommitted, exchange = Uncommitted(), None
        while True:
            action = next_action(progress, rules, clock.now())
            columns = self._columns(progress, uncommitted)
            if (cluster := progress.cluster) not in {None, claim.cluster}:
                return await self._requeue(claim, columns, f"found on {cluster}", clock.now(), cluster=cluster)
            match action:
                case Wait():
                    return await self._release(claim, columns, action)
                case Finish():
                    return await self._finish(claim, columns, action, rules, clock.now())
                case _ if self._draining:
                    return await self._requeue(claim, columns, _STOPPING, clock.now())
                case LookAtEntity():
                    exchange = None
                case _:
                    progress, exchange = await self._commit_intent(claim, progress, columns, action, rules, clock)
                    uncommitted = Uncommitted()
            performed = await self._actions.perform(progress, action, rules, clock, exchange)
            transition = advance(progress, performed.answer, rules, clock.now())
            progress = transition.progress
            uncommitted = performed.append_to(uncommitted, transition, is_look=isinstance(action, LookAtEntity))
            if isinstance(action, MakeChange):
                await self._claims.record_answer(claim, self._columns(progress, uncommitted))
                uncommitted = Uncommitted()
            self._observe(performed, transition)

    def _rules(self, cluster: str | None) -> Rules:
        client = self._clusters.get(cluster or "")
        return client.rules if client is not None else self._rules_before

    def _stop_after_failures(self, cluster: str | None) -> int:
        client = self._clusters.get(cluster or "")
        return (client.settings.auto_renew if client is not None else AutoRenew()).stop_after_failures

    async def _commit_intent(
        self,
        claim: Claim,
        progress: Progress,
        columns: ProgressColumns,
        action: FindVm | ReadBefore | MakeChange | RestartTheAgent | Verify,
        rules: Rules,
        clock: DatabaseClock,
    ) -> tuple[Progress, NewExchange | None]:
        """Store the intent in one transaction with the answer to the previous step.

        For a change, the intent is part of the progress, and its exact text is stored too.
        """
        begun, exchange = progress, None
        if isinstance(action, MakeChange):
            begun = begin(progress, action, rules, clock.now(), f"ngtr-{uuid4().hex[:20]}")
            exchange = self._actions.prepare_change(begun, action, rules, clock)
        intent = StepIntent(
            name=action.step,
            percent=PROCEDURE[action.step],
            started_at=clock.now(),
            cvm=begun.clock.cvm if begun.clock is not None else None,
            may_be_held=isinstance(action, MakeChange) and begun.entity is EntityStage.UNTOUCHED,
            sent=exchange,
        )
        stored = self._columns(begun, Uncommitted(columns.done, tuple(columns.sent)))
        if_held = replace(columns, done=None, sent=())
        exchange_id = await self._claims.record_intent(claim, stored, intent, if_held=if_held)
        return begun, replace(exchange, exchange_id=exchange_id) if exchange is not None else None

    async def _requeue(
        self, claim: Claim, columns: ProgressColumns, message: str, now: datetime, *, cluster: str | None = None
    ) -> None:
        """The job is due at once; with a `cluster` where the VM was found, it needs a slot there from now on."""
        slots = self._slots.get(claim.cluster or "") if cluster is None else None
        back = Release(JobStatus.QUEUED, None, message, until=now, deadline=None)
        await self._claims.release(claim, columns, back, slots, cluster=cluster)

    async def _release(self, claim: Claim, columns: ProgressColumns, wait: Wait) -> None:
        until = wait.until if wait.deadline is None or wait.until is not None else wait.deadline
        back = Release(JobStatus.WAITING, wait.reason, wait.message, until, wait.deadline)
        await self._claims.release(claim, columns, back, self._slots.get(claim.cluster or ""))
        if columns.stranded:
            self._raise_alarm(columns.progress, claim)
        log.info("the job waits", wait_reason=wait.reason, until=until)

    def _raise_alarm(self, progress: Progress, claim: Claim) -> None:
        """A warning at first, and an error after `stranded_deadline_s`."""
        since = progress.missing_since or claim.now
        late = (claim.now - since).total_seconds() >= self._limits.stranded_deadline_s
        said = "the VM has no tools entity at the moment, so NGT is off for it; create is tried until it succeeds"
        (log.error if late else log.warning)(said, stranded_since=since)

    async def _finish(self, claim: Claim, columns: ProgressColumns, end: Finish, rules: Rules, now: datetime) -> None:
        failure = end.failure
        progress = columns.progress
        ended = Outcome(
            status=_STATUS_OF_OUTCOME[end.outcome],
            outcome=end.outcome,
            message=end.message,
            error_code=failure.code if failure is not None else None,
            error_message=failure.message if failure is not None else None,
            remaining_action=progress.remaining_action if failure is not None else None,
            proven=_counts_for_cluster(progress, rules),
            pause_after_unproven=self._limits.unproven_in_a_row,
            certificate=certificate_of(progress),
            picked_up=progress.proof is not None,
            stop_after_failures=self._stop_after_failures(claim.cluster),
        )
        stop = await self._claims.finish(claim, columns, ended, self._slots.get(claim.cluster or ""))
        labels = {"cluster": claim.cluster or "", "outcome": end.outcome}
        self._metrics.jobs_total.labels(**labels).inc()
        self._metrics.job_seconds.labels(**labels).observe((now - claim.created_at).total_seconds())
        log.info("the job ended", outcome=end.outcome, error_code=ended.error_code)
        if stop is not None:
            log.error("automatic renewal was stopped on the cluster", reason=stop.reason)

    def _columns(self, progress: Progress, uncommitted: Uncommitted) -> ProgressColumns:
        return ProgressColumns(
            progress=progress,
            results=dump_results(results_of(progress, self._rules(progress.cluster))),
            takes_slot=progress.takes_slot,
            stranded=progress.is_stranded,
            changing=progress.has_begun_to_change,
            awaits_pickup=progress.awaits_pickup,
            done=uncommitted.done,
            sent=uncommitted.sent,
        )

    def _observe(self, performed: Performed, transition: Transition) -> None:
        step, verdict = performed.step, transition.verdict
        seconds = (performed.finished_at - performed.started_at).total_seconds()
        self._metrics.step_seconds.labels(step=step, result=verdict).observe(seconds)
        log.info("step", step=step, verdict=verdict, message=transition.message, cvm=performed.cvm)


def _counts_for_cluster(progress: Progress, rules: Rules) -> bool | None:
    """True: the end proves that renewals work on the cluster; False: it does not; None: it tells nothing."""
    if progress.entity is not EntityStage.ISSUED:
        return None
    if progress.proof is None:
        return False
    if progress.proof.by is ProvedBy.LINK_ONLY:
        # An operator who accepts it has no better evidence; elsewhere it counts as not proved.
        return None if rules.accept_unverified else False
    return True

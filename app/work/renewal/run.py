"""The renewal of one VM, from claim to end, readable from top to bottom.

Each turn of the loop commits the intent together with the previous answer, and then acts. A wake-up may come twice or
find nothing to do. A crash is harmless: the commits are true, and an intent without an answer may still be running.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from itertools import product
from uuid import UUID, uuid4

import structlog

from app.ngt.errors import FaultCode
from app.ngt.renewal.change import begin
from app.ngt.renewal.machine import PROCEDURE, advance, next_action
from app.ngt.renewal.progress import EntityStage, Failure, Progress, ProvedBy
from app.ngt.renewal.request import Rules
from app.ngt.renewal.steps import (
    Action,
    ChangeLost,
    Failed,
    FindVm,
    Finish,
    LookAtEntity,
    LookForVm,
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
from app.store.postgres.database import ValueRefused
from app.store.records.claims import Claim, FenceLost, Held, NewExchange, Outcome, ProgressColumns, Release, StepIntent
from app.store.records.jobs import JobStatus
from app.store.records.rows import dump_results
from app.telemetry.metrics import Metrics
from app.work.clusters.client import ClusterClient
from app.work.clusters.database_clock import DatabaseClock
from app.work.renewal.actions import Actions, Performed, Uncommitted
from app.work.renewal.results import certificate_before, certificate_of, results_of
from app.work.renewal.unanswered import UnansweredChanges

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
        self._unanswered = UnansweredChanges()
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

    async def watch_unanswered(self) -> None:
        """Watches the changes of other workers too, so that this one need not wait anew when it takes one over."""
        self._unanswered.watch_only(await self._claims.unanswered_changes())

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
        intent = claim.progress.intent
        watched_s = self._unanswered.watched_s(intent) if intent is not None else 0.0
        resumed = Resumed(claim.sighting, claim.look_now, claim.pushed, watched_s)
        progress = advance(claim.progress, resumed, rules, clock.now()).progress
        uncommitted, unstored = Uncommitted(), _Unstored(claim.last_step)
        while True:
            try:
                return await self._take_turns(claim, progress, uncommitted, unstored, rules, clock)
            except ValueRefused as refused:
                if unstored.performed is None:
                    raise
                log.warning("the result of a step cannot be stored", step=unstored.performed.step, error=str(refused))
                progress, uncommitted = unstored.without_result(rules, clock.now())
                claim.last_step = unstored.last_step
                unstored.forget(claim)

    async def _take_turns(
        self,
        claim: Claim,
        progress: Progress,
        uncommitted: Uncommitted,
        unstored: "_Unstored",
        rules: Rules,
        clock: DatabaseClock,
    ) -> None:
        """Raises ValueRefused where the result of the `unstored` step cannot be stored."""
        exchange = None
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
                case LookAtEntity() | LookForVm():
                    exchange = None
                case _:
                    progress, exchange = await self._commit_intent(claim, progress, columns, action, rules, clock)
                    uncommitted = Uncommitted()
                    unstored.forget(claim)
            performed = await self._actions.perform(progress, action, rules, clock, exchange)
            unstored.note(progress, action, performed)
            transition = advance(progress, performed.answer, rules, clock.now())
            progress = transition.progress
            uncommitted = performed.append_to(
                uncommitted, transition, is_look=isinstance(action, LookAtEntity | LookForVm)
            )
            if isinstance(action, MakeChange):
                await self._claims.record_answer(claim, self._columns(progress, uncommitted))
                uncommitted = Uncommitted()
                unstored.forget(claim)
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
            assert begun.intent is not None
            self._unanswered.watched_s(begun.intent)
            exchange = self._actions.prepare_change(begun, action, rules, clock)
        intent = StepIntent(
            name=action.step,
            percent=PROCEDURE[action.step],
            started_at=clock.now(),
            cvm=begun.uptime.cvm if begun.uptime is not None else None,
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
        if columns.progress.intent is not None:
            self._unanswered.watched_s(columns.progress.intent)
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
        foreign = end.message if end.outcome == "unverified" and progress.proof is None else None
        ended = Outcome(
            status=_STATUS_OF_OUTCOME[end.outcome],
            outcome=end.outcome,
            message=end.message,
            error_code=failure.code if failure is not None else None,
            error_message=failure.message if failure is not None else None,
            remaining_action=progress.remaining_action,
            proven=_counts_for_cluster(progress, rules),
            pause_after_unproven=self._limits.unproven_in_a_row,
            certificate=certificate_of(progress) if foreign is None else certificate_before(progress),
            picked_up=progress.proof is not None,
            stop_after_failures=self._stop_after_failures(claim.cluster),
            foreign=foreign,
        )
        if foreign is not None:
            log.warning("the VM shows a certificate that is not of its cluster", reason=foreign)
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
            missing=progress.entity is EntityStage.MISSING and progress.delete_begun,
            awaits_pickup=progress.awaits_pickup,
            done=uncommitted.done,
            sent=uncommitted.sent,
        )

    def _observe(self, performed: Performed, transition: Transition) -> None:
        step, verdict = performed.step, transition.verdict
        seconds = (performed.finished_at - performed.started_at).total_seconds()
        self._metrics.step_seconds.labels(step=step, result=verdict).observe(seconds)
        log.info("step", step=step, verdict=verdict, message=transition.message, cvm=performed.cvm)


@dataclass(slots=True)
class _Unstored:
    """The first action since the last commit, the progress before it, and its result. `last_step`: at that commit."""

    last_step: tuple[int, str, str] | None
    before: Progress | None = None
    action: Action | None = None
    performed: Performed | None = None

    def note(self, before: Progress, action: Action, performed: Performed) -> None:
        if self.performed is None:
            self.before, self.action, self.performed = before, action, performed

    def forget(self, claim: Claim) -> None:
        self.last_step, self.before, self.action, self.performed = claim.last_step, None, None, None

    def without_result(self, rules: Rules, now: datetime) -> tuple[Progress, Uncommitted]:
        """The progress as if the action had given no answer; the limits of such answers end the job."""
        assert self.before is not None
        assert self.performed is not None
        message = f"the result of {self.performed.step} cannot be stored; the log of this service has the cause"
        failure = Failure(FaultCode.INTERNAL_ERROR, message)
        is_change = isinstance(self.action, MakeChange)
        answer = ChangeLost() if is_change else Failed(self.performed.step, failure)
        transition = advance(self.before, answer, rules, now)
        sent = [
            replace(one, exit_status=None, stdout=None, stderr=None, fault=message)
            for one in self.performed.sent
            if is_change
        ]
        emptied = replace(self.performed, answer=answer, sent=tuple(sent))
        return transition.progress, emptied.append_to(Uncommitted(), transition, is_look=False)


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

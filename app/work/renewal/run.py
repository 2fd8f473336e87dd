"""The renewal of one VM, from claim to end, readable from top to bottom.

Ask what to do next; commit the intent together with the answer before it; act; go on. A wake-up may come twice or
find nothing to do. Whatever dies: what is committed is true, and what was begun without an answer may be at work still.
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
from app.ngt.renewal.steps import Action, Finish, LookAtEntity, MakeChange, Resumed, Transition, Wait
from app.settings import AutoRenew, Limits
from app.store.jobs.claims import JobClaims
from app.store.records.claims import Claim, FenceLost, Held, NewExchange, Outcome, ProgressColumns, Release, StepIntent
from app.store.records.jobs import JobStatus
from app.store.records.rows import dump_results
from app.telemetry.metrics import Metrics
from app.work.clusters.client import ClusterClient
from app.work.clusters.database_clock import DatabaseClock
from app.work.renewal.actions import Actions, Deed, Performed
from app.work.renewal.results import certificate_of, results_of

log = structlog.get_logger(__name__)

_STATUS_OF_OUTCOME = {
    "renewed": JobStatus.SUCCEEDED,
    "unverified": JobStatus.SUCCEEDED,
    "planned": JobStatus.SUCCEEDED,
    "already_valid": JobStatus.SKIPPED,
    "failed": JobStatus.FAILED,
}


class Renewals:
    """Runs jobs for one worker process. `run` may be called at the same time for many jobs."""

    def __init__(
        self, running: JobClaims, clusters: dict[str, ClusterClient], acts: Actions, limits: Limits, metrics: Metrics
    ) -> None:
        self._running = running
        self._clusters = clusters
        self._acts = acts
        self._limits = limits
        self._metrics = metrics
        self._draining = False
        self._slots = {name: cluster.slots for name, cluster in clusters.items()}
        # A counter that is not there before its first job would hide that job from every rate.
        for cluster, outcome in product(clusters, _STATUS_OF_OUTCOME):
            metrics.jobs_total.labels(cluster=cluster, outcome=outcome)
        # Before the cluster is known only looks are made, by the rules that all clusters share.
        self._rules_before = Rules(
            retry_first_s=limits.retry_first_s,
            retry_last_s=limits.retry_last_s,
            unreachable_retries=limits.unreachable_retries,
        )

    def drain(self) -> None:
        """From now on a job is put back as soon as its present step has ended, for whoever takes it up next."""
        self._draining = True

    async def run(self, job_id: UUID) -> None:
        """Takes the job as far as it goes now. Does nothing when it is not due or somebody else has it."""
        claim = await self._running.claim(job_id, self._slots)
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
                self._running.let_go(claim)

    async def _run(self, claim: Claim) -> None:
        clock = DatabaseClock(claim.now)
        rules = self._rules(claim.cluster)
        progress = advance(
            claim.progress, Resumed(claim.sighting, claim.look_now, claim.pushed), rules, clock.now()
        ).progress
        deed: Deed | None = None
        while True:
            action = next_action(progress, rules, clock.now())
            state = self._state(progress, deed)
            if progress.cluster is not None and progress.cluster != claim.cluster:
                return await self._queue_on_its_cluster(claim, state, progress.cluster, clock.now())
            if isinstance(action, Wait):
                return await self._put_back(claim, state, action)
            if isinstance(action, Finish):
                return await self._finish(claim, state, action, rules, clock.now())
            if self._draining:
                return await self._leave_to_others(claim, state, clock.now())
            begun, sending = self._begin(progress, action, rules, clock)
            if not isinstance(action, LookAtEntity):
                sending = await self._commit(claim, begun, state, action, sending, clock.now())
                deed = None
            acted = await self._acts.act(begun, action, rules, clock, sending)
            said = advance(begun, acted.answer, rules, clock.now())
            progress = said.progress
            deed = acted.said(said, after=deed, is_look=isinstance(action, LookAtEntity))
            if isinstance(action, MakeChange):
                await self._running.save(claim, self._state(progress, deed))
                deed = None
            self._tell(acted, said)

    def _rules(self, cluster: str | None) -> Rules:
        worked = self._clusters.get(cluster) if cluster is not None else None
        return worked.rules if worked is not None else self._rules_before

    def _stop_after_failures(self, cluster: str | None) -> int:
        worked = self._clusters.get(cluster) if cluster is not None else None
        return (worked.settings.auto_renew if worked is not None else AutoRenew()).stop_after_failures

    def _begin(
        self, progress: Progress, action: Action, rules: Rules, clock: DatabaseClock
    ) -> tuple[Progress, NewExchange | None]:
        """For a change: the progress with its intent, and the exact text that will be sent."""
        if not isinstance(action, MakeChange):
            return progress, None
        begun = begin(progress, action, rules, clock.now(), f"ngtr-{uuid4().hex[:20]}")
        return begun, self._acts.sending(begun, action, rules, clock)

    async def _commit(
        self,
        claim: Claim,
        begun: Progress,
        before: ProgressColumns,
        action: Action,
        sending: NewExchange | None,
        now: datetime,
    ) -> NewExchange | None:
        """The intent is stored before anything is sent, in one transaction with the answer to the step before."""
        assert not isinstance(action, Wait | Finish)
        intent = StepIntent(
            name=action.step,
            percent=PROCEDURE[action.step],
            started_at=now,
            cvm=begun.clock.cvm if begun.clock is not None else None,
            may_be_held=isinstance(action, MakeChange) and begun.entity is EntityStage.UNTOUCHED,
            sent=sending,
        )
        stored = replace(self._state(begun, None), done=before.done, sent=before.sent)
        exchange_id = await self._running.begin_step(claim, stored, intent, if_held=replace(before, done=None, sent=()))
        return replace(sending, exchange_id=exchange_id) if sending is not None else None

    async def _queue_on_its_cluster(self, claim: Claim, state: ProgressColumns, cluster: str, now: datetime) -> None:
        """The VM was found; from here on the job takes one of its cluster's slots."""
        back = Release(JobStatus.QUEUED, None, f"found on {cluster}", until=now, deadline=None)
        await self._running.put_back(claim, state, back, None, cluster=cluster)

    async def _leave_to_others(self, claim: Claim, state: ProgressColumns, now: datetime) -> None:
        said = "the service stopped between two steps; the job goes on where it was"
        back = Release(JobStatus.QUEUED, None, said, until=now, deadline=None)
        await self._running.put_back(claim, state, back, self._slots.get(claim.cluster or ""))

    async def _put_back(self, claim: Claim, state: ProgressColumns, wait: Wait) -> None:
        until = wait.until if wait.deadline is None or wait.until is not None else wait.deadline
        back = Release(JobStatus.WAITING, wait.reason, wait.message, until, wait.deadline)
        await self._running.put_back(claim, state, back, self._slots.get(claim.cluster or ""))
        if state.stranded:
            self._raise_alarm(state.progress, claim)
        log.info("the job waits", wait_reason=wait.reason, until=until)

    def _raise_alarm(self, progress: Progress, claim: Claim) -> None:
        """A stranded VM is a warning at once, and an error at every try after `stranded_deadline_s`."""
        since = progress.missing_since or claim.now
        late = (claim.now - since).total_seconds() >= self._limits.stranded_deadline_s
        said = "the VM has no tools entity at the moment, so NGT is off for it; create is tried until it succeeds"
        (log.error if late else log.warning)(said, stranded_since=since)

    async def _finish(self, claim: Claim, state: ProgressColumns, finish: Finish, rules: Rules, now: datetime) -> None:
        failure = finish.failure
        progress = state.progress
        ended = Outcome(
            status=_STATUS_OF_OUTCOME[finish.outcome],
            outcome=finish.outcome,
            message=finish.message,
            error_code=failure.code if failure is not None else None,
            error_message=failure.message if failure is not None else None,
            remaining_action=progress.remaining_action if failure is not None else None,
            proven=_counts_for_cluster(progress, rules),
            pause_after_unproven=self._limits.unproven_in_a_row,
            certificate=certificate_of(progress),
            picked_up=progress.proof is not None,
            stop_after_failures=self._stop_after_failures(claim.cluster),
        )
        stop = await self._running.finish(claim, state, ended, self._slots.get(claim.cluster or ""))
        labels = {"cluster": claim.cluster or "", "outcome": finish.outcome}
        self._metrics.jobs_total.labels(**labels).inc()
        self._metrics.job_seconds.labels(**labels).observe((now - claim.created_at).total_seconds())
        log.info("the job ended", outcome=finish.outcome, error_code=ended.error_code)
        if stop is not None:
            log.error("automatic renewal was stopped on the cluster", reason=stop.reason)

    def _state(self, progress: Progress, deed: Deed | None) -> ProgressColumns:
        return ProgressColumns(
            progress=progress,
            results=dump_results(results_of(progress, self._rules(progress.cluster))),
            takes_slot=progress.takes_slot,
            stranded=progress.is_stranded,
            changing=progress.has_begun_to_change,
            awaits_pickup=progress.awaits_pickup,
            done=deed.done if deed is not None else None,
            sent=deed.sent if deed is not None else (),
        )

    def _tell(self, acted: Performed, said: Transition) -> None:
        seconds = (acted.finished_at - acted.started_at).total_seconds()
        self._metrics.step_seconds.labels(step=acted.step, result=said.verdict).observe(seconds)
        log.info("step", step=acted.step, verdict=said.verdict, message=said.message, cvm=acted.cvm)


def _counts_for_cluster(progress: Progress, rules: Rules) -> bool | None:
    """Whether the end says that renewals work on this cluster, that they do not, or nothing."""
    if progress.entity is not EntityStage.ISSUED:
        return None
    if progress.proof is None:
        return False
    if progress.proof.by is ProvedBy.LINK_ONLY:
        # Where the operator accepts that, it is the best there is; elsewhere it is one more that was not proved.
        return None if rules.accept_unverified else False
    return True

"""Jobs for workers: claim, record the intent and the answer of a step, release, finish.

Every write is fenced: the database refuses the writes of a frozen worker whose job another one has claimed since.
All times are the database's.
"""

import json
from dataclasses import asdict
from typing import Any
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.ngt.renewal.holds import SlotRules
from app.ngt.vocabulary import VmUuid
from app.store.jobs.exchanges import store_answers, store_text
from app.store.jobs.outcomes import record_outcome
from app.store.jobs.progress_json import dump_progress, load_progress, load_pushed, load_sighting
from app.store.jobs.slots import acquire_slot, find_hold_before_change, release_orphans, wake_held
from app.store.jobs.updates import JOB_CHANNEL
from app.store.postgres.database import Database
from app.store.postgres.queue import WakeUps
from app.store.records.claims import AutoStop, Claim, FenceLost, Held, Outcome, ProgressColumns, Release, StepIntent
from app.store.webhooks.outbox import NO_WEBHOOKS, Outbox

# A repeated step continues in its row, so that a long wait does not fill the list.
_REUSED_STEP = ("not_yet", "lost")

_FIND = text("SELECT cluster, takes_slot FROM job WHERE id = :id AND NOT done")
_CLAIM = text("""
UPDATE job SET status = 'running', wait_reason = NULL, deadline_at = NULL, message = '', fence = fence + 1,
  runner = :runner, lease_until = clock_timestamp() + make_interval(secs => :lease_s),
  started_at = coalesce(started_at, clock_timestamp()), look_now = false, version = version + 1, updated_at = now()
FROM (SELECT look_now AS looked FROM job WHERE id = :id) AS earlier
WHERE id = :id AND NOT done AND due_at <= clock_timestamp() AND cluster IS NOT DISTINCT FROM :cluster
  AND (lease_until IS NULL OR lease_until < clock_timestamp())
RETURNING vm_uuid, cluster, fence, attempt, progress, earlier.looked, created_at, clock_timestamp(),
  (SELECT sighting FROM vm WHERE vm.vm_uuid = job.vm_uuid AND vm.cluster = job.cluster),
  (SELECT to_jsonb(o) FROM certificate_observation o
    WHERE o.vm_uuid = job.vm_uuid AND o.cluster = job.cluster AND o.source = 'pushed_certificate'),
  (SELECT ARRAY[number::text, name, step.status] FROM step WHERE job_id = job.id ORDER BY number DESC LIMIT 1),
  pg_notify(:channel, CAST(id AS text))
""")
_ORPHANED_STEPS = text(
    "UPDATE step SET status = 'lost', finished_at = clock_timestamp(), message = 'the service stopped during this step'"
    " WHERE job_id = :id AND status = 'running'"
)
_INTEND_STEP = text("""
INSERT INTO step (job_id, number, name, attempt, status, started_at, cvm, message)
VALUES (:id, :number, :name, :attempt, 'running', :started_at, :cvm, '')
ON CONFLICT (job_id, number) DO UPDATE SET status = 'running', finished_at = NULL, cvm = excluded.cvm
""")
_END_STEP = text(
    "UPDATE step SET status = :verdict, finished_at = :finished_at, message = :message, result_vec = :result_vec,"
    " cvm = coalesce(:cvm, cvm) WHERE job_id = :id AND number = :number"
)
# Awaited since the last issue: an earlier certificate that was never seen in the guest does not count.
_AWAIT_PICKUP = text("""
INSERT INTO vm (vm_uuid, cluster, awaiting_pickup_since, last_job_id)
VALUES (:vm_uuid, :cluster, coalesce(CAST(:issued_at AS timestamptz), clock_timestamp()), :id)
ON CONFLICT (vm_uuid, cluster) DO UPDATE SET
  awaiting_pickup_since = coalesce(
    greatest(vm.awaiting_pickup_since, CAST(:issued_at AS timestamptz)), clock_timestamp()),
  last_job_id = :id
""")


def _update_job(assignments: str) -> TextClause:
    """Stores the progress and the assignments, if the job is still its runner's, and announces the change."""
    return text(
        "UPDATE job SET progress = CAST(:progress AS jsonb),"  # noqa: S608 - constants of this module
        " results = CAST(:results AS jsonb),"
        " vm_name = coalesce(:vm_name, vm_name), takes_slot = :takes_slot, remote_until_at = :remote_until_at,"
        " stranded_since = CASE WHEN :stranded THEN coalesce(stranded_since, clock_timestamp()) END,"
        " changing_since = CASE WHEN :changing THEN coalesce(changing_since, clock_timestamp()) END,"
        f" version = version + 1, updated_at = clock_timestamp(), {assignments}"
        " FROM (SELECT stranded_since IS NOT NULL AS was_stranded FROM job WHERE id = :id) AS earlier"
        " WHERE id = :id AND fence = :fence AND NOT done"
        " RETURNING stranded_since IS NOT NULL AND NOT was_stranded, pg_notify(:channel, CAST(id AS text))"
    )


_HOLD = _update_job("status = 'waiting', wait_reason = :reason, message = :message, due_at = NULL, lease_until = NULL")
_INTEND = _update_job("current_step = :name, progress_percent = :percent, cvm = coalesce(:cvm, cvm)")
_RECORD_ANSWER = _update_job("runner = runner")
_RELEASE = _update_job(
    "status = :status, wait_reason = :reason, message = :message, due_at = :until, deadline_at = :deadline,"
    " lease_until = NULL, cluster = coalesce(:cluster, cluster)"
)
# A change was reported while the job ran, and the job does not know of it yet.
_DUE_AT_ONCE = text("UPDATE job SET due_at = clock_timestamp() WHERE id = :id AND look_now RETURNING id")
_FINISH = _update_job(
    "done = true, status = :status, outcome = :outcome, message = :message, error_code = :error_code,"
    " error_message = :error_message, remaining_action = :remaining_action, wait_reason = NULL,"
    " deadline_at = NULL, due_at = NULL, lease_until = NULL, finished_at = clock_timestamp(),"
    " progress_percent = CASE WHEN :status = 'failed' THEN progress_percent ELSE 100 END"
)
_NOTIFY = text("SELECT pg_notify(:channel, :id)")
_RENEW_LEASES = text(
    "UPDATE job SET lease_until = clock_timestamp() + make_interval(secs => :lease_s)"
    " WHERE id = ANY(:ids) AND runner = :runner AND NOT done AND lease_until IS NOT NULL"
    " AND status = 'running'"
)
_DUE = text(
    "SELECT id, stranded_since IS NOT NULL FROM job WHERE NOT done AND due_at <= clock_timestamp()"
    " AND (lease_until IS NULL OR lease_until < clock_timestamp())"
    # A job that is in the queue already is not queued twice.
    " AND NOT EXISTS (SELECT FROM procrastinate_jobs q WHERE q.status = 'todo'"
    " AND q.args->>'job_id' = job.id::text"
    " AND (q.scheduled_at IS NULL OR q.scheduled_at <= clock_timestamp()))"
    " ORDER BY stranded_since NULLS LAST, created_at LIMIT 500"
)


class JobClaims:
    """The claims of one worker process on jobs. `runner` names the process and must be unique."""

    def __init__(
        self, database: Database, wakeups: WakeUps, *, runner: str, lease_s: float, outbox: Outbox = NO_WEBHOOKS
    ) -> None:
        self._database = database
        self._wakeups = wakeups
        self._outbox = outbox
        self._runner = runner
        self._lease_s = lease_s
        # The fence of each job that runs here: only these leases are renewed.
        self._fences: dict[UUID, int] = {}

    async def claim(self, job_id: UUID, slots: dict[str, SlotRules]) -> Claim | None:
        """The job, if it is due, has no live lease, and gets a slot of its cluster; else None, which is harmless.

        From now on `renew_leases` renews its lease, until `stop_heartbeat`.
        """
        claim = await self._claim(job_id, slots)
        if claim is not None:
            self._fences[job_id] = claim.fence
        return claim

    def stop_heartbeat(self, claim: Claim) -> None:
        """The job does not run here any more; if it was not released, its lease expires."""
        if self._fences.get(claim.job_id) == claim.fence:
            del self._fences[claim.job_id]

    async def _claim(self, job_id: UUID, slots: dict[str, SlotRules]) -> Claim | None:
        async with self._database.transaction() as connection:
            found = (await connection.execute(_FIND, {"id": job_id})).one_or_none()
            if found is None:
                return None
            cluster, takes_slot = found
            rules = slots.get(cluster) if cluster is not None else None
            if takes_slot and rules is not None and not await acquire_slot(connection, job_id, cluster, rules):
                await connection.execute(_NOTIFY, {"channel": JOB_CHANNEL, "id": str(job_id)})
                return None
            return await self._take(connection, job_id, cluster)

    async def _take(self, connection: AsyncConnection, job_id: UUID, cluster: str | None) -> Claim | None:
        values = {
            "id": job_id, "runner": self._runner, "lease_s": self._lease_s, "cluster": cluster, "channel": JOB_CHANNEL,
        }  # fmt: skip
        row = (await connection.execute(_CLAIM, values)).one_or_none()
        if row is None:
            return None
        vm_uuid, cluster, fence, attempt, progress, looked, created_at, now, sighting, pushed, last_step, _ = row
        if last_step is not None and last_step[2] == "running":
            await connection.execute(_ORPHANED_STEPS, {"id": job_id})
            last_step = [last_step[0], last_step[1], "lost"]
        return Claim(
            job_id=job_id,
            vm_uuid=VmUuid(vm_uuid),
            cluster=cluster,
            fence=fence,
            attempt=attempt,
            created_at=created_at,
            now=now,
            progress=load_progress(progress),
            look_now=looked,
            sighting=load_sighting(sighting) if sighting is not None else None,
            pushed=load_pushed(pushed) if pushed is not None else None,
            last_step=(int(last_step[0]), last_step[1], last_step[2]) if last_step is not None else None,
        )

    async def record_intent(
        self, claim: Claim, state: ProgressColumns, intent: StepIntent, *, if_held: ProgressColumns
    ) -> int | None:
        """Stores the last answer and the next intent; returns the id of the stored exchange of a changing text.

        Raises FenceLost when the job is not this runner's any more, and Held when a pause or a stranded VM forbids
        the step: then the answer is stored, and the job is released with the progress of `if_held`.
        """
        held = exchange_id = None
        async with self._database.transaction() as connection:
            if intent.may_be_held and claim.cluster is not None:
                held = await find_hold_before_change(connection, claim.job_id, claim.cluster)
            await self._store_answer(connection, claim, state)
            if held is not None:
                await self._update(connection, claim, if_held, _HOLD, asdict(held))
            else:
                exchange_id = await self._store_intent(connection, claim, state, intent)
        if held is not None:
            raise Held(held.message)
        return exchange_id

    async def _store_intent(
        self, connection: AsyncConnection, claim: Claim, state: ProgressColumns, intent: StepIntent
    ) -> int | None:
        await self._update(connection, claim, state, _INTEND, asdict(intent))
        number = 1 if claim.last_step is None else claim.last_step[0] + 1
        if claim.last_step is not None and claim.last_step[1] == intent.name and claim.last_step[2] in _REUSED_STEP:
            number = claim.last_step[0]
        step = {**asdict(intent), "id": claim.job_id, "number": number, "attempt": claim.attempt}
        await connection.execute(_INTEND_STEP, step)
        claim.last_step = (number, intent.name, "running")
        return None if intent.sent is None else await store_text(connection, claim.job_id, intent.sent)

    async def record_answer(self, claim: Claim, state: ProgressColumns) -> None:
        """Stores the answer to a change before the next step. Raises FenceLost."""
        async with self._database.transaction() as connection:
            await self._store_answer(connection, claim, state)
            await self._update(connection, claim, state, _RECORD_ANSWER, {})

    async def release(
        self,
        claim: Claim,
        state: ProgressColumns,
        release: Release,
        slots: SlotRules | None,
        *,
        cluster: str | None = None,
    ) -> None:
        """The job waits, without lease and slot; `cluster` is set once it is known. Raises FenceLost."""
        async with self._database.transaction() as connection:
            await self._store_answer(connection, claim, state)
            await self._update(connection, claim, state, _RELEASE, {**asdict(release), "cluster": cluster})
            await self._outbox.write_wait(connection, claim.job_id, release.reason)
            if await connection.scalar(_DUE_AT_ONCE, {"id": claim.job_id}) is not None:
                await self._wakeups.wake(connection, claim.job_id, stranded=state.stranded)
            elif release.until is not None:
                await self._wakeups.wake(connection, claim.job_id, at=release.until, stranded=state.stranded)
            await self._wake_next(connection, claim, slots)

    async def finish(
        self, claim: Claim, state: ProgressColumns, outcome: Outcome, slots: SlotRules | None
    ) -> AutoStop | None:
        """Ends the job, with everything that follows from it, in one transaction. Raises FenceLost.

        Returns the stop of its cluster's automatic renewals, where the end caused one.
        """
        stop = None
        async with self._database.transaction() as connection:
            await self._store_answer(connection, claim, state)
            await self._update(connection, claim, state, _FINISH, asdict(outcome))
            await self._outbox.write_end(connection, claim.job_id, outcome.outcome)
            if claim.cluster is not None:
                stop = await record_outcome(connection, claim, outcome)
            if stop is not None:
                await self._outbox.write_auto_stop(connection, claim.job_id, stop)
            await self._wake_next(connection, claim, slots)
        return stop

    async def _store_answer(self, connection: AsyncConnection, claim: Claim, state: ProgressColumns) -> None:
        """Stores the step's verdict and the exchanges; the caller's `_update` writes the row of the job."""
        if state.done is not None and claim.last_step is not None:
            number, name, _ = claim.last_step
            await connection.execute(_END_STEP, {**asdict(state.done), "id": claim.job_id, "number": number})
            claim.last_step = (number, name, state.done.verdict)
        await store_answers(connection, claim.job_id, state.sent)
        if state.awaits_pickup and claim.cluster is not None:
            ids = {"vm_uuid": claim.vm_uuid, "cluster": claim.cluster, "id": claim.job_id}
            await connection.execute(_AWAIT_PICKUP, {**ids, "issued_at": state.progress.issued_at})

    async def _update(
        self,
        connection: AsyncConnection,
        claim: Claim,
        state: ProgressColumns,
        update: TextClause,
        values: dict[str, Any],
    ) -> None:
        progress = state.progress
        done = await connection.execute(
            update,
            {
                **values,
                "id": claim.job_id,
                "fence": claim.fence,
                "channel": JOB_CHANNEL,
                "progress": _json(dump_progress(progress)),
                "results": _json(state.results),
                "vm_name": progress.vm.name if progress.vm is not None else None,
                "takes_slot": state.takes_slot,
                "remote_until_at": progress.intent.remote_until_at if progress.intent is not None else None,
                "stranded": state.stranded,
                "changing": state.changing,
            },
        )
        if (row := done.one_or_none()) is None:
            raise FenceLost
        became_stranded, _ = row
        if became_stranded:
            await self._outbox.write_stranding(connection, claim.job_id)

    async def _wake_next(self, connection: AsyncConnection, claim: Claim, slots: SlotRules | None) -> None:
        if claim.cluster is not None and slots is not None:
            await wake_held(connection, self._wakeups, claim.cluster, slots)

    async def renew_leases(self) -> None:
        """Renews the lease of every job that runs here; to be called well within the lease."""
        if self._fences:
            values = {"ids": list(self._fences), "runner": self._runner, "lease_s": self._lease_s}
            async with self._database.transaction() as connection:
                await connection.execute(_RENEW_LEASES, values)

    async def sweep(self, slots: dict[str, SlotRules]) -> int:
        """Wakes every due open job that has no live lease, and held jobs that nothing holds any more."""
        async with self._database.transaction() as connection:
            due = (await connection.execute(_DUE)).all()
            for job_id, stranded in due:
                await self._wakeups.wake(connection, job_id, stranded=stranded)
            for job_id in await release_orphans(connection, list(slots)):
                await self._wakeups.wake(connection, job_id)
            for cluster, rules in slots.items():
                await wake_held(connection, self._wakeups, cluster, rules)
            return len(due)


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)

"""Jobs for those who run them: claim, save the intent and the answer, put back, finish.

Every write is fenced: a runner that was frozen, and whose job another one took over, can write nothing any more.
Slots are counted in rows under an advisory lock of the cluster. All times are the database's.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.ngt.progress import Progress, Sighting, WaitReason
from app.ngt.vocabulary import VmUuid
from app.store.database import Database
from app.store.job_rows import JOB_CHANNEL
from app.store.progress import dump, load, load_sighting
from app.store.queue import WakeUps
from app.store.tables import ExchangeRow, StepRow

_CLUSTER_LOCK = 4_771_001
# A job that is held for one of these has no due time; what held it wakes it.
_HELD = (
    WaitReason.CLUSTER_BUSY,
    WaitReason.CLUSTER_PAUSED,
    WaitReason.CLUSTER_NOT_PROVEN,
    WaitReason.CLUSTER_HAS_STRANDED_VM,
)
_REUSED_STEP = ("not_yet", "lost")
# More of an answer than this is of no use in a ticket.
_MOST_SHOWN_CHARACTERS = 64_000


class FenceLost(Exception):
    """Another runner has the job, or a caller ended it; this one has nothing more to say."""


@dataclass(frozen=True, slots=True)
class SlotRules:
    """How many renewals may run on a cluster; `prove_first`: one at a time until one was proved."""

    max_running: int
    prove_first: bool


@dataclass(slots=True)
class Claim:
    """A job in the hands of one runner."""

    job_id: UUID
    vm_uuid: VmUuid
    cluster: str | None
    fence: int
    attempt: int
    created_at: datetime
    now: datetime
    progress: Progress
    look_now: bool
    sighting: Sighting | None
    last_step: tuple[int, str, str] | None


@dataclass(frozen=True, slots=True)
class StepDone:
    """The answer to a step: its verdict, as `app.ngt.answers.Verdict`, and the words to show."""

    name: str
    verdict: str
    finished_at: datetime
    message: str
    result_vec: str | None
    cvm: str | None


@dataclass(frozen=True, slots=True)
class Sent:
    """One text and its answer, masked. `exchange_id` names the row of an intent that was stored before it was sent."""

    step: str
    place: str
    sent_at: datetime
    text: str
    answered_at: datetime | None = None
    exit_status: int | None = None
    stdout: str | None = None
    stderr: str | None = None
    fault: str | None = None
    exchange_id: int | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """The intent to take a step. `deletes`: refused while the cluster has a stranded VM other than this one."""

    name: str
    percent: int
    started_at: datetime
    cvm: str | None = None
    changes: bool = False
    deletes: bool = False
    sent: Sent | None = None


@dataclass(frozen=True, slots=True)
class PutBack:
    """The job waits; `until` None: the watch, a caller or a free slot wakes it."""

    status: str
    reason: str | None
    message: str
    until: datetime | None
    deadline: datetime | None


@dataclass(frozen=True, slots=True)
class Ended:
    """The job is done. `proven`: True and False count for the cluster, None does not."""

    status: str
    outcome: str
    message: str
    error_code: str | None
    error_message: str | None
    remaining_action: str | None
    proven: bool | None
    pause_after_unproven: int
    renewed_until: datetime | None = None
    picked_up: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """What the rows need to know of a progress: computed by the caller from `app.ngt.procedure`."""

    progress: Progress
    results: dict[str, Any]
    takes_slot: bool
    stranded: bool
    awaits_pickup: bool
    done: StepDone | None = None
    sent: Sequence[Sent] = field(default=())


@dataclass(frozen=True, slots=True)
class _Gate:
    paused: bool
    stranded_others: int
    running_others: int
    changing_others: int
    proven: bool


def _held_by(gate: _Gate, rules: SlotRules, *, changing: bool) -> WaitReason | None:
    """Why a job must not start now; one that has begun to change is held by slots alone."""
    if changing:
        return WaitReason.CLUSTER_BUSY if gate.running_others >= rules.max_running else None
    if gate.paused:
        return WaitReason.CLUSTER_PAUSED
    if gate.stranded_others:
        return WaitReason.CLUSTER_HAS_STRANDED_VM
    if rules.prove_first and not gate.proven and (gate.changing_others or gate.running_others):
        return WaitReason.CLUSTER_NOT_PROVEN
    return WaitReason.CLUSTER_BUSY if gate.running_others >= rules.max_running else None


_HELD_BECAUSE = {
    WaitReason.CLUSTER_BUSY: "as many renewals as allowed run on the cluster; this one starts when one of them ends",
    WaitReason.CLUSTER_PAUSED: "the cluster is paused; the renewal starts when it is resumed",
    WaitReason.CLUSTER_NOT_PROVEN: "no renewal was proved on this cluster yet, so they run one at a time until one is",
    WaitReason.CLUSTER_HAS_STRANDED_VM: "another VM of the cluster has no tools entity at the moment; "
    "nothing else is deleted there before it has one",
}

_FIND = text("SELECT cluster, takes_slot FROM job WHERE id = :id AND NOT done")
_LOCK = text("SELECT pg_advisory_xact_lock(:lock, hashtext(:cluster))")
_GATE = text("""
SELECT
  coalesce((SELECT paused_at IS NOT NULL FROM cluster WHERE name = :cluster), false) AS paused,
  coalesce((SELECT proven_at IS NOT NULL FROM cluster WHERE name = :cluster), false) AS proven,
  count(*) FILTER (WHERE stranded_since IS NOT NULL) AS stranded_others,
  count(*) FILTER (WHERE takes_slot AND (lease_until >= clock_timestamp() OR remote_until_at IS NOT NULL
                                         OR stranded_since IS NOT NULL)) AS running_others,
  count(*) FILTER (WHERE changing_since IS NOT NULL) AS changing_others
FROM job WHERE cluster = :cluster AND NOT done AND id <> :id
""")
_MINE = text("""
SELECT stranded_since IS NOT NULL OR remote_until_at IS NOT NULL AS holds_slot, changing_since IS NOT NULL AS changing
FROM job WHERE id = :id AND NOT done AND due_at <= clock_timestamp()
  AND (lease_until IS NULL OR lease_until < clock_timestamp())
""")
_HOLD = text("""
UPDATE job SET due_at = NULL, wait_reason = :reason, message = :message, version = version + 1, updated_at = now(),
  status = CASE WHEN started_at IS NULL THEN 'queued' ELSE 'waiting' END, lease_until = NULL
WHERE id = :id
""")
_CLAIM = text("""
UPDATE job SET status = 'running', wait_reason = NULL, deadline_at = NULL, message = '', fence = fence + 1,
  runner = :runner, lease_until = clock_timestamp() + make_interval(secs => :lease_s),
  started_at = coalesce(started_at, clock_timestamp()), look_now = false, version = version + 1, updated_at = now()
FROM (SELECT look_now AS looked FROM job WHERE id = :id) AS earlier
WHERE id = :id AND NOT done AND due_at <= clock_timestamp() AND cluster IS NOT DISTINCT FROM :cluster
  AND (lease_until IS NULL OR lease_until < clock_timestamp())
RETURNING vm_uuid, cluster, fence, attempt, progress, earlier.looked, created_at, clock_timestamp(),
  (SELECT sighting FROM vm WHERE vm.vm_uuid = job.vm_uuid AND vm.cluster = job.cluster),
  (SELECT ARRAY[number::text, name, step.status] FROM step WHERE job_id = job.id ORDER BY number DESC LIMIT 1)
""")
_ORPHANED_STEPS = text(
    "UPDATE step SET status = 'lost', finished_at = clock_timestamp(), message = 'the service stopped during this step'"
    " WHERE job_id = :id AND status = 'running'"
)
_WAKE_NEXT = text("""
UPDATE job SET due_at = clock_timestamp() WHERE id IN (
  SELECT id FROM job WHERE cluster = :cluster AND NOT done AND due_at IS NULL AND wait_reason = ANY(:held)
  ORDER BY changing_since NULLS LAST, created_at, id
  LIMIT greatest(0, :free)
  FOR UPDATE SKIP LOCKED)
RETURNING id
""")
_NOTIFY = text("SELECT pg_notify(:channel, :id)")


class Running:
    """What one worker process may do with jobs. `runner` names the process and must be its own."""

    def __init__(self, database: Database, wakeups: WakeUps, *, runner: str, lease_s: float) -> None:
        self._database = database
        self._wakeups = wakeups
        self._runner = runner
        self._lease_s = lease_s

    async def claim(self, job_id: UUID, slots: dict[str, SlotRules]) -> Claim | None:
        """The job, if it is due, nobody has it, and its cluster has a slot for it; else None, which is harmless."""
        async with self._database.transaction() as connection:
            found = (await connection.execute(_FIND, {"id": job_id})).one_or_none()
            if found is None:
                return None
            cluster, takes_slot = found
            rules = slots.get(cluster) if cluster is not None else None
            if takes_slot and rules is not None and not await self._gate(connection, job_id, cluster, rules):
                return None
            return await self._take(connection, job_id, cluster)

    async def _gate(self, connection: AsyncConnection, job_id: UUID, cluster: str, rules: SlotRules) -> bool:
        await connection.execute(_LOCK, {"lock": _CLUSTER_LOCK, "cluster": cluster})
        mine = (await connection.execute(_MINE, {"id": job_id})).one_or_none()
        if mine is None:
            return False
        if mine.holds_slot:
            return True
        row = (await connection.execute(_GATE, {"id": job_id, "cluster": cluster})).one()
        held = _held_by(_Gate(**row._mapping), rules, changing=mine.changing)  # noqa: SLF001 - SQLAlchemy's public name
        if held is None:
            return True
        await connection.execute(_HOLD, {"id": job_id, "reason": held, "message": _HELD_BECAUSE[held]})
        await _notify(connection, job_id)
        return False

    async def _take(self, connection: AsyncConnection, job_id: UUID, cluster: str | None) -> Claim | None:
        values = {"id": job_id, "runner": self._runner, "lease_s": self._lease_s, "cluster": cluster}
        row = (await connection.execute(_CLAIM, values)).one_or_none()
        if row is None:
            return None
        vm_uuid, cluster, fence, attempt, progress, looked, created_at, now, sighting, last_step = row
        if last_step is not None and last_step[2] == "running":
            await connection.execute(_ORPHANED_STEPS, {"id": job_id})
            last_step = [last_step[0], last_step[1], "lost"]
        await _notify(connection, job_id)
        return Claim(
            job_id=job_id,
            vm_uuid=VmUuid(vm_uuid),
            cluster=cluster,
            fence=fence,
            attempt=attempt,
            created_at=created_at,
            now=now,
            progress=load(progress),
            look_now=looked,
            sighting=load_sighting(sighting) if sighting is not None else None,
            last_step=(int(last_step[0]), last_step[1], last_step[2]) if last_step is not None else None,
        )

    async def begin_step(self, claim: Claim, state: State, begun: Begun, *, if_held: State) -> int | None:
        """Stores the last answer and the next intent; gives the id of the stored exchange of a changing text.

        Raises FenceLost when the job is not this runner's any more, and Held when the cluster has a stranded VM:
        then the answer is stored, and the job was put back with the progress of `if_held`.
        """
        held = False
        exchange_id: int | None = None
        async with self._database.transaction() as connection:
            if begun.deletes and claim.cluster is not None:
                held = await self._has_other_stranded_vm(connection, claim)
            await self._store_answer(connection, claim, state)
            if held:
                await self._hold(connection, claim, if_held)
            else:
                exchange_id = await self._store_intent(connection, claim, state, begun)
        if held:
            raise Held
        return exchange_id

    async def _has_other_stranded_vm(self, connection: AsyncConnection, claim: Claim) -> bool:
        await connection.execute(_LOCK, {"lock": _CLUSTER_LOCK, "cluster": claim.cluster})
        row = (await connection.execute(_GATE, {"id": claim.job_id, "cluster": claim.cluster})).one()
        return bool(row.stranded_others)

    async def _hold(self, connection: AsyncConnection, claim: Claim, state: State) -> None:
        reason = WaitReason.CLUSTER_HAS_STRANDED_VM
        await self._update(
            connection,
            claim,
            state,
            "status = 'waiting', wait_reason = :reason, message = :message, due_at = NULL, lease_until = NULL",
            {"reason": reason, "message": _HELD_BECAUSE[reason]},
        )

    async def _store_intent(self, connection: AsyncConnection, claim: Claim, state: State, begun: Begun) -> int | None:
        change = ", changing_since = coalesce(changing_since, clock_timestamp())" if begun.changes else ""
        await self._update(
            connection,
            claim,
            state,
            f"current_step = :step, progress_percent = :percent, cvm = coalesce(:cvm, cvm){change}",
            {"step": begun.name, "percent": begun.percent, "cvm": begun.cvm},
        )
        number = 1 if claim.last_step is None else claim.last_step[0] + 1
        if claim.last_step is not None and claim.last_step[1] == begun.name and claim.last_step[2] in _REUSED_STEP:
            number = claim.last_step[0]
        row = insert(StepRow).values(
            job_id=claim.job_id, number=number, name=begun.name, attempt=claim.attempt, status="running",
            started_at=begun.started_at, cvm=begun.cvm, message="",
        )  # fmt: skip
        again = row.on_conflict_do_update(
            index_elements=["job_id", "number"], set_={"status": "running", "finished_at": None, "cvm": begun.cvm}
        )
        await connection.execute(again)
        claim.last_step = (number, begun.name, "running")
        if begun.sent is None:
            return None
        return await _store_exchange(connection, claim.job_id, begun.sent)

    async def put_back(
        self, claim: Claim, state: State, back: PutBack, slots: SlotRules | None, *, cluster: str | None = None
    ) -> None:
        """The job waits and holds nothing any more; `cluster` is set once it is known. Raises FenceLost."""
        async with self._database.transaction() as connection:
            await self._store_answer(connection, claim, state)
            await self._update(
                connection,
                claim,
                state,
                "status = :status, wait_reason = :reason, message = :message, due_at = :until, deadline_at = :deadline,"
                " lease_until = NULL, cluster = coalesce(:cluster, cluster)",
                {
                    "status": back.status,
                    "reason": back.reason,
                    "message": back.message,
                    "until": back.until,
                    "deadline": back.deadline,
                    "cluster": cluster,
                },
            )
            if back.until is not None:
                await self._wakeups.wake(connection, claim.job_id, at=back.until, stranded=state.stranded)
            await self._wake_next(connection, claim, slots)

    async def finish(self, claim: Claim, state: State, ended: Ended, slots: SlotRules | None) -> None:
        """The job ends, with everything that follows from it, in one transaction. Raises FenceLost."""
        async with self._database.transaction() as connection:
            await self._store_answer(connection, claim, state)
            await self._update(
                connection,
                claim,
                state,
                "done = true, status = :status, outcome = :outcome, message = :message, error_code = :error_code,"
                " error_message = :error_message, remaining_action = :remaining_action, wait_reason = NULL,"
                " deadline_at = NULL, due_at = NULL, lease_until = NULL, finished_at = clock_timestamp(),"
                " progress_percent = CASE WHEN :status = 'failed' THEN progress_percent ELSE 100 END",
                {
                    "status": ended.status,
                    "outcome": ended.outcome,
                    "message": ended.message,
                    "error_code": ended.error_code,
                    "error_message": ended.error_message,
                    "remaining_action": ended.remaining_action,
                },
            )
            if claim.cluster is not None:
                await _remember_end(connection, claim, ended)
            await self._wake_next(connection, claim, slots)

    async def _store_answer(self, connection: AsyncConnection, claim: Claim, state: State) -> None:
        """The step's verdict and the texts; the row itself is written by the caller's `_update`."""
        done = state.done
        if done is not None and claim.last_step is not None:
            await connection.execute(
                text(
                    "UPDATE step SET status = :status, finished_at = :at, message = :message, result_vec = :result_vec,"
                    " cvm = coalesce(:cvm, cvm) WHERE job_id = :id AND number = :number"
                ),
                {
                    "id": claim.job_id,
                    "number": claim.last_step[0],
                    "status": done.verdict,
                    "at": done.finished_at,
                    "message": done.message,
                    "result_vec": done.result_vec,
                    "cvm": done.cvm,
                },
            )
            claim.last_step = (claim.last_step[0], claim.last_step[1], done.verdict)
        for sent in state.sent:
            await _store_exchange(connection, claim.job_id, sent)
        if state.awaits_pickup and claim.cluster is not None:
            await connection.execute(
                text(
                    "INSERT INTO vm (vm_uuid, cluster, awaiting_pickup_since, last_job_id)"
                    " VALUES (:vm_uuid, :cluster, clock_timestamp(), :id) ON CONFLICT (vm_uuid, cluster) DO UPDATE"
                    " SET awaiting_pickup_since = coalesce(vm.awaiting_pickup_since, clock_timestamp()),"
                    " last_job_id = :id"
                ),
                {"vm_uuid": claim.vm_uuid, "cluster": claim.cluster, "id": claim.job_id},
            )

    async def _update(
        self, connection: AsyncConnection, claim: Claim, state: State, assignments: str, values: dict[str, Any]
    ) -> None:
        progress = state.progress
        done = await connection.execute(
            text(
                "UPDATE job SET progress = CAST(:progress AS jsonb),"  # noqa: S608 - constants of this module
                " results = CAST(:results AS jsonb),"
                " vm_name = coalesce(:vm_name, vm_name), takes_slot = :takes_slot, remote_until_at = :remote_until_at,"
                " stranded_since = CASE WHEN :stranded THEN coalesce(stranded_since, clock_timestamp()) END,"
                f" version = version + 1, updated_at = clock_timestamp(), {assignments}"
                " WHERE id = :id AND fence = :fence AND NOT done"
                " RETURNING pg_notify(:channel, CAST(id AS text))"
            ),
            {
                **values,
                "id": claim.job_id,
                "fence": claim.fence,
                "channel": JOB_CHANNEL,
                "progress": _json(dump(progress)),
                "results": _json(state.results),
                "vm_name": progress.vm.name if progress.vm is not None else None,
                "takes_slot": state.takes_slot,
                "remote_until_at": progress.intent.remote_until_at if progress.intent is not None else None,
                "stranded": state.stranded,
            },
        )
        if done.one_or_none() is None:
            raise FenceLost

    async def _wake_next(self, connection: AsyncConnection, claim: Claim, slots: SlotRules | None) -> None:
        if claim.cluster is not None and slots is not None:
            await wake_held(connection, self._wakeups, claim.cluster, slots)

    async def last_renewal(self, vm_uuid: VmUuid, cluster: str) -> tuple[datetime | None, datetime | None]:
        """When the VM's certificate was last renewed and proved, and until when it is good."""
        async with self._database.transaction() as connection:
            row = (
                await connection.execute(
                    text("SELECT renewed_at, not_after FROM vm WHERE vm_uuid = :vm_uuid AND cluster = :cluster"),
                    {"vm_uuid": vm_uuid, "cluster": cluster},
                )
            ).one_or_none()
            return (row.renewed_at, row.not_after) if row is not None else (None, None)

    async def renew_leases(self) -> None:
        """Keeps every job that this process runs; called often enough within the lease."""
        async with self._database.transaction() as connection:
            await connection.execute(
                text(
                    "UPDATE job SET lease_until = clock_timestamp() + make_interval(secs => :lease_s)"
                    " WHERE runner = :runner AND NOT done AND lease_until IS NOT NULL AND status = 'running'"
                ),
                {"runner": self._runner, "lease_s": self._lease_s},
            )

    async def wake_due(self, slots: dict[str, SlotRules]) -> int:
        """The sweep: wakes every due open job that has no live lease, and what was held without need."""
        async with self._database.transaction() as connection:
            rows = await connection.execute(
                text(
                    "SELECT id, stranded_since IS NOT NULL FROM job WHERE NOT done AND due_at <= clock_timestamp()"
                    " AND (lease_until IS NULL OR lease_until < clock_timestamp())"
                    # Where workers are busy a wake-up waits its turn; a second one would only lengthen the queue.
                    " AND NOT EXISTS (SELECT FROM procrastinate_jobs q WHERE q.status = 'todo'"
                    " AND q.args->>'job_id' = job.id::text"
                    " AND (q.scheduled_at IS NULL OR q.scheduled_at <= clock_timestamp()))"
                    " ORDER BY stranded_since NULLS LAST, created_at LIMIT 500"
                )
            )
            due = rows.all()
            for job_id, stranded in due:
                await self._wakeups.wake(connection, job_id, stranded=stranded)
            for cluster, rules in slots.items():
                await wake_held(connection, self._wakeups, cluster, rules)
            return len(due)


class Held(Exception):
    """The cluster has a stranded VM, so nothing that deletes starts there; the job was put back."""


async def wake_held(connection: AsyncConnection, wakeups: WakeUps, cluster: str, slots: SlotRules) -> None:
    """Wakes as many held jobs of the cluster as it has free slots."""
    nobody = UUID(int=0)
    row = (await connection.execute(_GATE, {"id": nobody, "cluster": cluster})).one()
    gate = _Gate(**row._mapping)  # noqa: SLF001 - SQLAlchemy's public name
    most = 1 if slots.prove_first and not gate.proven else slots.max_running
    held = list(_HELD)
    if gate.paused or gate.stranded_others:
        # A job that was held after it had begun may go on; those that have not begun would only be held again.
        held = [WaitReason.CLUSTER_BUSY]
    values = {"cluster": cluster, "held": held, "free": most - gate.running_others}
    for (job_id,) in (await connection.execute(_WAKE_NEXT, values)).all():
        await wakeups.wake(connection, job_id)


async def _remember_end(connection: AsyncConnection, claim: Claim, ended: Ended) -> None:
    ids = {"vm_uuid": claim.vm_uuid, "cluster": claim.cluster, "id": claim.job_id}
    if ended.picked_up:
        await connection.execute(
            text(
                "INSERT INTO vm (vm_uuid, cluster, last_job_id) VALUES (:vm_uuid, :cluster, :id)"
                " ON CONFLICT (vm_uuid, cluster) DO UPDATE SET awaiting_pickup_since = NULL, last_job_id = :id"
            ),
            ids,
        )
    if ended.proven is True:
        await connection.execute(
            text(
                "UPDATE vm SET renewed_at = clock_timestamp(), not_after = :until"
                " WHERE vm_uuid = :vm_uuid AND cluster = :cluster"
            ),
            {"vm_uuid": claim.vm_uuid, "cluster": claim.cluster, "until": ended.renewed_until},
        )
    if ended.proven is not None:
        await connection.execute(
            text(
                "INSERT INTO cluster AS c (name, proven_at, unproven_in_a_row)"
                " VALUES (:cluster, CASE WHEN :proven THEN clock_timestamp() END, CASE WHEN :proven THEN 0 ELSE 1 END)"
                " ON CONFLICT (name) DO UPDATE SET"
                " proven_at = CASE WHEN :proven THEN coalesce(c.proven_at, clock_timestamp()) ELSE c.proven_at END,"
                " unproven_in_a_row = CASE WHEN :proven THEN 0 ELSE c.unproven_in_a_row + 1 END"
            ),
            {"cluster": claim.cluster, "proven": ended.proven},
        )
    if ended.proven is False:
        await connection.execute(
            text(
                "UPDATE cluster SET paused_at = clock_timestamp(), paused_by = 'this service', pause_reason = :reason"
                " WHERE name = :cluster AND paused_at IS NULL AND unproven_in_a_row >= :most"
            ),
            {
                "cluster": claim.cluster,
                "most": ended.pause_after_unproven,
                "reason": f"{ended.pause_after_unproven} renewals in a row were not proved; "
                "find out why before the next is started",
            },
        )


async def _store_exchange(connection: AsyncConnection, job_id: UUID, sent: Sent) -> int | None:
    answer = {
        "answered_at": sent.answered_at,
        "exit_status": sent.exit_status,
        "stdout": _shown(sent.stdout),
        "stderr": _shown(sent.stderr),
        "fault": sent.fault,
    }
    table = ExchangeRow.__table__  # type: ignore[attr-defined]  # SQLModel sets it
    if sent.exchange_id is not None:
        await connection.execute(table.update().where(table.c.id == sent.exchange_id).values(**answer))
        return sent.exchange_id
    row = table.insert().values(
        job_id=job_id, step=sent.step, place=sent.place, sent_at=sent.sent_at, sent=_shown(sent.text) or "", **answer
    )
    return (await connection.execute(row.returning(table.c.id))).scalar_one()  # type: ignore[no-any-return]  # an id


def _shown(shown: str | None) -> str | None:
    """PostgreSQL's text has no NUL, and nobody reads megabytes in a ticket."""
    if shown is None:
        return None
    clean = shown.replace("\x00", "�")
    if len(clean) <= _MOST_SHOWN_CHARACTERS:
        return clean
    return f"{clean[:_MOST_SHOWN_CHARACTERS]}\n[… {len(clean) - _MOST_SHOWN_CHARACTERS} characters left out]"


async def _notify(connection: AsyncConnection, job_id: UUID) -> None:
    await connection.execute(_NOTIFY, {"channel": JOB_CHANNEL, "id": str(job_id)})


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)

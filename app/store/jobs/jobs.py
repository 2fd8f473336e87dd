"""What callers do with jobs. Each function is one transaction; workers have their own in `app.store.jobs.claims`.

A change of a job and its wake-up are committed together, so no job is ever forgotten.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast
from uuid import UUID

from sqlalchemy import func, null, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.dml import ReturningUpdate
from uuid_utils.compat import uuid7

from app.ngt.errors import RULES, Fault, FaultCode
from app.ngt.renewal.progress import PERSON_WAITS, PICKUP_WAITS, WaitReason
from app.ngt.renewal.standing import begin_retry, remaining_action, takes_slot
from app.ngt.vocabulary import VmUuid
from app.store.jobs.holds import JobHold, find_hold
from app.store.jobs.mapping import lock_job, returning_with_notify, update_job, with_steps
from app.store.jobs.progress_json import dump, load, new_progress
from app.store.jobs.search import JobFilter, search
from app.store.postgres.database import Database
from app.store.postgres.pages import PageCursor
from app.store.postgres.queue import WakeUps
from app.store.postgres.tables import CORRELATION, EXCHANGE, IDEMPOTENCY, JOB, VM
from app.store.records.callers import Caller
from app.store.records.jobs import Exchange, IdempotencyKey, JobRecord, JobStatus, NewRenewal, StartedRenewal
from app.store.records.rows import JobValues, job_record
from app.store.webhooks.outbox import Outbox, add_callback, stored_callback

_OPEN = text("NOT done AND NOT validate_only")
_RETRYABLE = frozenset({JobStatus.FAILED, JobStatus.CANCELLED})
_HERE = VM.c.vanished_at.is_(None)
_PAUSED = (WaitReason.SERVICE_PAUSED, WaitReason.CLUSTER_PAUSED)
_TELLS_NOBODY = Outbox()


class VmBusy(Fault):
    """The VM has another open job, which the message names. Not every caller may see it: `job.visible_to`."""

    def __init__(self, message: str, job: JobRecord) -> None:
        super().__init__(FaultCode.VM_BUSY, message)
        self.job = job


@dataclass(frozen=True, slots=True)
class JobCounts:
    """How many jobs and VMs there are of what an operator watches; the last two by cluster.

    `oldest_queued_at` is that of the jobs which no pause holds.
    """

    open_by_status: dict[JobStatus, int]
    oldest_queued_at: datetime | None
    stranded: dict[str, int]
    awaiting_pickup: dict[str, int]


class Jobs:
    """The jobs of one database. Every function raises Fault `database-unavailable` when it does not answer."""

    def __init__(self, database: Database, wakeups: WakeUps, outbox: Outbox = _TELLS_NOBODY) -> None:
        self._database = database
        self._wakeups = wakeups
        self._outbox = outbox

    async def start_renewal(
        self, new: NewRenewal, idempotency: IdempotencyKey | None = None, *, max_queued: int | None = None
    ) -> StartedRenewal:
        """Store a new job and wake a worker, or answer with the job that this request leads to already.

        Of two requests with one idempotency key the second waits for the first and gets its job (`replayed`), also
        when both come at once. A request for the same thing as the VM's open job joins it (`joined`), unless
        `fail_on_conflict`. Raises VmBusy, Fault `idempotency-key-reused`, and `queue-full` where a new job would be one
        more than `max_queued`; nothing is stored then.
        """
        job_id = uuid7()
        async with self._database.transaction() as connection:
            if idempotency is not None:
                earlier_id = await _claim_key(connection, new.caller, idempotency, job_id)
                if earlier_id is not None:
                    return StartedRenewal(await _get(connection, earlier_id), replayed=True)
            is_full = max_queued is not None and await _is_full(connection, max_queued)
            hold = None if new.validate_only else await find_hold(connection)
            # An open job that ends between the two statements leaves the VM free: then the next insert succeeds.
            while is_full or (job := await _insert_job(connection, job_id, new, hold)) is None:
                open_job = None if new.validate_only else await _lock_open_job(connection, new.vm_uuid)
                if open_job is not None:
                    return await _join(connection, open_job, new, idempotency)
                if is_full:
                    message = f"{max_queued} renewals wait for their turn already."
                    raise Fault(FaultCode.QUEUE_FULL, message)
            await _add_correlation(connection, job_id, new.correlation_id)
            await self._wakeups.wake(connection, job_id)
            return StartedRenewal(job_record(job))

    async def find(self, job_id: UUID) -> JobRecord | None:
        """The job with its steps."""
        async with self._database.transaction() as connection:
            return await _find(connection, job_id)

    async def list(
        self, wanted: JobFilter, *, limit: int = 50, after: PageCursor | None = None
    ) -> tuple[JobRecord, ...]:
        """At most `limit` jobs with their steps, newest first, from below `after`."""
        async with self._database.transaction() as connection:
            return await search(connection, wanted, limit, after)

    async def read_log(self, job_id: UUID) -> tuple[Exchange, ...]:
        """What was sent for the job and what came back, in order."""
        async with self._database.transaction() as connection:
            logged = select(EXCHANGE).where(EXCHANGE.c.job_id == job_id).order_by(EXCHANGE.c.sent_at, EXCHANGE.c.id)
            rows = (await connection.execute(logged)).mappings()
            return tuple(Exchange(**{name: row[name] for name in Exchange.__slots__}) for row in rows)

    async def cancel(self, job_id: UUID, caller: Caller) -> JobRecord:
        """End an open job that has changed nothing yet, or that waits for a person after its changes.

        A worker that only looks at the VM is told by its next write, which is refused. Raises Fault `job-not-found`,
        and `job-not-cancellable` with the reason.
        """
        async with self._database.transaction() as connection:
            job = await lock_job(connection, job_id)
            if (reason := _why_not_cancellable(job)) is not None:
                raise Fault(FaultCode.JOB_NOT_CANCELLABLE, f"Job {job_id} cannot be cancelled: {reason}.")
            message = f"cancelled by {caller.name}"
            cancelled = update_job(
                job_id,
                **_NOBODY_RUNS_IT,
                status=JobStatus.CANCELLED,
                outcome="cancelled",
                done=True,
                message=message,
                error_code=FaultCode.CANCELLED,
                error_message=message,
                remaining_action=remaining_action(load(job["progress"])),
                wait_reason=None,
                deadline_at=None,
                due_at=None,
                takes_slot=False,
                finished_at=func.now(),
            )
            changed = await _changed(connection, cancelled)
            await self._outbox.tell_of_end(connection, job_id, "cancelled")
            return changed

    async def retry(self, job_id: UUID) -> JobRecord:
        """Have a failed or cancelled job go on where it stopped, as its next attempt.

        Raises Fault `job-not-found`, `job-not-retryable` with the reason, and VmBusy.
        """
        while True:
            try:
                return await self._retry(job_id)
            except IntegrityError:
                # The unique index refused a second open job of the VM. If that one has ended since, try again.
                async with self._database.transaction() as connection:
                    job = await _get(connection, job_id)
                    open_job = await _lock_open_job(connection, job.vm_uuid)
                if open_job is not None:
                    message = f"VM {job.vm_uuid} is being renewed by job {open_job['id']}."
                    raise VmBusy(message, job_record(open_job)) from None

    async def _retry(self, job_id: UUID) -> JobRecord:
        async with self._database.transaction() as connection:
            job = await lock_job(connection, job_id)
            if (reason := _why_not_retryable(job)) is not None:
                raise Fault(FaultCode.JOB_NOT_RETRYABLE, f"Job {job_id} cannot be retried: {reason}.")
            progress = begin_retry(load(job["progress"]))
            attempt = job["attempt"] + 1
            hold = await find_hold(connection) if takes_slot(progress) and job["changing_since"] is None else None
            queued = update_job(
                job_id,
                **_NOBODY_RUNS_IT,
                status=JobStatus.QUEUED,
                outcome=None,
                done=False,
                message=f"queued for attempt {attempt}" if hold is None else hold.message,
                wait_reason=None if hold is None else hold.reason,
                error_code=None,
                error_message=None,
                remaining_action=None,
                attempt=attempt,
                progress=dump(progress),
                takes_slot=takes_slot(progress),
                due_at=func.now(),
                finished_at=None,
            )
            changed = await _changed(connection, queued)
            await self._wakeups.wake(connection, job_id)
            return changed

    async def report_agent_restarted(self, job_id: UUID) -> JobRecord:
        """Have a job that waits for its guest look at once. Raises Fault `job-not-found` and `job-not-waiting`."""
        async with self._database.transaction() as connection:
            job = await lock_job(connection, job_id)
            if job["status"] != JobStatus.WAITING or job["wait_reason"] not in PICKUP_WAITS:
                state = f"{job['status']} ({job['wait_reason']})" if job["wait_reason"] else job["status"]
                raise Fault(FaultCode.JOB_NOT_WAITING, f"Job {job_id} does not wait for an agent: it is {state}.")
            changed = await _changed(connection, update_job(job_id, look_now=True, due_at=func.now()))
            await self._wakeups.wake(connection, job_id)
            return changed

    async def counts(self) -> JobCounts:
        """The present numbers, for metrics."""
        held_by_pause = func.coalesce(JOB.c.wait_reason.in_(_PAUSED), False)
        oldest = func.min(JOB.c.created_at).filter(~held_by_pause)
        by_status = select(JOB.c.status, func.count(), oldest).where(~JOB.c.done)
        stranded = select(JOB.c.cluster, func.count()).where(~JOB.c.done, JOB.c.stranded_since.is_not(None))
        awaiting = select(VM.c.cluster, func.count()).where(
            VM.c.awaiting_pickup_since.is_not(None), VM.c.vanished_at.is_(None)
        )
        async with self._database.transaction() as connection:
            statuses = (await connection.execute(by_status.group_by(JOB.c.status))).all()
            stranded_rows = (await connection.execute(stranded.group_by(JOB.c.cluster))).all()
            awaiting_rows = (await connection.execute(awaiting.group_by(VM.c.cluster))).all()
        return JobCounts(
            open_by_status={JobStatus(status): count for status, count, _ in statuses},
            oldest_queued_at=next((oldest for status, _, oldest in statuses if status == JobStatus.QUEUED), None),
            stranded=dict(stranded_rows),
            awaiting_pickup=dict(awaiting_rows),
        )


# A worker that still holds the job has an older fence: its next write is refused.
_NOBODY_RUNS_IT: dict[str, Any] = {
    "fence": JOB.c.fence + 1,
    "runner": None,
    "lease_until": None,
    "look_now": False,
}


def _why_not_cancellable(job: JobValues) -> str | None:
    if job["done"]:
        return f"it is {job['status']} already"
    if job["stranded_since"] is not None:
        return "its VM has no tools entity at the moment, and the service goes on until it has one again"
    if job["changing_since"] is None:
        return None
    if job["remote_until_at"] is not None:
        return "a change of its VM was begun and has not been answered yet"
    if job["status"] == JobStatus.WAITING and job["wait_reason"] in PERSON_WAITS:
        return None
    return "its VM is being changed"


def _why_not_retryable(job: JobValues) -> str | None:
    if not job["done"]:
        return "it is not done yet"
    if job["status"] not in _RETRYABLE:
        return f"it is {job['status']}"
    code = job["error_code"]
    if code not in RULES or not RULES[FaultCode(code)].retryable:
        return f"another try cannot help against {code}"
    return None


async def _find(connection: AsyncConnection, job_id: UUID) -> JobRecord | None:
    found = await with_steps(connection, (await connection.execute(select(JOB).where(JOB.c.id == job_id))).mappings())
    return found[0] if found else None


async def _get(connection: AsyncConnection, job_id: UUID) -> JobRecord:
    if (job := await _find(connection, job_id)) is None:
        raise Fault(FaultCode.JOB_NOT_FOUND, f"There is no job {job_id}.")
    return job


async def _changed(connection: AsyncConnection, change: ReturningUpdate[Any]) -> JobRecord:
    (job,) = await with_steps(connection, (await connection.execute(change)).mappings())
    return job


async def _claim_key(
    connection: AsyncConnection, caller: Caller, idempotency: IdempotencyKey, job_id: UUID
) -> UUID | None:
    """None when the key is new and now this request's, else the job of the request that had it."""
    names = {"caller_id": caller.id, "route": idempotency.route, "key": idempotency.key}
    row = insert(IDEMPOTENCY).values(**names, request_sha256=idempotency.request_sha256, job_id=job_id)
    claim = row.on_conflict_do_nothing().returning(IDEMPOTENCY.c.job_id)
    earlier = select(IDEMPOTENCY.c.request_sha256, IDEMPOTENCY.c.job_id).filter_by(**names)
    # The insert waits for a transaction that holds the same key; the row it then finds may be pruned meanwhile.
    while (await connection.execute(claim)).first() is None:
        if (found := (await connection.execute(earlier)).first()) is not None:
            request_sha256, earlier_id = found
            if request_sha256 != idempotency.request_sha256:
                message = f"The Idempotency-Key {idempotency.key!r} was used for another request (job {earlier_id})."
                raise Fault(FaultCode.IDEMPOTENCY_KEY_REUSED, message)
            return cast("UUID", earlier_id)
    return None


async def _is_full(connection: AsyncConnection, max_queued: int) -> bool:
    """Requests at the same moment may go beyond it by their number: no harm, and no lock that all would wait for."""
    queued = select(JOB.c.id).where(~JOB.c.done, JOB.c.status == JobStatus.QUEUED)
    return (await connection.execute(queued.offset(max_queued - 1).limit(1))).first() is not None


async def _insert_job(
    connection: AsyncConnection, job_id: UUID, new: NewRenewal, hold: JobHold | None
) -> JobValues | None:
    """The new row, or None when the VM has an open job."""
    row = insert(JOB).values(
        id=job_id,
        vm_uuid=new.vm_uuid,
        validate_only=new.validate_only,
        status=JobStatus.QUEUED,
        done=False,
        message="queued" if hold is None else hold.message,
        wait_reason=None if hold is None else hold.reason,
        cluster=new.cluster,
        progress_percent=0,
        attempt=1,
        results={},
        request=new.request,
        asked=new.asked,
        caller_id=new.caller.id,
        caller=new.caller.name,
        correlation_id=new.correlation_id,
        correlation_display=new.correlation_display,
        change_number=new.change_number,
        requested_by=new.requested_by,
        automatic_rule=new.automatic_rule,
        callback=null() if (callback := stored_callback(new)) is None else [callback],
        progress=new_progress(new.vm_uuid, new.request),
        version=1,
        fence=0,
        due_at=func.now(),
        takes_slot=not new.validate_only,
        look_now=False,
    )
    inserted = row.on_conflict_do_nothing(index_elements=[JOB.c.vm_uuid], index_where=_OPEN)
    stored: JobValues | None = (await connection.execute(returning_with_notify(inserted))).mappings().first()
    return stored


async def _lock_open_job(connection: AsyncConnection, vm_uuid: VmUuid) -> JobValues | None:
    """The VM's open job, which cannot end before this transaction does."""
    found = select(JOB).where(JOB.c.vm_uuid == vm_uuid, _OPEN).with_for_update(key_share=True)
    return (await connection.execute(found)).mappings().first()


async def _join(
    connection: AsyncConnection, open_job: JobValues, new: NewRenewal, idempotency: IdempotencyKey | None
) -> StartedRenewal:
    (job,) = await with_steps(connection, [open_job])
    same = open_job["asked"] == new.asked and job.visible_to(new.caller)
    if new.fail_on_conflict or not same:
        but = "" if same else ", which was asked for something else"
        message = f"VM {new.vm_uuid} is being renewed by job {job.id}{but}."
        raise VmBusy(message, job)
    await _add_correlation(connection, job.id, new.correlation_id)
    await add_callback(connection, open_job, new)
    if idempotency is not None:
        names = {"caller_id": new.caller.id, "route": idempotency.route, "key": idempotency.key}
        await connection.execute(update(IDEMPOTENCY).filter_by(**names).values(job_id=job.id))
    return StartedRenewal(job, joined=True)


async def _add_correlation(connection: AsyncConnection, job_id: UUID, correlation_id: str | None) -> None:
    if correlation_id is not None:
        row = insert(CORRELATION).values(job_id=job_id, correlation_id=correlation_id)
        await connection.execute(row.on_conflict_do_nothing())

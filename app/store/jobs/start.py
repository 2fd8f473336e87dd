"""Starting renewals. The job, its idempotency key and its wake-up are committed in one transaction."""

from typing import cast
from uuid import UUID

from sqlalchemy import RowMapping, func, null, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from uuid_utils.compat import uuid7

from app.ngt.errors import Fault, FaultCode
from app.ngt.renewal.holds import JobHold
from app.ngt.vocabulary import VmUuid
from app.store.jobs.holds import find_hold
from app.store.jobs.progress_json import dump_progress, new_progress
from app.store.jobs.queries import get_job, with_steps
from app.store.jobs.updates import returning_with_notify
from app.store.postgres.queue import WakeUps
from app.store.postgres.tables import CORRELATION, IDEMPOTENCY, JOB
from app.store.records.callers import Caller
from app.store.records.jobs import IdempotencyKey, JobRecord, JobStatus, NewRenewal, StartedRenewal
from app.store.records.rows import job_record
from app.store.webhooks.outbox import add_callback, stored_callback

_OPEN = text("NOT done AND NOT validate_only")


class VmBusy(Fault):
    """The VM has another open job, which the message names. Some callers may not see it: `job.visible_to`."""

    def __init__(self, message: str, job: JobRecord) -> None:
        super().__init__(FaultCode.VM_BUSY, message)
        self.job = job


async def start_renewal(
    connection: AsyncConnection,
    wakeups: WakeUps,
    new: NewRenewal,
    idempotency: IdempotencyKey | None,
    max_queued: int | None,
) -> StartedRenewal:
    """Store a new job and wake a worker, or return the job that answers this request already.

    Of two requests with one idempotency key the second waits for the first and gets its job (`replayed`), also when
    both arrive at once. A request for the same thing as the VM's open job joins it (`joined`), unless
    `fail_on_conflict`. Raises VmBusy, Fault `idempotency-key-reused`, and `queue-full` where a new job would exceed
    `max_queued`; nothing is stored then.
    """
    job_id = uuid7()
    if idempotency is not None:
        earlier_id = await _claim_key(connection, new.caller, idempotency, job_id)
        if earlier_id is not None:
            return StartedRenewal(await get_job(connection, earlier_id), replayed=True)
    is_full = max_queued is not None and await _is_full(connection, max_queued)
    hold = None if new.validate_only else await find_hold(connection)
    # An open job that ends between the two statements leaves the VM free: then the next insert succeeds.
    while is_full or (job := await _insert_job(connection, job_id, new, hold)) is None:
        open_job = None if new.validate_only else await lock_open_job(connection, new.vm_uuid)
        if open_job is not None:
            return await _join(connection, open_job, new, idempotency)
        if is_full:
            raise Fault(FaultCode.QUEUE_FULL, f"{max_queued} renewals wait for their turn already.")
    await _add_correlation(connection, job_id, new.correlation_id)
    await wakeups.wake(connection, job_id)
    return StartedRenewal(job_record(job))


async def lock_open_job(connection: AsyncConnection, vm_uuid: VmUuid) -> RowMapping | None:
    """The VM's open job, which cannot end before this transaction does."""
    found = select(JOB).where(JOB.c.vm_uuid == vm_uuid, _OPEN).with_for_update(key_share=True)
    return (await connection.execute(found)).mappings().first()


async def _claim_key(
    connection: AsyncConnection, caller: Caller, idempotency: IdempotencyKey, job_id: UUID
) -> UUID | None:
    """None where the key is new and now belongs to this request, else the job of the request that used it first."""
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
    """Simultaneous requests may exceed the limit by their number, which is harmless and needs no lock."""
    queued = select(JOB.c.id).where(~JOB.c.done, JOB.c.status == JobStatus.QUEUED)
    return (await connection.execute(queued.offset(max_queued - 1).limit(1))).first() is not None


async def _insert_job(
    connection: AsyncConnection, job_id: UUID, new: NewRenewal, hold: JobHold | None
) -> RowMapping | None:
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
        progress=dump_progress(new_progress(new.vm_uuid, new.request)),
        version=1,
        fence=0,
        due_at=func.now(),
        takes_slot=not new.validate_only,
        look_now=False,
    )
    inserted = row.on_conflict_do_nothing(index_elements=[JOB.c.vm_uuid], index_where=_OPEN)
    stored: RowMapping | None = (await connection.execute(returning_with_notify(inserted))).mappings().first()
    return stored


async def _join(
    connection: AsyncConnection, open_job: RowMapping, new: NewRenewal, idempotency: IdempotencyKey | None
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

"""Commands of callers on jobs: start, cancel, retry, report. Workers write through `app.store.jobs.claims`.

Each command is one transaction, which commits a change of a job together with its wake-up.
"""

from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, func
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.dml import ReturningUpdate

from app.ngt.errors import RULES, Fault, FaultCode
from app.ngt.renewal.progress import PERSON_WAITS, PICKUP_WAITS
from app.store.jobs.holds import find_hold
from app.store.jobs.progress_json import dump_progress, load_progress
from app.store.jobs.queries import JobQueries, get_job, with_steps
from app.store.jobs.start import VmBusy, lock_open_job, start_renewal
from app.store.jobs.updates import lock_job, update_job
from app.store.postgres.database import Database
from app.store.postgres.queue import WakeUps
from app.store.postgres.tables import JOB
from app.store.records.callers import Caller
from app.store.records.jobs import IdempotencyKey, JobRecord, JobStatus, NewRenewal, StartedRenewal
from app.store.records.rows import job_record
from app.store.webhooks.outbox import NO_WEBHOOKS, Outbox

_RETRYABLE = frozenset({JobStatus.FAILED, JobStatus.CANCELLED})
# A worker that still holds the job has an older fence: its next write is refused.
_REVOKE_LEASE: dict[str, Any] = {"fence": JOB.c.fence + 1, "runner": None, "lease_until": None, "look_now": False}


class Jobs(JobQueries):
    """The jobs of one database. Every method raises Fault `database-unavailable` when it does not answer."""

    def __init__(self, database: Database, wakeups: WakeUps, outbox: Outbox = NO_WEBHOOKS) -> None:
        super().__init__(database)
        self._wakeups = wakeups
        self._outbox = outbox

    async def start_renewal(
        self, new: NewRenewal, idempotency: IdempotencyKey | None = None, *, max_queued: int | None = None
    ) -> StartedRenewal:
        """As `app.store.jobs.start.start_renewal`."""
        async with self._database.transaction() as connection:
            return await start_renewal(connection, self._wakeups, new, idempotency, max_queued)

    async def cancel(self, job_id: UUID, caller: Caller) -> JobRecord:
        """End an open job that has changed nothing yet, or that waits for a person after its changes.

        A worker that only reads the VM learns it from its next write, which is refused. Raises Fault `job-not-found`,
        and `job-not-cancellable` with the reason.
        """
        async with self._database.transaction() as connection:
            job = await lock_job(connection, job_id)
            if (reason := _why_not_cancellable(job)) is not None:
                raise Fault(FaultCode.JOB_NOT_CANCELLABLE, f"Job {job_id} cannot be cancelled: {reason}.")
            message = f"cancelled by {caller.name}"
            cancelled = update_job(
                job_id,
                **_REVOKE_LEASE,
                status=JobStatus.CANCELLED,
                outcome="cancelled",
                done=True,
                message=message,
                error_code=FaultCode.CANCELLED,
                error_message=message,
                remaining_action=load_progress(job["progress"]).remaining_action,
                wait_reason=None,
                deadline_at=None,
                due_at=None,
                takes_slot=False,
                finished_at=func.now(),
            )
            changed = await _changed(connection, cancelled)
            await self._outbox.write_end(connection, job_id, "cancelled")
            return changed

    async def retry(self, job_id: UUID) -> JobRecord:
        """Continue a failed or cancelled job where it stopped, as its next attempt.

        Raises Fault `job-not-found`, `job-not-retryable` with the reason, and VmBusy.
        """
        while True:
            try:
                return await self._retry(job_id)
            except IntegrityError:
                # The unique index refused a second open job of the VM. If that one has ended since, try again.
                async with self._database.transaction() as connection:
                    vm_uuid = (await get_job(connection, job_id)).vm_uuid
                    open_job = await lock_open_job(connection, vm_uuid)
                if open_job is not None:
                    message = f"VM {vm_uuid} is being renewed by job {open_job['id']}."
                    raise VmBusy(message, job_record(open_job)) from None

    async def _retry(self, job_id: UUID) -> JobRecord:
        async with self._database.transaction() as connection:
            job = await lock_job(connection, job_id)
            if (reason := _why_not_retryable(job)) is not None:
                raise Fault(FaultCode.JOB_NOT_RETRYABLE, f"Job {job_id} cannot be retried: {reason}.")
            progress = load_progress(job["progress"]).begin_retry()
            attempt = job["attempt"] + 1
            hold = await find_hold(connection) if progress.takes_slot and job["changing_since"] is None else None
            queued = update_job(
                job_id,
                **_REVOKE_LEASE,
                status=JobStatus.QUEUED,
                outcome=None,
                done=False,
                message=f"queued for attempt {attempt}" if hold is None else hold.message,
                wait_reason=None if hold is None else hold.reason,
                error_code=None,
                error_message=None,
                remaining_action=None,
                attempt=attempt,
                progress=dump_progress(progress),
                takes_slot=progress.takes_slot,
                due_at=func.now(),
                finished_at=None,
            )
            changed = await _changed(connection, queued)
            await self._wakeups.wake(connection, job_id)
            return changed

    async def report_agent_restarted(self, job_id: UUID) -> JobRecord:
        """Wake a job that waits for its guest. Raises Fault `job-not-found` and `job-not-waiting`."""
        async with self._database.transaction() as connection:
            job = await lock_job(connection, job_id)
            if job["status"] != JobStatus.WAITING or job["wait_reason"] not in PICKUP_WAITS:
                state = f"{job['status']} ({job['wait_reason']})" if job["wait_reason"] else job["status"]
                raise Fault(FaultCode.JOB_NOT_WAITING, f"Job {job_id} does not wait for an agent: it is {state}.")
            changed = await _changed(connection, update_job(job_id, look_now=True, due_at=func.now()))
            await self._wakeups.wake(connection, job_id)
            return changed


def _why_not_cancellable(job: RowMapping) -> str | None:
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


def _why_not_retryable(job: RowMapping) -> str | None:
    if not job["done"]:
        return "it is not done yet"
    if job["status"] not in _RETRYABLE:
        return f"it is {job['status']}"
    code = job["error_code"]
    if code not in RULES or not RULES[FaultCode(code)].retryable:
        return f"another try cannot help against {code}"
    return None


async def _changed(connection: AsyncConnection, change: ReturningUpdate[Any]) -> JobRecord:
    (job,) = await with_steps(connection, (await connection.execute(change)).mappings())
    return job

"""What a caller may do with a job that exists: cancel it, retry it, say that the agent was restarted."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import select, text

from app.ngt.errors import Fault, FaultCode
from app.ngt.renewal.progress import EntityStage, FoundVm, Progress
from app.ngt.renewal.request import RenewalRequest
from app.ngt.vocabulary import PowerState, VmUuid
from app.store.jobs.claims import JobClaims
from app.store.jobs.commands import Jobs
from app.store.jobs.progress_json import dump_progress
from app.store.jobs.start import VmBusy
from app.store.postgres.database import Database
from app.store.postgres.queue import WakeUps
from app.store.postgres.tables import JOB, VM
from app.store.records.claims import FenceLost, Outcome, ProgressColumns, Release, StepIntent
from app.store.records.jobs import JobRecord, JobStatus
from tests.store.conftest import ANN, Leave, new_vm, renewal

NOW = datetime(2020, 12, 1, tzinfo=UTC)


@pytest.fixture
def running(database: Database, wakeups: WakeUps) -> JobClaims:
    return JobClaims(database, wakeups, runner="a worker", lease_s=60)


def issued(vm_uuid: VmUuid) -> Progress:
    vm = FoundVm("web01", PowerState.ON, (), None)
    mounted = {"entity": EntityStage.ISSUED, "issued_at": NOW, "mounted_at": NOW}
    return Progress(vm_uuid=vm_uuid, request=RenewalRequest(), cluster="c1", vm=vm, **mounted)  # type: ignore[arg-type]


def state(progress: Progress, *, changing: bool = False) -> ProgressColumns:
    return ProgressColumns(
        progress, {}, takes_slot=progress.takes_slot, stranded=False, awaits_pickup=False, changing=changing
    )


async def test_a_vm_awaits_the_certificate_that_was_issued_last(
    jobs: Jobs, running: JobClaims, database: Database
) -> None:
    """Otherwise one of an earlier renewal that was never seen would be taken for it."""
    vm, at = new_vm(), NOW - timedelta(days=30)
    for issued_at in (at, at + timedelta(days=20), at + timedelta(days=20)):
        job = (await jobs.start_renewal(renewal(vm))).job
        claim = await running.claim(job.id, {})
        assert claim is not None
        known = replace(state(replace(issued(vm), issued_at=issued_at)), awaits_pickup=True)
        await running.record_answer(claim, known)
        await running.finish(claim, known, Outcome("failed", "failed", "", None, None, None, None, 3), None)
        async with database.transaction() as connection:
            since = await connection.scalar(select(VM.c.awaiting_pickup_since).where(VM.c.vm_uuid == vm))
        assert since == issued_at


async def fence_of(database: Database, job_id: UUID) -> int:
    async with database.transaction() as connection:
        return int((await connection.execute(select(JOB.c.fence).where(JOB.c.id == job_id))).scalar_one())


async def wakes(database: Database) -> int:
    async with database.transaction() as connection:
        return int((await connection.execute(text("SELECT count(*) FROM procrastinate_jobs"))).scalar_one())


async def started(jobs: Jobs) -> JobRecord:
    return (await jobs.start_renewal(renewal())).job


async def test_a_queued_job_is_cancelled(jobs: Jobs) -> None:
    job = await started(jobs)
    cancelled = await jobs.cancel(job.id, ANN)
    assert (cancelled.status, cancelled.outcome, cancelled.done) == (JobStatus.CANCELLED, "cancelled", True)
    assert (cancelled.error_code, cancelled.message) == ("cancelled", "cancelled by ann")
    assert cancelled.version == job.version + 1
    assert cancelled.finished_at is not None
    assert (cancelled.due_at, cancelled.remaining_action) == (None, None)


async def test_a_worker_that_only_looked_can_write_nothing_after_the_cancellation(
    jobs: Jobs, running: JobClaims
) -> None:
    job = await started(jobs)
    claim = await running.claim(job.id, {})
    assert claim is not None
    await jobs.cancel(job.id, ANN)
    begun = StepIntent("recreate_entity", 40, claim.now, may_be_held=True)
    with pytest.raises(FenceLost):
        await running.record_intent(claim, state(claim.progress), begun, if_held=state(claim.progress))
    found = await jobs.find(job.id)
    assert found is not None
    assert (found.status, found.steps) == (JobStatus.CANCELLED, ())


async def test_a_worker_of_an_earlier_attempt_can_write_nothing_into_the_next(jobs: Jobs, running: JobClaims) -> None:
    job = await started(jobs)
    old = await running.claim(job.id, {})
    assert old is not None
    await jobs.cancel(job.id, ANN)
    await jobs.retry(job.id)
    new = await running.claim(job.id, {})
    assert new is not None
    back = Release("waiting", "pickup", "waits", None, None)
    with pytest.raises(FenceLost):
        await running.release(old, state(old.progress), back, None)
    await running.release(new, state(new.progress), back, None)


async def test_of_a_cancellation_and_an_intent_at_once_exactly_one_wins(jobs: Jobs, running: JobClaims) -> None:
    for _ in range(10):
        job = await started(jobs)
        claim = await running.claim(job.id, {})
        assert claim is not None
        before, changing = state(claim.progress), state(claim.progress, changing=True)
        begun = StepIntent("recreate_entity", 40, claim.now)
        cancelled, intended = await asyncio.gather(
            jobs.cancel(job.id, ANN),
            running.record_intent(claim, changing, begun, if_held=before),
            return_exceptions=True,
        )
        assert isinstance(cancelled, Fault) != isinstance(intended, FenceLost)
        found = await jobs.find(job.id)
        assert found is not None
        assert found.done == isinstance(intended, FenceLost)
        if not found.done:
            assert isinstance(cancelled, Fault)
            assert cancelled.code is FaultCode.JOB_NOT_CANCELLABLE


@pytest.mark.parametrize("reason", ["agent_restart", "no_free_cdrom_slot", "vm_powered_off"])
async def test_a_job_that_waits_for_a_person_is_cancelled_and_says_what_is_left_to_do(
    jobs: Jobs, leave: Leave, reason: str
) -> None:
    job = await started(jobs)
    progress = dump_progress(issued(job.vm_uuid))
    await leave(job.id, status="waiting", wait_reason=reason, changing_since=NOW, progress=progress)
    cancelled = await jobs.cancel(job.id, ANN)
    assert cancelled.status is JobStatus.CANCELLED
    assert cancelled.remaining_action is not None
    assert "web01" in cancelled.remaining_action or "restart" in cancelled.remaining_action
    assert cancelled.wait_reason is None


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"status": "succeeded", "done": True}, "it is succeeded already"),
        ({"status": "running", "changing_since": NOW}, "its VM is being changed"),
        ({"status": "waiting", "wait_reason": "pickup", "changing_since": NOW}, "its VM is being changed"),
        (
            {"status": "waiting", "wait_reason": "agent_restart", "changing_since": NOW, "remote_until_at": NOW},
            "has not been answered yet",
        ),
        (
            {"status": "waiting", "wait_reason": "entity_missing", "changing_since": NOW, "stranded_since": NOW},
            "no tools entity at the moment",
        ),
    ],
)
async def test_a_job_that_must_go_on_is_not_cancelled(
    jobs: Jobs, leave: Leave, columns: dict[str, object], why: str
) -> None:
    job = await started(jobs)
    await leave(job.id, **columns)
    with pytest.raises(Fault, match=why) as refused:
        await jobs.cancel(job.id, ANN)
    assert refused.value.code is FaultCode.JOB_NOT_CANCELLABLE
    assert (await jobs.find(job.id)) is not None


async def test_what_does_not_exist_is_neither_cancelled_nor_retried_nor_reported(jobs: Jobs) -> None:
    nothing = UUID(int=1)
    for refused in (jobs.cancel(nothing, ANN), jobs.retry(nothing), jobs.report_agent_restarted(nothing)):
        with pytest.raises(Fault) as fault:
            await refused
        assert fault.value.code is FaultCode.JOB_NOT_FOUND


async def test_a_failed_job_is_retried_as_the_same_job(jobs: Jobs, database: Database, leave: Leave) -> None:
    job = await started(jobs)
    await leave(
        job.id, status="failed", done=True, outcome="failed", error_code="iso-mount-failed", error_message="no",
        due_at=None, finished_at=NOW, progress=dump_progress(issued(job.vm_uuid)), remaining_action="mount it",
    )  # fmt: skip
    fence = await fence_of(database, job.id)
    again = await jobs.retry(job.id)
    assert (again.id, again.attempt, again.status, again.done) == (job.id, 2, JobStatus.QUEUED, False)
    assert (again.outcome, again.error_code, again.error_message, again.remaining_action) == (None, None, None, None)
    assert again.finished_at is None
    assert again.due_at is not None
    assert await fence_of(database, job.id) == fence + 1
    assert await wakes(database) == 2


async def test_a_cancelled_job_is_retried(jobs: Jobs) -> None:
    job = await started(jobs)
    await jobs.cancel(job.id, ANN)
    assert (await jobs.retry(job.id)).status is JobStatus.QUEUED


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"status": "running"}, "it is not done yet"),
        ({"status": "succeeded", "done": True}, "it is succeeded"),
        ({"status": "failed", "done": True, "error_code": "vm-not-found"}, "another try cannot help"),
        ({"status": "failed", "done": True, "error_code": "a word of a later version"}, "another try cannot help"),
    ],
)
async def test_a_job_for_which_another_try_cannot_help_is_not_retried(
    jobs: Jobs, leave: Leave, columns: dict[str, object], why: str
) -> None:
    job = await started(jobs)
    await leave(job.id, **columns)
    with pytest.raises(Fault, match=why) as refused:
        await jobs.retry(job.id)
    assert refused.value.code is FaultCode.JOB_NOT_RETRYABLE


async def test_a_job_is_not_retried_while_its_vm_has_another_open_one(jobs: Jobs) -> None:
    first = await started(jobs)
    await jobs.cancel(first.id, ANN)
    second = (await jobs.start_renewal(renewal(first.vm_uuid))).job
    with pytest.raises(VmBusy) as busy:
        await jobs.retry(first.id)
    assert busy.value.job.id == second.id
    still = await jobs.find(first.id)
    assert still is not None
    assert still.status is JobStatus.CANCELLED


async def test_of_a_retry_and_a_new_renewal_at_once_one_is_the_vms_open_job(jobs: Jobs) -> None:
    for _ in range(10):
        first = await started(jobs)
        await jobs.cancel(first.id, ANN)
        outcomes = await asyncio.gather(
            jobs.retry(first.id), jobs.start_renewal(renewal(first.vm_uuid)), return_exceptions=True
        )
        assert all(not isinstance(each, BaseException) or isinstance(each, VmBusy) for each in outcomes)
        joined = await jobs.start_renewal(renewal(first.vm_uuid))
        assert joined.joined


@pytest.mark.parametrize("reason", ["agent_restart", "pickup", "vm_powered_off", "guest_unreachable"])
async def test_a_job_that_waits_for_its_guest_looks_at_once_when_told(
    jobs: Jobs, database: Database, leave: Leave, running: JobClaims, reason: str
) -> None:
    job = await started(jobs)
    await leave(job.id, status="waiting", wait_reason=reason, due_at=None)
    told = await jobs.report_agent_restarted(job.id)
    assert told.version == job.version + 1
    assert await wakes(database) == 2
    claim = await running.claim(job.id, {})
    assert claim is not None
    assert claim.look_now


async def test_a_job_that_waits_for_something_else_is_not_told_of_a_restart(jobs: Jobs, leave: Leave) -> None:
    job = await started(jobs)
    with pytest.raises(Fault, match="it is queued") as refused:
        await jobs.report_agent_restarted(job.id)
    assert refused.value.code is FaultCode.JOB_NOT_WAITING
    await leave(job.id, status="waiting", wait_reason="no_free_cdrom_slot")
    with pytest.raises(Fault, match="no_free_cdrom_slot"):
        await jobs.report_agent_restarted(job.id)


async def test_a_cancelled_job_is_not_claimed(jobs: Jobs, running: JobClaims) -> None:
    job = await started(jobs)
    await jobs.cancel(job.id, ANN)
    assert await running.claim(job.id, {}) is None


async def test_the_next_attempt_can_be_claimed_and_put_back(jobs: Jobs, running: JobClaims) -> None:
    job = await started(jobs)
    await jobs.cancel(job.id, ANN)
    await jobs.retry(job.id)
    claim = await running.claim(job.id, {})
    assert claim is not None
    assert claim.attempt == 2
    back = Release("waiting", "pickup", "waits", claim.now + timedelta(hours=1), None)
    await running.release(claim, state(claim.progress), back, None)
    found = await jobs.find(job.id)
    assert found is not None
    assert found.wait_reason == "pickup"

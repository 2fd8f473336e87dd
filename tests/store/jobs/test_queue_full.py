"""The bound of the queue: what it refuses, and what is answered although it is full."""

import pytest

from app.ngt.errors import Fault, FaultCode
from app.store.jobs.commands import Jobs
from app.store.jobs.start import VmBusy
from app.store.records.jobs import IdempotencyKey
from tests.store.conftest import Leave, new_vm, renewal

KEY = IdempotencyKey("key-1", "POST", "a" * 64)
OTHER_KEY = IdempotencyKey("key-2", "POST", "a" * 64)


async def test_one_job_more_than_the_queue_takes_is_refused_and_leaves_nothing(jobs: Jobs) -> None:
    for _ in range(3):
        await jobs.start_renewal(renewal(), max_queued=3)
    with pytest.raises(Fault) as fault:
        await jobs.start_renewal(renewal(), KEY, max_queued=3)
    assert fault.value.code is FaultCode.QUEUE_FULL
    assert not (await jobs.start_renewal(renewal(), KEY, max_queued=4)).replayed


@pytest.mark.parametrize("columns", [{"status": "running"}, {"status": "waiting"}, {"status": "failed", "done": True}])
async def test_only_what_waits_for_its_turn_counts(jobs: Jobs, leave: Leave, columns: dict[str, object]) -> None:
    begun = (await jobs.start_renewal(renewal(), max_queued=1)).job
    await leave(begun.id, **columns)
    await jobs.start_renewal(renewal(), max_queued=1)


async def test_what_leads_to_a_job_that_there_is_is_answered_also_when_the_queue_is_full(jobs: Jobs) -> None:
    vm_uuid = new_vm()
    job = (await jobs.start_renewal(renewal(vm_uuid), KEY, max_queued=1)).job
    replayed = await jobs.start_renewal(renewal(vm_uuid), KEY, max_queued=1)
    joined = await jobs.start_renewal(renewal(vm_uuid), OTHER_KEY, max_queued=1)
    assert (replayed.replayed, replayed.job.id) == (True, job.id)
    assert (joined.joined, joined.job.id) == (True, job.id)
    with pytest.raises(VmBusy):
        await jobs.start_renewal(renewal(vm_uuid, fail_on_conflict=True), max_queued=1)


async def test_a_plan_is_refused_for_the_queue_and_not_for_the_vms_open_job(jobs: Jobs) -> None:
    vm_uuid = new_vm()
    await jobs.start_renewal(renewal(vm_uuid), max_queued=1)
    with pytest.raises(Fault) as fault:
        await jobs.start_renewal(renewal(vm_uuid, validate_only=True), max_queued=1)
    assert fault.value.code is FaultCode.QUEUE_FULL

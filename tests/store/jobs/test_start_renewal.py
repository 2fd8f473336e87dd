"""Starting a renewal: one job per VM, one job per idempotency key, whatever comes at once."""

import asyncio
from collections import Counter
from dataclasses import replace
from uuid import UUID

import pytest
from sqlalchemy import func, select, text

from app.ngt.errors import Fault, FaultCode
from app.store.jobs.commands import Jobs
from app.store.jobs.start import VmBusy
from app.store.postgres.database import Database
from app.store.postgres.tables import IDEMPOTENCY, JOB
from app.store.records.jobs import IdempotencyKey, JobStatus
from tests.store.conftest import ANN, BEN, Leave, new_vm, renewal

KEY = IdempotencyKey("key-1", "POST /vms/{vm_uuid}/ngt/renew", "a" * 64)


async def woken(database: Database) -> list[UUID]:
    async with database.transaction() as connection:
        queued = await connection.execute(text("SELECT args->>'job_id' FROM procrastinate_jobs ORDER BY id"))
        return [UUID(job_id) for (job_id,) in queued]


async def job_rows(database: Database) -> int:
    async with database.transaction() as connection:
        return (await connection.execute(select(func.count()).select_from(JOB))).scalar_one()


async def test_a_new_renewal_is_stored_queued_and_a_worker_is_woken(jobs: Jobs, database: Database) -> None:
    new = renewal(correlation_id="RITM1", correlation_display="ServiceNow", change_number="CHG1", requested_by="eve")
    started = await jobs.start_renewal(new)
    job = started.job
    assert (started.joined, started.replayed) == (False, False)
    assert (job.status, job.done, job.attempt, job.version) == (JobStatus.QUEUED, False, 1, 1)
    assert (job.caller, job.caller_id, job.requested_by) == ("ann", "ann00001", "eve")
    assert (job.correlation_id, job.correlation_display, job.change_number) == ("RITM1", "ServiceNow", "CHG1")
    assert job.id.version == 7
    assert await jobs.find(job.id) == job
    assert await woken(database) == [job.id]


async def test_a_job_that_does_not_exist_is_not_found(jobs: Jobs) -> None:
    assert await jobs.find(UUID(int=7)) is None


async def test_the_same_key_gives_the_same_job_as_it_is_now(jobs: Jobs, leave: Leave) -> None:
    new = renewal()
    first = await jobs.start_renewal(new, KEY)
    await leave(first.job.id, status="succeeded", done=True, outcome="renewed")
    again = await jobs.start_renewal(new, KEY)
    assert again.replayed
    assert (again.job.id, again.job.status) == (first.job.id, JobStatus.SUCCEEDED)


async def test_the_same_key_for_another_request_is_refused_and_stores_nothing(jobs: Jobs, database: Database) -> None:
    await jobs.start_renewal(renewal(), KEY)
    with pytest.raises(Fault) as refused:
        await jobs.start_renewal(renewal(), replace(KEY, request_sha256="b" * 64))
    assert refused.value.code is FaultCode.IDEMPOTENCY_KEY_REUSED
    assert await job_rows(database) == 1
    assert len(await woken(database)) == 1


async def test_a_key_belongs_to_its_caller_and_its_route(jobs: Jobs) -> None:
    started = [
        await jobs.start_renewal(renewal(), KEY),
        await jobs.start_renewal(renewal(caller=BEN), KEY),
        await jobs.start_renewal(renewal(), replace(KEY, route="POST /other")),
    ]
    assert len({each.job.id for each in started}) == 3
    assert not any(each.replayed for each in started)


@pytest.mark.parametrize("validate_only", [False, True])
async def test_of_twenty_requests_with_one_key_at_once_one_is_new_and_the_others_replay_it(
    jobs: Jobs, database: Database, validate_only: bool
) -> None:
    new = renewal(validate_only=validate_only)
    started = await asyncio.gather(*(jobs.start_renewal(new, KEY) for _ in range(20)))
    assert Counter(each.replayed for each in started) == {True: 19, False: 1}
    assert len({each.job.id for each in started}) == 1
    assert await job_rows(database) == 1
    assert len(await woken(database)) == 1


async def test_of_twenty_requests_for_one_vm_at_once_one_makes_the_job_and_the_others_join_it(
    jobs: Jobs, database: Database
) -> None:
    vm_uuid = new_vm()
    requests = [renewal(vm_uuid, correlation_id=f"RITM{number}") for number in range(20)]
    started = await asyncio.gather(*(jobs.start_renewal(new) for new in requests))
    assert Counter(each.joined for each in started) == {True: 19, False: 1}
    assert len({each.job.id for each in started}) == 1
    assert await job_rows(database) == 1
    assert len(await woken(database)) == 1


async def test_of_twenty_requests_with_keys_of_their_own_for_one_vm_each_key_leads_to_the_one_job(jobs: Jobs) -> None:
    vm_uuid = new_vm()
    keys = [replace(KEY, key=f"key-{number}") for number in range(20)]
    started = await asyncio.gather(*(jobs.start_renewal(renewal(vm_uuid), key) for key in keys))
    replayed = [await jobs.start_renewal(renewal(vm_uuid), key) for key in keys]
    assert all(each.replayed for each in replayed)
    assert len({each.job.id for each in (*started, *replayed)}) == 1


async def test_a_request_for_something_else_is_told_which_job_is_in_its_way(jobs: Jobs, database: Database) -> None:
    first = await jobs.start_renewal(renewal())
    other = renewal(first.job.vm_uuid, asked={"mode": "refresh"})
    with pytest.raises(VmBusy, match=f"{first.job.id}, which was asked for something else") as busy:
        await jobs.start_renewal(other, KEY)
    assert busy.value.job.id == first.job.id
    async with database.transaction() as connection:
        kept = (await connection.execute(select(func.count()).select_from(IDEMPOTENCY))).scalar_one()
    assert kept == 0, "a refused request does not use its key up"


async def test_a_request_that_wants_no_conflict_does_not_join(jobs: Jobs) -> None:
    first = await jobs.start_renewal(renewal())
    with pytest.raises(VmBusy, match=str(first.job.id)):
        await jobs.start_renewal(renewal(first.job.vm_uuid, fail_on_conflict=True))


async def test_a_caller_does_not_join_a_job_that_it_may_not_see(jobs: Jobs) -> None:
    first = await jobs.start_renewal(renewal(cluster="c2"))
    with pytest.raises(VmBusy):
        await jobs.start_renewal(renewal(first.job.vm_uuid, cluster=None, caller=BEN))


async def test_a_plan_conflicts_with_nothing(jobs: Jobs) -> None:
    vm_uuid = new_vm()
    plans = [await jobs.start_renewal(renewal(vm_uuid, validate_only=True)) for _ in range(2)]
    real = await jobs.start_renewal(renewal(vm_uuid))
    after = await jobs.start_renewal(renewal(vm_uuid, validate_only=True))
    assert len({each.job.id for each in (*plans, real, after)}) == 4


async def test_a_vm_whose_job_is_done_gets_a_new_one(jobs: Jobs, leave: Leave) -> None:
    first = await jobs.start_renewal(renewal())
    await leave(first.job.id, status="failed", done=True)
    second = await jobs.start_renewal(renewal(first.job.vm_uuid))
    assert not second.joined
    assert second.job.id != first.job.id


async def test_starting_while_the_open_job_ends_either_joins_it_or_makes_a_new_one(jobs: Jobs, leave: Leave) -> None:
    for _ in range(10):
        first = await jobs.start_renewal(renewal())
        _, second = await asyncio.gather(
            leave(first.job.id, status="succeeded", done=True), jobs.start_renewal(renewal(first.job.vm_uuid))
        )
        assert second.joined == (second.job.id == first.job.id)
        assert second.joined == (not (await jobs.start_renewal(renewal(first.job.vm_uuid))).joined)


async def test_the_caller_named_by_a_joined_job_stays_the_first(jobs: Jobs) -> None:
    first = await jobs.start_renewal(renewal())
    joined = await jobs.start_renewal(renewal(first.job.vm_uuid, caller=BEN))
    assert joined.joined
    assert joined.job.caller_id == ANN.id

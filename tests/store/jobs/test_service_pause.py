"""The pause of the whole service: what it holds and says, and how it ends."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, text, update

from app.ngt.renewal.holds import SlotRules
from app.store.clusters.pause import Clusters
from app.store.jobs.claims import JobClaims
from app.store.jobs.commands import Jobs
from app.store.jobs.service_pause import Pauses
from app.store.postgres.advisory_locks import SERVICE_PAUSE
from app.store.postgres.database import Database
from app.store.postgres.queue import WakeUps
from app.store.postgres.tables import JOB_EVENT, PAUSE
from app.store.records.claims import Claim, Held, ProgressColumns, StepIntent
from app.store.records.jobs import JobRecord
from tests.limits import LIMIT_S
from tests.store.conftest import Leave, renewal

SLOTS = {"c1": SlotRules(max_running=2, prove_first=False), "c2": SlotRules(max_running=2, prove_first=False)}
CHANGE = StepIntent(name="recreate_entity", percent=20, started_at=datetime.now(UTC), may_be_held=True)


@pytest.fixture
def pauses(database: Database, wakeups: WakeUps) -> Pauses:
    return Pauses(database, wakeups, SLOTS)


@pytest.fixture
def running(database: Database, wakeups: WakeUps) -> JobClaims:
    return JobClaims(database, wakeups, runner="a worker", lease_s=60)


async def started(jobs: Jobs, **more: Any) -> JobRecord:
    return (await jobs.start_renewal(renewal(**more))).job


async def found(jobs: Jobs, job: JobRecord) -> JobRecord:
    now = await jobs.find(job.id)
    assert now is not None
    return now


async def wakes(database: Database, job: JobRecord) -> int:
    async with database.transaction() as connection:
        counted = text("SELECT count(*) FROM procrastinate_jobs WHERE args->>'job_id' = :id")
        return int((await connection.execute(counted, {"id": str(job.id)})).scalar_one())


async def let_time_pass(database: Database) -> None:
    """The end of the pause comes."""
    async with database.transaction() as connection:
        await connection.execute(update(PAUSE).values(until=text("clock_timestamp()")))


def state_of(claim: Claim, *, changing: bool = False) -> ProgressColumns:
    return ProgressColumns(
        progress=claim.progress, results={}, takes_slot=True, stranded=False, changing=changing, awaits_pickup=False
    )


async def begun(running: JobClaims, job: JobRecord) -> Claim:
    """The job in the hands of a worker that has not begun to change."""
    claim = await running.claim(job.id, SLOTS)
    assert claim is not None
    return claim


def ahead(minutes: float) -> datetime:
    return datetime.now(UTC) + timedelta(minutes=minutes)


async def test_a_service_that_nobody_paused_is_not_paused_and_may_be_resumed(pauses: Pauses) -> None:
    await pauses.resume()
    assert (await pauses.state()).pause is None
    assert not await pauses.end_if_over()


async def test_a_second_pause_keeps_the_first_time_and_takes_what_is_newer(pauses: Pauses) -> None:
    first = await pauses.pause("AOS upgrade", ahead(5), "ann")
    second = await pauses.pause("a longer AOS upgrade", None, "ben")
    assert second.paused_at == first.paused_at
    assert (second.reason, second.until, second.paused_by) == ("a longer AOS upgrade", None, "ben")
    assert (await pauses.state()).pause == second


async def test_a_pause_after_one_that_ended_by_itself_is_a_new_one(pauses: Pauses, database: Database) -> None:
    first = await pauses.pause(None, ahead(5), "ann")
    await let_time_pass(database)
    assert (await pauses.pause(None, None, "ann")).paused_at > first.paused_at


async def test_no_job_starts_on_any_cluster_while_the_service_is_paused(
    pauses: Pauses, jobs: Jobs, running: JobClaims
) -> None:
    waiting = [await started(jobs, cluster=cluster) for cluster in SLOTS]
    await pauses.pause(None, None, "ann")
    for job in waiting:
        assert await running.claim(job.id, SLOTS) is None
        held = await found(jobs, job)
        assert (held.status, held.wait_reason, held.due_at) == ("queued", "service_paused", None)


async def test_a_job_says_why_it_waits_and_until_when_whenever_it_was_queued(
    pauses: Pauses, jobs: Jobs, running: JobClaims
) -> None:
    until = datetime(2096, 11, 24, 20, tzinfo=UTC)
    said = "the service is paused until 2096-11-24T20:00:00Z: AOS upgrade; the renewal starts then"
    before = await started(jobs)
    await pauses.pause("AOS upgrade", until, "ann")
    during = await started(jobs)
    for job in (before, during):
        for _ in ("not looked at by a worker", "held by one"):
            now = await found(jobs, job)
            assert (now.status, now.wait_reason, now.message) == ("queued", "service_paused", said)
            await running.claim(job.id, SLOTS)
    await pauses.pause("later", None, "ann")
    for job in (before, during):
        message = "the service is paused: later; the renewal starts when it is resumed"
        assert (await found(jobs, job)).message == message


async def test_every_change_of_what_a_job_says_is_counted_and_told(
    pauses: Pauses, jobs: Jobs, database: Database
) -> None:
    job = await started(jobs)
    await pauses.pause("AOS upgrade", None, "ann")
    await pauses.resume()
    assert (await found(jobs, job)).version == job.version + 2
    async with database.transaction() as connection:
        events = select(JOB_EVENT.c.message).where(JOB_EVENT.c.job_id == job.id).order_by(JOB_EVENT.c.version)
        first, paused, last = (await connection.scalars(events)).all()
    assert (first, last) == ("queued", "queued")
    assert "AOS upgrade" in paused


async def test_after_the_pause_as_many_are_woken_as_may_run_and_nothing_stale_is_said(
    pauses: Pauses, jobs: Jobs, running: JobClaims, database: Database
) -> None:
    await pauses.pause("AOS upgrade", None, "ann")
    held = [await started(jobs) for _ in range(4)]
    for job in held:
        assert await running.claim(job.id, SLOTS) is None
    await pauses.resume()
    assert [await wakes(database, job) for job in held] == [2, 2, 1, 1]
    for job in held:
        now = await found(jobs, job)
        assert (now.wait_reason, "paused" in now.message) == ("cluster_busy", False)
    assert [await running.claim(job.id, SLOTS) is not None for job in held] == [True, True, False, False]


async def test_a_pause_ends_by_itself_at_its_time_and_wakes_what_it_held(
    pauses: Pauses, jobs: Jobs, running: JobClaims, database: Database
) -> None:
    await pauses.pause("AOS upgrade", ahead(5), "ann")
    job = await started(jobs)
    assert await running.claim(job.id, SLOTS) is None
    assert not await pauses.end_if_over()
    await let_time_pass(database)
    # Also before anything has swept: neither a new job nor the state speaks of it any more.
    assert (await pauses.state()).pause is None
    assert (await started(jobs)).wait_reason is None
    ended = await asyncio.gather(*(pauses.end_if_over() for _ in range(3)))
    assert sorted(ended) == [False, False, True]
    assert await wakes(database, job) == 2
    assert await running.claim(job.id, SLOTS) is not None


async def test_the_sweep_finds_what_was_held_in_the_moment_in_which_the_pause_ended(
    pauses: Pauses, jobs: Jobs, running: JobClaims, database: Database
) -> None:
    await pauses.pause(None, None, "ann")
    job = await started(jobs)
    assert await running.claim(job.id, SLOTS) is None
    async with database.transaction() as connection:
        await connection.execute(PAUSE.delete())
    await running.sweep(SLOTS)
    assert await running.claim(job.id, SLOTS) is not None


async def test_a_cluster_that_is_paused_itself_stays_so(
    pauses: Pauses, clusters: Clusters, jobs: Jobs, running: JobClaims, wakeups: WakeUps
) -> None:
    await clusters.pause("c1", "its own reason", "ann")
    job = await started(jobs)
    assert await running.claim(job.id, SLOTS) is None
    await pauses.pause(None, None, "ann")
    assert (await found(jobs, job)).wait_reason == "service_paused"
    # Resuming the cluster does not let anything through that the service holds.
    await clusters.resume("c1", wakeups)
    assert await running.claim(job.id, SLOTS) is None
    await clusters.pause("c1", None, "ann")
    await pauses.resume()
    assert (await found(jobs, job)).wait_reason == "cluster_paused"
    await clusters.resume("c1", wakeups)
    assert await running.claim(job.id, SLOTS) is not None


async def test_a_job_that_only_looked_is_held_before_its_change(pauses: Pauses, jobs: Jobs, running: JobClaims) -> None:
    job = await started(jobs)
    claim = await begun(running, job)
    await pauses.pause("AOS upgrade", None, "ann")
    assert (await found(jobs, job)).status == "running"
    with pytest.raises(Held, match="AOS upgrade"):
        await running.record_intent(claim, state_of(claim, changing=True), CHANGE, if_held=state_of(claim))
    now = await found(jobs, job)
    assert (now.status, now.wait_reason) == ("waiting", "service_paused")
    await pauses.resume()
    assert await running.claim(job.id, SLOTS) is not None


async def test_a_job_that_has_begun_to_change_goes_on(
    pauses: Pauses, jobs: Jobs, running: JobClaims, leave: Leave
) -> None:
    changing, stranded = await started(jobs, cluster="c1"), await started(jobs, cluster="c2")
    now = datetime.now(UTC)
    await leave(changing.id, status="waiting", changing_since=now)
    await leave(stranded.id, status="waiting", changing_since=now, stranded_since=now, wait_reason="entity_missing")
    await pauses.pause(None, None, "ann")
    for job in (changing, stranded):
        assert (await found(jobs, job)).wait_reason != "service_paused"
        claim = await begun(running, job)
        await running.record_intent(claim, state_of(claim, changing=True), CHANGE, if_held=state_of(claim))


async def test_a_plan_and_the_search_for_a_vm_are_not_held(pauses: Pauses, jobs: Jobs, running: JobClaims) -> None:
    await pauses.pause(None, None, "ann")
    plan = await started(jobs, validate_only=True)
    assert (plan.wait_reason, plan.message) == (None, "queued")
    assert await running.claim(plan.id, SLOTS) is not None
    somewhere = await started(jobs, cluster=None)
    assert somewhere.wait_reason == "service_paused"
    assert await running.claim(somewhere.id, SLOTS) is not None
    assert (await found(jobs, somewhere)).wait_reason is None


async def test_a_retry_waits_and_says_so(pauses: Pauses, jobs: Jobs, running: JobClaims, leave: Leave) -> None:
    job = await started(jobs)
    await leave(job.id, status="failed", done=True, outcome="failed", error_code="cvm-unreachable", due_at=None)
    await pauses.pause("AOS upgrade", None, "ann")
    retried = await jobs.retry(job.id)
    assert (retried.status, retried.wait_reason) == ("queued", "service_paused")
    assert "AOS upgrade" in retried.message
    assert await running.claim(job.id, SLOTS) is None


async def test_a_job_held_by_the_pause_can_be_cancelled(pauses: Pauses, jobs: Jobs, running: JobClaims) -> None:
    await pauses.pause(None, None, "ann")
    job = await started(jobs)
    await running.claim(job.id, SLOTS)
    cancelled = await jobs.cancel(job.id, renewal().caller)
    assert (cancelled.status, cancelled.wait_reason) == ("cancelled", None)
    await pauses.resume()
    assert (await found(jobs, job)).version == cancelled.version


async def test_once_a_pause_is_answered_no_change_begins_that_had_not(
    pauses: Pauses, jobs: Jobs, running: JobClaims, database: Database
) -> None:
    claim = await begun(running, await started(jobs))
    async with database.transaction() as connection:
        # Another one is about to begin: it holds what everybody holds who begins.
        await connection.execute(text(f"SELECT pg_advisory_xact_lock_shared({SERVICE_PAUSE})"))
        pausing = asyncio.create_task(pauses.pause(None, None, "ann"))
        waits = text(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        async with asyncio.timeout(LIMIT_S):
            while not await connection.scalar(waits):
                pass
        assert not pausing.done()
    await pausing
    with pytest.raises(Held):
        await running.record_intent(claim, state_of(claim, changing=True), CHANGE, if_held=state_of(claim))

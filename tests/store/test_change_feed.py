"""Waiting for a job: woken by its change, on whatever connection it was made, also after the database was away."""

import asyncio
from collections.abc import AsyncIterator, Callable
from uuid import UUID

import psycopg
import pytest_asyncio
import structlog

from app.store.change_feed import ChangeFeed
from app.store.jobs.commands import Jobs
from app.store.records.jobs import JobRecord, JobStatus
from tests.limits import LIMIT_S
from tests.store.conftest import ANN, renewal


@pytest_asyncio.fixture
async def changes(database_url: str, jobs: Jobs) -> AsyncIterator[ChangeFeed]:
    async with ChangeFeed(database_url, jobs) as opened, asyncio.timeout(LIMIT_S):
        await opened.listening()
        yield opened


async def started(jobs: Jobs) -> JobRecord:
    return (await jobs.start_renewal(renewal())).job


async def read(jobs: Jobs, job_id: UUID) -> JobRecord:
    job = await jobs.find(job_id)
    assert job is not None
    return job


def is_done(job: JobRecord) -> bool:
    return job.done


def differs_from(known: JobRecord) -> Callable[[JobRecord], bool]:
    return lambda job: job.version != known.version


async def waited(
    changes: ChangeFeed, jobs: Jobs, job_id: UUID, enough: Callable[[JobRecord], bool], timeout_s: float = LIMIT_S
) -> JobRecord:
    with changes.watch(job_id) as watch:
        return await watch.until(await read(jobs, job_id), enough, timeout_s)


async def until(state: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while True:
            if state():
                return
            await asyncio.sleep(0.005)


async def end_listeners(database_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as admin:
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'ngt-renewal-changes'"
        )


async def test_a_wait_ends_with_the_change(jobs: Jobs, changes: ChangeFeed) -> None:
    job = await started(jobs)
    with changes.watch(job.id) as watch:
        waiting = asyncio.create_task(watch.until(job, differs_from(job), LIMIT_S))
        cancelled = await jobs.cancel(job.id, ANN)
        async with asyncio.timeout(LIMIT_S):
            assert await waiting == cancelled


async def test_a_change_before_the_wait_is_answered_at_once(jobs: Jobs, changes: ChangeFeed) -> None:
    job = await started(jobs)
    cancelled = await jobs.cancel(job.id, ANN)
    async with asyncio.timeout(LIMIT_S):
        assert await waited(changes, jobs, job.id, differs_from(job)) == cancelled


async def test_a_wait_for_the_end_goes_on_over_other_changes(jobs: Jobs, changes: ChangeFeed) -> None:
    job = await started(jobs)
    await jobs.cancel(job.id, ANN)
    job = await jobs.retry(job.id)
    with changes.watch(job.id) as watch:
        waiting = asyncio.create_task(watch.until(job, is_done, LIMIT_S))
        await jobs.cancel(job.id, ANN)
        await jobs.retry(job.id)
        await jobs.cancel(job.id, ANN)
        async with asyncio.timeout(LIMIT_S):
            assert (await waiting).status is JobStatus.CANCELLED


async def test_a_wait_that_hears_nothing_ends_with_the_job_as_it_is(jobs: Jobs, changes: ChangeFeed) -> None:
    job = await started(jobs)
    assert await waited(changes, jobs, job.id, is_done, 0.05) == job


async def test_a_wait_never_goes_back_to_an_older_version(jobs: Jobs, changes: ChangeFeed) -> None:
    job = await started(jobs)
    with changes.watch(job.id) as watch:
        cancelled = await jobs.cancel(job.id, ANN)
        watch.deliver(job)
        assert await watch.until(cancelled, lambda now: now.version < cancelled.version, 0.05) == cancelled


async def test_no_change_is_missed_however_it_falls_between_reading_and_waiting(
    jobs: Jobs, changes: ChangeFeed
) -> None:
    for _ in range(30):
        job = await started(jobs)
        async with asyncio.timeout(LIMIT_S):
            changed, _ = await asyncio.gather(
                waited(changes, jobs, job.id, differs_from(job)), jobs.cancel(job.id, ANN)
            )
        assert changed.done


async def test_many_waits_for_many_jobs_all_end_and_leave_nothing(jobs: Jobs, changes: ChangeFeed) -> None:
    started_jobs = [await started(jobs) for _ in range(20)]
    waits = [asyncio.create_task(waited(changes, jobs, job.id, is_done)) for job in started_jobs for _ in range(20)]
    await until(lambda: changes.watched() == len(waits))
    for job in started_jobs:
        await jobs.cancel(job.id, ANN)
    async with asyncio.timeout(LIMIT_S):
        done = await asyncio.gather(*waits)
    assert all(job.done for job in done)
    assert changes.watched() == 0


async def test_a_change_while_nothing_could_be_heard_is_found_when_it_can_again(
    jobs: Jobs, changes: ChangeFeed, database_url: str
) -> None:
    for _ in range(5):
        job = await started(jobs)
        with changes.watch(job.id) as watch:
            waiting = asyncio.create_task(watch.until(job, is_done, LIMIT_S))
            await end_listeners(database_url)
            await jobs.cancel(job.id, ANN)
            async with asyncio.timeout(LIMIT_S):
                assert (await waiting).done


async def test_a_change_that_could_not_be_read_is_read_again(
    jobs: Jobs, changes: ChangeFeed, database_url: str
) -> None:
    job = await started(jobs)
    with changes.watch(job.id) as watch:
        waiting = asyncio.create_task(watch.until(job, is_done, LIMIT_S))
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as admin:
            await admin.execute("ALTER TABLE job RENAME TO job_away")
            await admin.execute("UPDATE job_away SET done = true, version = version + 1")
            with structlog.testing.capture_logs() as logged:
                await admin.execute("SELECT pg_notify('ngt_job', %s)", [str(job.id)])
                await until(lambda: bool(logged))
            await admin.execute("ALTER TABLE job_away RENAME TO job")
        assert "could not be read" in logged[0]["event"]
        async with asyncio.timeout(LIMIT_S):
            assert (await waiting).done


async def test_ending_the_watches_ends_every_wait_with_the_job_as_it_is(jobs: Jobs, changes: ChangeFeed) -> None:
    job = await started(jobs)
    with changes.watch(job.id) as watch:
        waiting = asyncio.create_task(watch.until(job, is_done, LIMIT_S))
        await asyncio.sleep(0)
        changes.end_watches()
        async with asyncio.timeout(LIMIT_S):
            assert await waiting == job
    async with asyncio.timeout(LIMIT_S):
        assert await waited(changes, jobs, job.id, is_done) == job

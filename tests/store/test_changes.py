"""Waiting for a job: woken by its change, on whatever connection it was made, also after the database was away."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import psycopg
import pytest_asyncio

from app.store.changes import Changes
from app.store.jobs import Jobs
from app.store.records import JobRecord, JobStatus
from tests.store.conftest import ANN, renewal

# Longer than any machine needs; a wait that is not woken fails by this.
LONG_S = 30.0
SOON_S = 10.0


@pytest_asyncio.fixture
async def changes(database_url: str) -> AsyncIterator[Changes]:
    async with Changes(database_url) as opened, asyncio.timeout(LONG_S):
        await opened.listening()
        yield opened


async def started(jobs: Jobs) -> JobRecord:
    return (await jobs.start_renewal(renewal())).job


async def end_listeners(database_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as admin:
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'ngt-renewal-changes'"
        )


async def test_a_wait_ends_with_the_change(jobs: Jobs, changes: Changes) -> None:
    job = await started(jobs)
    waiting = asyncio.create_task(changes.wait_for_change(job.id, job.version, jobs, LONG_S))
    await asyncio.sleep(0)
    await jobs.cancel(job.id, ANN)
    async with asyncio.timeout(SOON_S):
        changed = await waiting
    assert changed is not None
    assert changed.version > job.version


async def test_a_change_before_the_wait_is_answered_at_once(jobs: Jobs, changes: Changes) -> None:
    job = await started(jobs)
    cancelled = await jobs.cancel(job.id, ANN)
    assert await changes.wait_for_change(job.id, job.version, jobs, LONG_S) == cancelled


async def test_a_wait_for_the_end_goes_on_over_other_changes(jobs: Jobs, changes: Changes) -> None:
    job = await started(jobs)
    await jobs.cancel(job.id, ANN)
    await jobs.retry(job.id)
    waiting = asyncio.create_task(changes.wait_done(job.id, jobs, LONG_S))
    await asyncio.sleep(0)
    await jobs.cancel(job.id, ANN)
    await jobs.retry(job.id)
    await jobs.cancel(job.id, ANN)
    async with asyncio.timeout(SOON_S):
        done = await waiting
    assert done is not None
    assert done.status is JobStatus.CANCELLED


async def test_a_wait_that_hears_nothing_ends_with_the_job_as_it_is(jobs: Jobs, changes: Changes) -> None:
    job = await started(jobs)
    assert await changes.wait_done(job.id, jobs, 0.05) == job


async def test_a_wait_of_no_time_reads_once(jobs: Jobs, changes: Changes) -> None:
    job = await started(jobs)
    assert await changes.wait_for_change(job.id, job.version, jobs, 0) == job


async def test_a_wait_for_no_job_answers_none(jobs: Jobs, changes: Changes) -> None:
    assert await changes.wait_done(UUID(int=1), jobs, LONG_S) is None


async def test_no_change_is_missed_however_it_falls_between_reading_and_waiting(jobs: Jobs, changes: Changes) -> None:
    for _ in range(30):
        job = await started(jobs)
        async with asyncio.timeout(SOON_S):
            changed, _ = await asyncio.gather(
                changes.wait_for_change(job.id, job.version, jobs, LONG_S), jobs.cancel(job.id, ANN)
            )
        assert changed is not None
        assert changed.done


async def test_many_waits_for_one_job_all_end(jobs: Jobs, changes: Changes) -> None:
    job = await started(jobs)
    waits = [asyncio.create_task(changes.wait_done(job.id, jobs, LONG_S)) for _ in range(100)]
    await asyncio.sleep(0)
    await jobs.cancel(job.id, ANN)
    async with asyncio.timeout(SOON_S):
        done = await asyncio.gather(*waits)
    assert all(each is not None and each.done for each in done)


async def test_a_change_while_nothing_could_be_heard_is_found_when_it_can_again(
    jobs: Jobs, changes: Changes, database_url: str
) -> None:
    for _ in range(5):
        job = await started(jobs)
        waiting = asyncio.create_task(changes.wait_done(job.id, jobs, LONG_S))
        await asyncio.sleep(0)
        await end_listeners(database_url)
        await jobs.cancel(job.id, ANN)
        async with asyncio.timeout(SOON_S):
            done = await waiting
        assert done is not None
        assert done.done


async def test_closing_ends_every_wait_with_the_job_as_it_is(jobs: Jobs, database_url: str) -> None:
    job = await started(jobs)
    changes = Changes(database_url)
    await changes.open()
    waiting = asyncio.create_task(changes.wait_done(job.id, jobs, LONG_S))
    await changes.close()
    async with asyncio.timeout(SOON_S):
        assert await waiting == job

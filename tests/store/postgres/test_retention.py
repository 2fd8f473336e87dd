"""What is removed when it is older than it is kept, and what stays whatever its age."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, insert, select, text, update

from app.store.jobs.commands import Jobs
from app.store.jobs.queries import JobFilter
from app.store.postgres.database import Database
from app.store.postgres.retention import KeptDays, Removed, prune
from app.store.postgres.tables import DELIVERY, IDEMPOTENCY, SCAN, STEP
from app.store.records.jobs import IdempotencyKey, JobRecord
from tests.store.conftest import Leave, renewal

KEPT = KeptDays(jobs=90, idempotency=7, deliveries=14, scans=14)
KEY = IdempotencyKey("key-1", "POST", "a" * 64)
NOW = datetime.now(UTC)


def ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


async def finished(jobs: Jobs, leave: Leave, days: float, key: IdempotencyKey | None = None) -> JobRecord:
    job = (await jobs.start_renewal(renewal(correlation_id="RITM1"), key)).job
    await leave(job.id, done=True, status="succeeded", created_at=ago(days + 0.1), finished_at=ago(days), due_at=None)
    return job


async def left(jobs: Jobs) -> set[UUID]:
    return {job.id for job in await jobs.list(JobFilter())}


async def delivery(database: Database, **more: Any) -> UUID:
    values = {"id": uuid4(), "target": "hook", "event": "ngt.renewal.succeeded", "facts": {}, "status": "delivered"}
    async with database.transaction() as connection:
        await connection.execute(insert(DELIVERY).values(**(values | more)))
    return UUID(str((values | more)["id"]))


async def test_old_jobs_go_with_all_that_belongs_to_them_and_open_ones_never(
    jobs: Jobs, leave: Leave, database: Database
) -> None:
    old, fresh = await finished(jobs, leave, 91), await finished(jobs, leave, 89)
    still_open = (await jobs.start_renewal(renewal())).job
    await leave(still_open.id, created_at=ago(400))
    async with database.transaction() as connection:
        step = {"job_id": old.id, "number": 1, "name": "find_vm", "attempt": 1, "status": "succeeded", "message": ""}
        await connection.execute(insert(STEP).values(**step, started_at=ago(91)))
    await delivery(database, job_id=old.id, finished_at=ago(2))
    assert await prune(database, KEPT) == Removed(jobs=1)
    assert await left(jobs) == {fresh.id, still_open.id}
    async with database.transaction() as connection:
        for table in (STEP, DELIVERY):
            assert await connection.scalar(select(func.count()).select_from(table)) == 0


async def test_an_old_idempotency_key_is_free_again(jobs: Jobs, database: Database) -> None:
    await jobs.start_renewal(renewal(), KEY)
    async with database.transaction() as connection:
        await connection.execute(update(IDEMPOTENCY).values(created_at=ago(7.1)))
    assert await prune(database, KEPT) == Removed(idempotency_keys=1)
    assert not (await jobs.start_renewal(renewal(), KEY)).replayed


async def test_a_job_stays_as_long_as_its_request_can_be_repeated(jobs: Jobs, leave: Leave, database: Database) -> None:
    job = await finished(jobs, leave, 3, KEY)
    short = KeptDays(jobs=1, idempotency=7, deliveries=14, scans=14)
    assert await prune(database, short) == Removed()
    assert (await jobs.start_renewal(renewal(), KEY)).job.id == job.id
    async with database.transaction() as connection:
        await connection.execute(update(IDEMPOTENCY).values(created_at=ago(8)))
    assert await prune(database, short) == Removed(jobs=1, idempotency_keys=1)


async def test_finished_deliveries_go_and_those_still_to_be_made_never(
    jobs: Jobs, leave: Leave, database: Database
) -> None:
    await delivery(database, finished_at=ago(14.1))
    fresh = await delivery(database, finished_at=ago(13.9))
    pending = await delivery(database, status="pending", due_at=ago(30), created_at=ago(100))
    # It was replayed: it is to be made once more.
    replayed = await delivery(database, finished_at=ago(50), due_at=ago(0))
    assert await prune(database, KEPT) == Removed(deliveries=1)
    async with database.transaction() as connection:
        assert set((await connection.scalars(select(DELIVERY.c.id))).all()) == {fresh, pending, replayed}


async def test_finished_scans_go_and_open_ones_never(database: Database) -> None:
    async def scan(cluster: str, **more: Any) -> UUID:
        fixed = {"origin": "requested", "caller_id": "", "caller": "", "message": "", "version": 1, "fence": 0}
        row = {"id": uuid4(), "cluster": cluster, "status": "succeeded", "done": True, **fixed, **more}
        async with database.transaction() as connection:
            await connection.execute(insert(SCAN).values(**row))
        return UUID(str(row["id"]))

    await scan("c1", created_at=ago(15), finished_at=ago(14.1))
    fresh = await scan("c1", created_at=ago(15), finished_at=ago(13.9))
    still_open = await scan("c1", created_at=ago(100), done=False, status="queued")
    assert await prune(database, KEPT) == Removed(scans=1)
    async with database.transaction() as connection:
        assert set((await connection.scalars(select(SCAN.c.id))).all()) == {fresh, still_open}


async def test_a_job_stays_until_its_receivers_were_told(jobs: Jobs, leave: Leave, database: Database) -> None:
    job = await finished(jobs, leave, 100)
    await delivery(database, job_id=job.id, status="pending", due_at=ago(-1))
    assert await prune(database, KEPT) == Removed()
    async with database.transaction() as connection:
        await connection.execute(update(DELIVERY).values(due_at=None, finished_at=ago(0)))
    assert (await prune(database, KEPT)).jobs == 1


@pytest.mark.parametrize("rows", [2500])
async def test_a_backlog_goes_in_one_call_and_many_transactions(
    jobs: Jobs, leave: Leave, database: Database, rows: int
) -> None:
    job = await finished(jobs, leave, 100)
    async with database.transaction() as connection:
        columns = "vm_uuid, validate_only, status, done, message, progress_percent, attempt, results, request, asked"
        rest = "caller_id, caller, progress, version, fence, takes_slot, look_now, created_at, finished_at"
        copied = (
            f"INSERT INTO job (id, {columns}, {rest}) SELECT gen_random_uuid(), {columns}, {rest} FROM job,"  # noqa: S608
            " generate_series(2, :rows) WHERE id = :id"
        )
        await connection.execute(text(copied), {"rows": rows, "id": job.id})
        before = await connection.scalar(text("SELECT txid_current()"))
    assert (await prune(database, KEPT)).jobs == rows
    async with database.transaction() as connection:
        after = await connection.scalar(text("SELECT txid_current()"))
    assert after - before > 3

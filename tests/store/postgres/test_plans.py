"""PostgreSQL's plans for the queries that run often: with 10,000 rows none of them reads a whole table."""

import re
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from sqlalchemy import TextClause, text

from app.store.jobs import claims, pickup_polls, slots
from app.store.postgres import retention
from app.store.postgres.database import Database
from app.store.scans import claims as scan_claims
from app.store.webhooks import deliveries

_JOBS = """
INSERT INTO job (id, vm_uuid, validate_only, status, done, message, cluster, progress_percent, attempt, results,
  request, asked, caller_id, caller, progress, version, fence, takes_slot, look_now, created_at, updated_at, due_at,
  finished_at)
SELECT gen_random_uuid(), gen_random_uuid()::text, false, CASE WHEN done THEN 'succeeded' ELSE 'queued' END, done, '',
  'c' || n % 7, 0, 1, '{}', '{}', '{}', 'ann00001', 'ann', '{}', 1, 0, true, false, now() - make_interval(mins => n),
  now(), CASE WHEN NOT done THEN now() END, CASE WHEN done THEN now() END
FROM (SELECT n, n % :every <> 0 AS done FROM generate_series(1, 10000) AS n) AS numbers
"""
_QUEUED = """
INSERT INTO procrastinate_jobs (queue_name, task_name, args, status)
SELECT 'renewals', 'look_at_job', jsonb_build_object('job_id', id), 'todo' FROM job WHERE NOT done
"""
_VALUES: dict[str, Any] = {
    "id": uuid4(),
    "ids": [uuid4()],
    "expired": [uuid4()],
    "runner": "r",
    "lease_s": 60.0,
    "cluster": "c1",
    "clusters": ["c1"],
    "held": ["max_running"],
    "free": 3,
    "first_s": 10,
    "last_s": 60,
    "age": timedelta(days=30),
    "channel": "ngt_job",
    "reasons": ["watching"],
    "rows": 1000,
    "targets": ["t1"],
    "rooms": [5],
    "leases_s": [60.0],
    "test": "ngt.test",
}


async def plan(database: Database, query: TextClause) -> str:
    names = set(re.findall(r"(?<!:):(\w+)", str(query)))
    async with database.transaction() as connection:
        rows = await connection.execute(text(f"EXPLAIN {query}"), {name: _VALUES[name] for name in names})
        return "\n".join(line for (line,) in rows)


@pytest_asyncio.fixture
async def many_jobs(database: Database, request: pytest.FixtureRequest) -> Database:
    """10,000 jobs, of which each `every`-th is open, due and in the queue."""
    async with database.transaction() as connection:
        await connection.execute(text(_JOBS), {"every": request.param})
        await connection.execute(text(_QUEUED))
    return database


@pytest.mark.field("E9")
@pytest.mark.parametrize("many_jobs", [1], indirect=True)
@pytest.mark.parametrize("analyzed", [False, True], ids=["new", "analyzed"])
async def test_the_sweep_reads_the_queue_once_however_many_jobs_are_due(many_jobs: Database, *, analyzed: bool) -> None:
    if analyzed:
        async with many_jobs.transaction() as connection:
            await connection.execute(text("ANALYZE"))
    for query in (claims._DUE, scan_claims._DUE):
        found = await plan(many_jobs, query)
        assert "hashed SubPlan" in found, found
        assert found.count("on procrastinate_jobs q") == 1, found


@pytest.mark.field("E9")
@pytest.mark.parametrize("many_jobs", [500], indirect=True)
@pytest.mark.parametrize(
    "query",
    [
        claims._DUE,
        claims._FIND,
        claims._LEASES,
        claims._UNANSWERED,
        claims._RENEW_LEASES,
        slots._GATE,
        slots._WAKE_NEXT,
        slots._WITHOUT_CLUSTER,
        slots._FORGET_PAUSE,
        pickup_polls._BEGIN,
        pickup_polls._WAITING_VMS,
        scan_claims._DUE,
        deliveries._CLAIM,
        retention._JOBS,
    ],
    ids=lambda query: " ".join(str(query).split())[:60],
)
async def test_a_query_that_runs_often_does_not_read_all_jobs(many_jobs: Database, query: TextClause) -> None:
    async with many_jobs.transaction() as connection:
        await connection.execute(text("ANALYZE"))
    assert "Seq Scan on job" not in await plan(many_jobs, query)

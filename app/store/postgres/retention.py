"""Deletes rows past their retention, in small transactions: a large backlog does not hold a lock for long."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import TextClause, text

from app.store.postgres.database import Database

_ROWS_AT_ONCE = 1000
# Far longer than any worker is at work on one wake-up.
_ABANDONED_AFTER = timedelta(hours=1)
# A locked row is left for the next time.
_KEYS = text("""
DELETE FROM idempotency WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM idempotency WHERE created_at < now() - :age
  LIMIT :rows FOR UPDATE SKIP LOCKED))
""")
_DELIVERIES = text("""
DELETE FROM delivery WHERE id IN (
  SELECT id FROM delivery WHERE due_at IS NULL AND finished_at < now() - :age
  LIMIT :rows FOR UPDATE SKIP LOCKED)
""")
# The condition on `created_at` uses its index. A job stays while an idempotency key or a pending delivery names it.
_JOBS = text("""
DELETE FROM job WHERE id IN (
  SELECT id FROM job WHERE done AND finished_at < now() - :age
    AND created_at < now() - :age
    AND NOT EXISTS (SELECT FROM idempotency WHERE job_id = job.id)
    AND NOT EXISTS (SELECT FROM delivery WHERE job_id = job.id AND due_at IS NOT NULL)
  ORDER BY created_at LIMIT :rows FOR UPDATE SKIP LOCKED)
""")
_SCANS = text("""
DELETE FROM scan WHERE id IN (
  SELECT id FROM scan WHERE done AND finished_at < now() - :age AND created_at < now() - :age
  ORDER BY created_at LIMIT :rows FOR UPDATE SKIP LOCKED)
""")
# The wake-ups of a killed worker stay `doing`, and no other worker takes or removes them. The sweep has woken their
# jobs again by then, since each job's own row has a due time.
_WAKE_UPS = text("""
DELETE FROM procrastinate_jobs WHERE id IN (
  SELECT q.id FROM procrastinate_jobs q LEFT JOIN procrastinate_workers w ON w.id = q.worker_id
  WHERE q.status = 'doing' AND (w.id IS NULL OR w.last_heartbeat < now() - :age)
    AND NOT EXISTS (SELECT FROM procrastinate_events e WHERE e.job_id = q.id AND e.at > now() - :age)
  LIMIT :rows FOR UPDATE OF q SKIP LOCKED)
""")


@dataclass(frozen=True, slots=True)
class KeptDays:
    """The retention of finished rows."""

    jobs: int
    idempotency: int
    deliveries: int
    scans: int


@dataclass(frozen=True, slots=True)
class Removed:
    """The numbers of deleted rows; the rows of a job are deleted with it."""

    jobs: int = 0
    idempotency_keys: int = 0
    deliveries: int = 0
    scans: int = 0
    wake_ups: int = 0


async def prune(database: Database, kept: KeptDays) -> Removed:
    """Deletes the older rows, by the database's clock, and the wake-ups of killed workers.

    Raises Fault `database-unavailable`, perhaps halfway.
    """
    keys = await _delete(database, _KEYS, timedelta(days=kept.idempotency))
    deliveries = await _delete(database, _DELIVERIES, timedelta(days=kept.deliveries))
    jobs = await _delete(database, _JOBS, timedelta(days=kept.jobs))
    scans = await _delete(database, _SCANS, timedelta(days=kept.scans))
    return Removed(jobs, keys, deliveries, scans, await _delete(database, _WAKE_UPS, _ABANDONED_AFTER))


async def _delete(database: Database, batch: TextClause, age: timedelta) -> int:
    removed = 0
    while True:
        async with database.transaction() as connection:
            done = await connection.execute(batch, {"age": age, "rows": _ROWS_AT_ONCE})
        removed += done.rowcount
        if done.rowcount < _ROWS_AT_ONCE:
            return removed

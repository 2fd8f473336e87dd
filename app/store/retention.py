"""Removing what is older than it is kept, in small transactions: a large backlog holds no lock for long."""

from dataclasses import dataclass

from sqlalchemy import TextClause, text

from app.store.database import Database

_ROWS_AT_ONCE = 1000
# A row that somebody has in his hands is left for the next time.
_KEYS = text("""
DELETE FROM idempotency WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM idempotency WHERE created_at < now() - make_interval(days => :days)
  LIMIT :rows FOR UPDATE SKIP LOCKED))
""")
_DELIVERIES = text("""
DELETE FROM delivery WHERE id IN (
  SELECT id FROM delivery WHERE due_at IS NULL AND finished_at < now() - make_interval(days => :days)
  LIMIT :rows FOR UPDATE SKIP LOCKED)
""")
# A job was created before it was finished, and there is an index of creation. It stays while a key leads to it, or a
# receiver has not been told of it.
_JOBS = text("""
DELETE FROM job WHERE id IN (
  SELECT id FROM job WHERE done AND finished_at < now() - make_interval(days => :days)
    AND created_at < now() - make_interval(days => :days)
    AND NOT EXISTS (SELECT FROM idempotency WHERE job_id = job.id)
    AND NOT EXISTS (SELECT FROM delivery WHERE job_id = job.id AND due_at IS NOT NULL)
  ORDER BY created_at LIMIT :rows FOR UPDATE SKIP LOCKED)
""")


@dataclass(frozen=True, slots=True)
class KeptDays:
    """How long what is finished is kept."""

    jobs: int
    idempotency: int
    deliveries: int


@dataclass(frozen=True, slots=True)
class Removed:
    """How many of each were removed; what belonged to a job went with it."""

    jobs: int
    idempotency_keys: int
    deliveries: int


async def prune(database: Database, kept: KeptDays) -> Removed:
    """Removes what is older, by the database's clock. Raises Fault `database-unavailable`, perhaps halfway."""
    keys = await _delete(database, _KEYS, kept.idempotency)
    deliveries = await _delete(database, _DELIVERIES, kept.deliveries)
    return Removed(await _delete(database, _JOBS, kept.jobs), keys, deliveries)


async def _delete(database: Database, batch: TextClause, days: int) -> int:
    removed = 0
    while True:
        async with database.transaction() as connection:
            done = await connection.execute(batch, {"days": days, "rows": _ROWS_AT_ONCE})
        removed += done.rowcount
        if done.rowcount < _ROWS_AT_ONCE:
            return removed

"""The events of a job, version by version. A trigger of the table `job` writes them; this module only reads them."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select

from app.store.postgres.database import Database
from app.store.postgres.tables import JOB_EVENT
from app.store.records.rows import record_of

# Otherwise a job that a thousand streams follow would take all connections of the pool at each change.
_READINGS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class JobEventRecord:
    """The shown state of a job from `at` on. Versions rise; a version that shows no difference has no event."""

    version: int
    at: datetime
    status: str
    done: bool
    outcome: str | None
    wait_reason: str | None
    error_code: str | None
    current_step: str | None
    progress_percent: int
    attempt: int
    message: str


class JobEvents:
    """The events of one database's jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._turns = asyncio.Semaphore(_READINGS_AT_ONCE)

    async def list(self, job_id: UUID, *, after: int, limit: int) -> tuple[JobEventRecord, ...]:
        """At most `limit` events of versions above `after`, oldest first; none for an unknown job.

        Raises Fault `database-unavailable`.
        """
        wanted = select(JOB_EVENT).where(JOB_EVENT.c.job_id == job_id, JOB_EVENT.c.version > after)
        async with self._turns, self._database.transaction() as connection:
            rows = (await connection.execute(wanted.order_by(JOB_EVENT.c.version).limit(limit))).mappings()
            return tuple(record_of(JobEventRecord, row) for row in rows)

"""What happened to a job, version by version. A trigger of the table `job` writes it; here it is only read."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select

from app.store.postgres.database import Database
from app.store.postgres.tables import JOB_EVENT

# So that the change of a job that a thousand streams follow leaves connections to everybody else.
_READINGS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class JobEventRecord:
    """What was shown of a job from `at` on. Versions rise; those that look like the one before are left out."""

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
        """At most `limit` events of versions above `after`, oldest first; none when there is no such job.

        Raises Fault `database-unavailable`.
        """
        wanted = select(JOB_EVENT).where(JOB_EVENT.c.job_id == job_id, JOB_EVENT.c.version > after)
        async with self._turns, self._database.transaction() as connection:
            rows = (await connection.execute(wanted.order_by(JOB_EVENT.c.version).limit(limit))).mappings()
            return tuple(JobEventRecord(**{name: row[name] for name in JobEventRecord.__slots__}) for row in rows)

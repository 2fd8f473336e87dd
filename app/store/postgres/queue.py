"""The queue of wake-ups: procrastinate's tables in the same database, written in the same transaction as the job.

A wake-up says only "look at this job" or "at this scan"; it may come twice or find nothing to do, and both are
harmless. Scans of whole clusters have a queue of their own, since they take long and must not hold up renewals.
"""

from datetime import datetime
from uuid import UUID

import procrastinate
from sqlalchemy.ext.asyncio import AsyncConnection

from app.store.postgres.database import driver_connection, plain_url

QUEUE = "renewals"
CLUSTER_SCAN_QUEUE = "cluster-scans"
LOOK_AT_JOB = "look_at_job"
LOOK_AT_SCAN = "look_at_scan"
START_DUE_SCANS = "start_due_scans"
_STRANDED_FIRST = 100


def queue_app(url: str) -> procrastinate.App:
    """The procrastinate app on the database at `url`; the caller opens and closes it."""
    connector = procrastinate.PsycopgConnector(conninfo=plain_url(url), min_size=1, max_size=4)
    return procrastinate.App(connector=connector)


class WakeUps:
    """Writes wake-ups into the transactions of the store."""

    def __init__(self, queue: procrastinate.App) -> None:
        self._queue = queue

    async def wake(
        self, connection: AsyncConnection, job_id: UUID, *, at: datetime | None = None, stranded: bool = False
    ) -> None:
        """Have some worker look at the job, now or at `at`, once this transaction is committed."""
        deferrer = self._queue.configure_task(
            LOOK_AT_JOB,
            queue=QUEUE,
            schedule_at=at,
            priority=_STRANDED_FIRST if stranded else 0,
            connection=await driver_connection(connection),
        )
        await deferrer.defer_async(job_id=str(job_id))

    async def wake_for_scan(self, connection: AsyncConnection, scan_id: UUID, *, whole_cluster: bool) -> None:
        """Have some worker look at the scan once this transaction is committed."""
        deferrer = self._queue.configure_task(
            LOOK_AT_SCAN,
            queue=CLUSTER_SCAN_QUEUE if whole_cluster else QUEUE,
            connection=await driver_connection(connection),
        )
        await deferrer.defer_async(scan_id=str(scan_id))

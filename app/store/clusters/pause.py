"""The configured clusters: pausing and resuming their renewals."""

from collections.abc import Iterable

from sqlalchemy import Update, and_, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.ngt.errors import Fault, FaultCode
from app.ngt.renewal.progress import WaitReason
from app.store.jobs.updates import update_jobs
from app.store.postgres.database import Database
from app.store.postgres.queue import WakeUps
from app.store.postgres.tables import CLUSTER, JOB
from app.store.records.clusters import ClusterRecord
from app.store.records.rows import record_of


class Clusters:
    """The clusters of one database. Every function raises Fault `database-unavailable` when it does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ensure(self, names: Iterable[str]) -> None:
        """Add a row for each cluster that has none."""
        rows = [{"name": name} for name in sorted(set(names))]
        if rows:
            async with self._database.transaction() as connection:
                await connection.execute(insert(CLUSTER).on_conflict_do_nothing(), rows)

    async def list(self, names: Iterable[str]) -> tuple[ClusterRecord, ...]:
        """The clusters that have a row, by name."""
        wanted = select(CLUSTER).where(CLUSTER.c.name.in_(list(names))).order_by(CLUSTER.c.name)
        async with self._database.transaction() as connection:
            return tuple(record_of(ClusterRecord, row) for row in (await connection.execute(wanted)).mappings())

    async def pause(self, name: str, reason: str | None, by: str) -> ClusterRecord:
        """Renewals that have not changed anything on the cluster yet wait; the others continue.

        A second pause keeps the first time and takes the newer reason. Raises Fault `cluster-not-found`.
        """
        since = func.coalesce(CLUSTER.c.paused_at, func.now())
        async with self._database.transaction() as connection:
            paused = update(CLUSTER).values(paused_at=since, pause_reason=reason, paused_by=by)
            return await _change(connection, name, paused)

    async def resume(self, name: str, wakeups: WakeUps) -> ClusterRecord:
        """Let renewals start again, reset the count of unproven ones, and wake the jobs that the pause held.

        Raises Fault `cluster-not-found`.
        """
        running_again = {"paused_at": None, "pause_reason": None, "paused_by": None, "unproven_in_a_row": 0}
        async with self._database.transaction() as connection:
            cluster = await _change(connection, name, update(CLUSTER).values(**running_again))
            # A held job has no due time; where no slot is free a worker holds it again.
            held = and_(~JOB.c.done, JOB.c.wait_reason == WaitReason.CLUSTER_PAUSED, JOB.c.due_at.is_(None))
            await connection.execute(update_jobs(JOB.c.cluster == name, held, due_at=func.now()))
            idle = func.coalesce(JOB.c.lease_until < func.now(), True)
            due = select(JOB.c.id).where(JOB.c.cluster == name, ~JOB.c.done, JOB.c.due_at <= func.now(), idle)
            for job_id in (await connection.scalars(due.order_by(JOB.c.created_at, JOB.c.id))).all():
                await wakeups.wake(connection, job_id)
            return cluster

    async def resume_auto_renew(self, name: str) -> ClusterRecord:
        """Let automatic renewals start again, and reset the count of failed ones. Raises Fault `cluster-not-found`."""
        again = {"auto_failures_in_a_row": 0, "auto_stopped_at": None, "auto_stopped_reason": None}
        async with self._database.transaction() as connection:
            return await _change(connection, name, update(CLUSTER).values(**again))


async def _change(connection: AsyncConnection, name: str, change: Update) -> ClusterRecord:
    changed = change.where(CLUSTER.c.name == name).returning(CLUSTER)
    row = (await connection.execute(changed)).mappings().first()
    if row is None:
        raise Fault(FaultCode.CLUSTER_NOT_FOUND, f"There is no cluster {name!r}.")
    return record_of(ClusterRecord, row)

"""The facts for the planner of automatic renewals, and its lock.

An advisory lock per cluster makes replicas plan in turn, so each one counts the jobs that the previous one started.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.ngt.auto_renew.capacity import AutoRenewState
from app.ngt.auto_renew.plan import Candidate
from app.ngt.renewal.progress import PERSON_WAITS
from app.ngt.vocabulary import CertificateSource, PowerState, VmUuid
from app.settings import ClusterSettings
from app.store.jobs.holds import PAUSE_STANDS
from app.store.postgres.advisory_locks import CLUSTER_AUTO_RENEWAL
from app.store.postgres.database import Database

_LOCK = text("SELECT pg_try_advisory_xact_lock(:lock, hashtext(:cluster))")
_STANDING = text(f"""
SELECT coalesce(CAST(:now AS timestamptz), clock_timestamp()) AS now,
  coalesce(cluster.paused_at IS NOT NULL, false) AS paused, coalesce(cluster.proven_at IS NOT NULL, false) AS proven,
  cluster.auto_stopped_at, cluster.auto_stopped_reason,
  EXISTS (SELECT FROM pause WHERE {PAUSE_STANDS}) AS service_paused, jobs.*
FROM (SELECT count(*) AS open_jobs, count(*) FILTER (WHERE takes_slot) AS taking_slot,
    count(*) FILTER (WHERE stranded_since IS NOT NULL) AS stranded,
    count(*) FILTER (WHERE automatic_rule IS NOT NULL AND NOT coalesce(wait_reason = ANY(:person_waits), false))
      AS automatic
  FROM job WHERE cluster = :cluster AND NOT done AND NOT validate_only) AS jobs
LEFT JOIN cluster ON cluster.name = :cluster
""")  # noqa: S608 - the only part put in is a constant
_CANDIDATES = text("""
SELECT vm.vm_uuid, name, not_after, certificate_source AS source, power, has_entity, ngt_enabled, renewed_at,
  vanished_at IS NOT NULL AS vanished, awaiting_pickup_since IS NOT NULL AS awaiting_pickup,
  EXISTS (SELECT FROM job WHERE job.vm_uuid = vm.vm_uuid AND NOT done AND NOT validate_only) AS job_open,
  EXISTS (SELECT FROM vm AS other WHERE other.vm_uuid = vm.vm_uuid AND other.cluster <> vm.cluster
    AND other.vanished_at IS NULL AND coalesce(other.last_seen_at, other.observed_at)
      > coalesce(vm.last_seen_at, vm.observed_at, '-infinity')) AS moved,
  coalesce(tried.tries, 0) AS tries, tried.tried_at
FROM vm LEFT JOIN (
  SELECT job.vm_uuid, count(*) AS tries, max(job.finished_at) AS tried_at
  FROM job JOIN vm ON vm.vm_uuid = job.vm_uuid AND vm.cluster = job.cluster
  WHERE job.cluster = :cluster AND automatic_rule IS NOT NULL AND done AND outcome <> 'renewed'
    AND (vm.renewed_at IS NULL OR job.finished_at > vm.renewed_at)
  GROUP BY job.vm_uuid
) AS tried ON tried.vm_uuid = vm.vm_uuid
WHERE vm.cluster = :cluster
""")
_STARTED = text("""
SELECT created_at FROM job
WHERE cluster = :cluster AND automatic_rule IS NOT NULL
  AND created_at > CAST(:now AS timestamptz) - make_interval(days => :days)
""")
# More than any opening lasts that belongs to one day.
_STARTED_DAYS = 3


@dataclass(frozen=True, slots=True)
class KnownVms:
    """The VMs of a cluster, and when its automatic jobs of the last days were started."""

    candidates: tuple[Candidate, ...]
    started_at: tuple[datetime, ...]


@dataclass(frozen=True, slots=True)
class PlannerInput:
    """The state and the VMs of a cluster at the time `now` of the database's clock."""

    now: datetime
    standing: AutoRenewState
    stopped_at: datetime | None
    known: KnownVms


class PlannerLock:
    """The right to start automatic renewals on a cluster, as long as `AutoRenewals.turn` lasts."""

    def __init__(self, connection: AsyncConnection, cluster: str, now: datetime, standing: AutoRenewState) -> None:
        self._connection = connection
        self._cluster = cluster
        self.now = now
        self.standing = standing

    async def read_known(self) -> KnownVms:
        return await _known_vms(self._connection, self._cluster, self.now)


class AutoRenewals:
    """The automatic renewals of one database. Every function raises Fault `database-unavailable`.

    `now` stands in for the database's clock.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def turn(
        self, cluster: str, settings: ClusterSettings, now: datetime | None = None
    ) -> AsyncIterator[PlannerLock | None]:
        """The turn of the cluster, or None while another replica has it."""
        async with self._database.transaction() as connection:
            if not await connection.scalar(_LOCK, {"lock": CLUSTER_AUTO_RENEWAL, "cluster": cluster}):
                yield None
                return
            row = await _standing_row(connection, cluster, now)
            yield PlannerLock(connection, cluster, row["now"], _standing(row, settings))

    async def look(self, cluster: str, settings: ClusterSettings, now: datetime | None = None) -> PlannerInput:
        """The facts for a plan, without the lock."""
        async with self._database.transaction() as connection:
            row = await _standing_row(connection, cluster, now)
            known = await _known_vms(connection, cluster, row["now"])
        return PlannerInput(row["now"], _standing(row, settings), row["auto_stopped_at"], known)


async def _standing_row(connection: AsyncConnection, cluster: str, now: datetime | None) -> RowMapping:
    values = {"cluster": cluster, "now": now, "person_waits": sorted(PERSON_WAITS)}
    return (await connection.execute(_STANDING, values)).mappings().one()


def _standing(row: RowMapping, settings: ClusterSettings) -> AutoRenewState:
    stopped = row["auto_stopped_reason"] or "too many failed" if row["auto_stopped_at"] is not None else None
    return AutoRenewState(
        enabled=settings.auto_renew.enabled,
        max_running=settings.max_running,
        one_at_a_time=settings.one_until_proved and not row["proven"],
        service_paused=row["service_paused"],
        paused=row["paused"],
        stopped_because=stopped,
        stranded=row["stranded"],
        automatic=row["automatic"],
        taking_slot=row["taking_slot"],
        open_jobs=row["open_jobs"],
    )


async def _known_vms(connection: AsyncConnection, cluster: str, now: datetime) -> KnownVms:
    rows = (await connection.execute(_CANDIDATES, {"cluster": cluster})).mappings()
    candidates = tuple(_candidate(row) for row in rows)
    values = {"cluster": cluster, "now": now, "days": _STARTED_DAYS}
    return KnownVms(candidates, tuple((await connection.scalars(_STARTED, values)).all()))


def _candidate(row: RowMapping) -> Candidate:
    values = dict(row)
    return Candidate(
        **values
        | {
            "vm_uuid": VmUuid(row["vm_uuid"]),
            "source": None if row["source"] is None else CertificateSource(row["source"]),
            "power": None if row["power"] is None else PowerState(row["power"]),
        }
    )

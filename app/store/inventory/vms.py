"""VMs as the inventory has them: their clusters, their certificates and their last renewal."""

from collections.abc import AsyncGenerator, Collection

from sqlalchemy import RowMapping, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.ngt.errors import Fault, FaultCode
from app.ngt.vocabulary import CertificateSource, VmUuid
from app.store.inventory.search import IS_GONE, WHERE_IT_IS, VmFilter, VmPlace, VmSort, find_vms
from app.store.jobs.progress_json import load_pushed
from app.store.postgres.chunks import ROWS_AT_ONCE
from app.store.postgres.database import Database
from app.store.postgres.tables import CERTIFICATE_OBSERVATION, JOB, VM
from app.store.records.inventory import (
    BeforeRenewal,
    ClusterTotals,
    ExpiringWeek,
    ForecastRecord,
    KnownNgt,
    KnownVm,
    Observation,
)
from app.store.records.rows import record_of

FORECAST_DAYS = 1000
"""The lifetime of a certificate: one that is issued today expires in the forecast's last week."""

# Each stream holds a connection for as long as its reader takes; the other connections stay free.
_MOST_STREAMS = 5
# The beginning of an ISO week is that of PostgreSQL: Monday, 00:00.
_FORECAST = text("""
WITH known AS (
  SELECT cluster, not_after, not_after <= now() AS expired,
    CASE WHEN not_after > now() AND not_after <= now() + make_interval(days => :days)
      THEN CAST(date_trunc('week', not_after AT TIME ZONE 'UTC') AS date) END AS week
  FROM vm WHERE vanished_at IS NULL AND cluster = ANY(:clusters))
SELECT cluster, week, grouping(week) = 1 AS is_total, count(*) AS vms, count(*) FILTER (WHERE expired) AS expired,
  count(*) FILTER (WHERE not_after IS NULL) AS unknown, count(week) AS expiring
FROM known GROUP BY GROUPING SETS ((cluster, week), (cluster)) ORDER BY cluster, week
""")


class Vms:
    """The VMs of one database. Every function raises Fault `database-unavailable` when it does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._streams = 0

    async def known_cluster(self, vm_uuid: VmUuid) -> tuple[str, ...]:
        """The clusters on which the VM was seen and has not vanished, the latest first; none when it was never seen.

        A VM that has vanished everywhere has the clusters where it was.
        """
        seen = select(VM.c.cluster, IS_GONE).where(VM.c.vm_uuid == vm_uuid).order_by(*WHERE_IT_IS)
        async with self._database.transaction() as connection:
            rows = (await connection.execute(seen)).all()
        there = tuple(cluster for cluster, is_gone in rows if not is_gone)
        return there or tuple(cluster for cluster, _ in rows)

    async def before_renewal(self, vm_uuid: VmUuid, cluster: str) -> BeforeRenewal:
        """The VM's last renewal on the cluster, and the last certificate that a caller pushed."""
        known = select(VM.c.renewed_at, VM.c.awaiting_pickup_since).filter_by(vm_uuid=vm_uuid, cluster=cluster)
        pushed = select(CERTIFICATE_OBSERVATION).filter_by(
            vm_uuid=vm_uuid, cluster=cluster, source=CertificateSource.PUSHED_CERTIFICATE
        )
        async with self._database.transaction() as connection:
            row = (await connection.execute(known)).first()
            said = (await connection.execute(pushed)).mappings().first()
        return BeforeRenewal(
            renewed_at=None if row is None else row.renewed_at,
            awaiting_pickup=row is not None and row.awaiting_pickup_since is not None,
            handed_in=None if said is None else load_pushed(dict(said)).certificate,
        )

    async def list(
        self, wanted: VmFilter, sort: VmSort, *, limit: int, after: VmPlace | None = None
    ) -> tuple[KnownVm, ...]:
        """At most `limit` VMs in order, from behind `after`."""
        async with self._database.transaction() as connection:
            rows = (await connection.execute(find_vms(wanted, sort, after=after).limit(limit))).mappings()
            return tuple(_known_vm(row) for row in rows)

    async def stream(self, wanted: VmFilter, sort: VmSort) -> AsyncGenerator[tuple[KnownVm, ...]]:
        """All VMs in order, some hundred at a time, as they were at one moment; at least one, perhaps empty, part.

        The stream holds a connection until it is closed. Raises Fault `database-unavailable` when too many are open.
        """
        if self._streams >= _MOST_STREAMS:
            message = f"{_MOST_STREAMS} lists of VMs are being read from the database already."
            raise Fault(FaultCode.DATABASE_UNAVAILABLE, message)
        self._streams += 1
        try:
            async with self._database.transaction() as connection:
                found = find_vms(wanted, sort).execution_options(yield_per=ROWS_AT_ONCE)
                rows = await connection.stream(found)
                try:
                    # Not `async with`, which forgets the cursor when this generator is closed before its end.
                    any_found = False
                    async for part in rows.mappings().partitions():
                        any_found = True
                        yield tuple(_known_vm(row) for row in part)
                    if not any_found:
                        yield ()
                finally:
                    await rows.close()
        finally:
            self._streams -= 1

    async def find(self, vm_uuid: VmUuid, clusters: Collection[str]) -> KnownVm | None:
        """The VM on that one of the clusters where it has not vanished and was seen last."""
        async with self._database.transaction() as connection:
            return await _find(connection, vm_uuid, clusters)

    async def find_ngt(self, vm_uuid: VmUuid, clusters: Collection[str]) -> KnownNgt | None:
        """The same, with the observations of its certificate and the status of its last job."""
        async with self._database.transaction() as connection:
            vm = await _find(connection, vm_uuid, clusters)
            if vm is None:
                return None
            of_vm = CERTIFICATE_OBSERVATION.c.vm_uuid == vm.vm_uuid, CERTIFICATE_OBSERVATION.c.cluster == vm.cluster
            rows = (await connection.execute(select(CERTIFICATE_OBSERVATION).where(*of_vm))).mappings()
            sources = ((CertificateSource(row["source"]), row) for row in rows)
            observed = {source: record_of(Observation, row, source=source) for source, row in sources}
            job = select(JOB.c.status, JOB.c.outcome).where(JOB.c.id == vm.last_job_id)
            last = (await connection.execute(job)).first()
            return KnownNgt(
                vm,
                tuple(observed[source] for source in CertificateSource if source in observed),
                last_job_status=None if last is None else last.status,
                last_job_outcome=None if last is None else last.outcome,
            )

    async def forecast(self, clusters: Collection[str]) -> ForecastRecord:
        """When the certificates of these clusters expire, week by week for `FORECAST_DAYS` days."""
        values = {"clusters": list(clusters), "days": FORECAST_DAYS}
        async with self._database.transaction() as connection:
            rows = (await connection.execute(_FORECAST, values)).mappings().all()
        weeks = tuple(_week(row) for row in rows if not row["is_total"] and row["week"] is not None)
        totals = {row["cluster"]: _totals(row) for row in rows if row["is_total"]}
        return ForecastRecord(
            weeks, tuple(totals.get(name) or ClusterTotals(name, 0, 0, 0, 0) for name in sorted(clusters))
        )


async def _find(connection: AsyncConnection, vm_uuid: VmUuid, clusters: Collection[str]) -> KnownVm | None:
    wanted = VmFilter(clusters=tuple(clusters), vm_uuid=vm_uuid, vanished=None)
    found = find_vms(wanted, VmSort.NOT_AFTER).order_by(None).order_by(*WHERE_IT_IS).limit(1)
    row = (await connection.execute(found)).mappings().first()
    return None if row is None else _known_vm(row)


def _known_vm(row: RowMapping) -> KnownVm:
    return KnownVm(**row)


def _week(row: RowMapping) -> ExpiringWeek:
    return ExpiringWeek(row["cluster"], row["week"], row["vms"])


def _totals(row: RowMapping) -> ClusterTotals:
    return ClusterTotals(row["cluster"], row["vms"], row["expired"], row["unknown"], row["expiring"])

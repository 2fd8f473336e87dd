"""The counts for monitoring: VMs, certificates, scans and API keys, read in one transaction.

A vanished VM counts nowhere, and neither does one of a cluster that is not configured: nobody would renew it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.store.postgres.chunks import ROWS_AT_ONCE
from app.store.postgres.database import Database

BUCKETS = ("expired", "lt7d", "lt30d", "lt90d", "ok", "unknown")
"""Each VM is in one of them: `lt30d` has 7 days left or more, and less than 30; `unknown` has no date."""


# A computed date was not observed. The last success is that of a vanished VM too.
_CLUSTERS = text("""
SELECT c.name, c.scanned_at, c.scan_fault_at, c.paused_at, c.auto_stopped_at, v.*
FROM cluster c CROSS JOIN LATERAL (
  SELECT max(renewed_at) AS last_renewed_at, count(*) FILTER (WHERE here) AS vms,
    min(not_after) FILTER (WHERE here) AS earliest_not_after,
    min(certificate_observed_at) FILTER (WHERE here AND certificate_source <> 'computed') AS oldest_observed_at,
    min(awaiting_pickup_since) FILTER (WHERE here) AS oldest_awaiting_pickup_at,
    count(*) FILTER (WHERE here AND not_after <= now()) AS expired,
    count(*) FILTER (WHERE here AND not_after > now() AND days_left < 7) AS lt7d,
    count(*) FILTER (WHERE here AND days_left >= 7 AND days_left < 30) AS lt30d,
    count(*) FILTER (WHERE here AND days_left >= 30 AND days_left < 90) AS lt90d,
    count(*) FILTER (WHERE here AND days_left >= 90) AS ok,
    count(*) FILTER (WHERE here AND not_after IS NULL) AS unknown
  FROM (
    SELECT *, vanished_at IS NULL AS here, extract(epoch FROM not_after - now()) / 86400 AS days_left
    FROM vm WHERE vm.cluster = c.name
  ) AS known
) AS v
WHERE c.name = ANY(:clusters) ORDER BY c.name
""")
# Unix seconds: tens of thousands of times that nobody looks at as such.
_VMS = text("""
SELECT cluster, vm_uuid, coalesce(name, ''), CAST(extract(epoch FROM not_before) AS float8),
  CAST(extract(epoch FROM not_after) AS float8),
  CASE WHEN certificate_source <> 'computed' THEN CAST(extract(epoch FROM certificate_observed_at) AS float8) END,
  CAST(CAST(link_active AS int) AS float8)
FROM vm WHERE vanished_at IS NULL AND cluster = ANY(:clusters)
""")
_KEYS = text("SELECT id, expires_at FROM api_key WHERE revoked_at IS NULL AND expires_at > now() ORDER BY id")


@dataclass(frozen=True, slots=True)
class ClusterCounts:
    """One configured cluster. `certificates` has a number for each of `BUCKETS`; a time is None where there is none."""

    cluster: str
    scanned_at: datetime | None
    scan_failed_at: datetime | None
    paused: bool
    auto_renew_stopped: bool
    last_renewed_at: datetime | None
    vms: int
    earliest_not_after: datetime | None
    oldest_observed_at: datetime | None
    oldest_awaiting_pickup_at: datetime | None
    certificates: dict[str, int]


class VmTimes(NamedTuple):
    """One VM; times are Unix seconds, `link_active` is 0 or 1, and what is not known is None."""

    cluster: str
    vm_uuid: str
    vm_name: str
    not_before_s: float | None
    not_after_s: float | None
    observed_s: float | None
    link_active: float | None


@dataclass(frozen=True, slots=True)
class Counted:
    """All of it at one moment. `vms` is empty where it was not asked for."""

    clusters: tuple[ClusterCounts, ...]
    vms: Sequence[VmTimes]
    keys_expire_at: dict[str, datetime]


class CertificateCounts:
    """The counts of one database. Raises Fault `database-unavailable` when it does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, clusters: Collection[str], *, per_vm: bool) -> Counted:
        """The counts of these clusters; with `per_vm` each VM too, read some hundred rows at a time."""
        names = {"clusters": sorted(clusters)}
        async with self._database.transaction() as connection:
            counted = tuple(_cluster_counts(row) for row in (await connection.execute(_CLUSTERS, names)).mappings())
            vms = await _read_vms(connection, names) if per_vm else []
            keys = {key.id: key.expires_at for key in await connection.execute(_KEYS)}
            return Counted(counted, vms, keys)


async def _read_vms(connection: AsyncConnection, names: dict[str, list[str]]) -> list[VmTimes]:
    vms: list[VmTimes] = []
    async with connection.stream(_VMS, names) as rows:
        async for part in rows.partitions(ROWS_AT_ONCE):
            vms += map(VmTimes._make, part)
    return vms


def _cluster_counts(row: RowMapping) -> ClusterCounts:
    return ClusterCounts(
        cluster=row["name"],
        scanned_at=row["scanned_at"],
        scan_failed_at=row["scan_fault_at"],
        paused=row["paused_at"] is not None,
        auto_renew_stopped=row["auto_stopped_at"] is not None,
        last_renewed_at=row["last_renewed_at"],
        vms=row["vms"],
        earliest_not_after=row["earliest_not_after"],
        oldest_observed_at=row["oldest_observed_at"],
        oldest_awaiting_pickup_at=row["oldest_awaiting_pickup_at"],
        certificates={bucket: row[bucket] for bucket in BUCKETS},
    )

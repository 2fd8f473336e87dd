"""The results of scans: each is stored in bulk, in one transaction, and only while the runner holds the scan's lease.

An earlier result never replaces a later one. Unknown values stay as they were, and vanished VMs are marked.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.ngt.errors import Fault
from app.ngt.vocabulary import VmUuid
from app.store.observations import store_observations
from app.store.postgres.chunks import chunks
from app.store.postgres.database import Database
from app.store.records.inventory import Observation
from app.store.records.scans import ScanOutcome
from app.store.scans.claims import ScanClaim, ScanEnd, end_scan, lock_scan


@dataclass(frozen=True, slots=True)
class ScannedVm:
    """One VM as a listing and, where it was answered, the query of the tools' entities show it; None is "not said"."""

    vm_uuid: VmUuid
    name: str
    power: str | None
    addresses: tuple[str, ...]
    ngt_enabled: bool | None
    iso_mounted: bool | None
    link_active: bool | None
    vss_snapshot: bool | None
    file_level_restore: bool | None
    communication_type: str | None = None
    ngt_uuid: str | None = None
    has_entity: bool | None = None


@dataclass(frozen=True, slots=True)
class ScanResult:
    """The result of one scan at `at`, for all VMs of a cluster or for one.

    `has_entities`: the query was answered too; otherwise what was known of the tools' entities stays, as far as the
    listing says nothing newer. `absent`: the VMs that a whole listing should have had and did not (None: all others).
    """

    at: datetime
    vms: Sequence[ScannedVm]
    has_entities: bool
    absent: Collection[VmUuid] | None
    dates: Sequence[Observation] = ()


@dataclass(frozen=True, slots=True)
class Stored:
    """The numbers of new and of vanished VMs."""

    new: int
    vanished: int


@dataclass(frozen=True, slots=True)
class GuestFault:
    """The reason why the certificate of a VM's guest is unknown."""

    vm_uuid: VmUuid
    code: str
    message: str
    at: datetime


_OF_LISTING = ("name", "power", "addresses")
_OF_ENTITY = (
    "ngt_enabled",
    "iso_mounted",
    "link_active",
    "vss_snapshot",
    "file_level_restore",
    "communication_type",
    "ngt_uuid",
    "has_entity",
)
_FIELDS = (*_OF_LISTING, *_OF_ENTITY)
_STORE = text(f"""
WITH stored AS (
  INSERT INTO vm AS v (vm_uuid, cluster, {", ".join(_FIELDS)}, first_seen_at, last_seen_at)
  SELECT vm_uuid, :cluster, {", ".join(_FIELDS)}, :at, :at
  FROM jsonb_to_recordset(CAST(:seen AS jsonb)) AS seen(
    vm_uuid text, name text, power text, addresses text[], ngt_enabled boolean, iso_mounted boolean,
    link_active boolean, vss_snapshot boolean, file_level_restore boolean, communication_type text, ngt_uuid text,
    has_entity boolean)
  ON CONFLICT (vm_uuid, cluster) DO UPDATE SET
    {", ".join(f"{name} = excluded.{name}" for name in _OF_LISTING)},
    {", ".join(f"{n} = CASE WHEN :whole THEN excluded.{n} ELSE coalesce(excluded.{n}, v.{n}) END" for n in _OF_ENTITY)},
    first_seen_at = coalesce(v.first_seen_at, excluded.first_seen_at), last_seen_at = excluded.last_seen_at,
    vanished_at = NULL
  WHERE v.last_seen_at IS NULL OR v.last_seen_at <= excluded.last_seen_at
  RETURNING first_seen_at)
SELECT count(*) FILTER (WHERE first_seen_at = :at) FROM stored
""")  # noqa: S608 - constants of this module
# A VM that a renewal knows was perhaps made after the listing; what was heard of it later than that counts.
_VANISH = text("""
UPDATE vm SET vanished_at = :at
WHERE cluster = :cluster AND vanished_at IS NULL AND (:all_others OR vm_uuid = ANY(:absent))
  AND coalesce(greatest(last_seen_at, observed_at, awaiting_pickup_since, renewed_at), '-infinity') < :at
""")
_KNOWN_ENTITIES = text("""
SELECT vm_uuid, ngt_uuid FROM vm WHERE cluster = :cluster AND ngt_uuid IS NOT NULL AND vanished_at IS NULL
""")
_GUESTS_READ = text("""
UPDATE vm SET guest_fault_code = NULL, guest_fault = NULL, guest_fault_at = NULL
WHERE cluster = :cluster AND vm_uuid = ANY(:vms) AND guest_fault_code IS NOT NULL
""")
_GUESTS_FAILED = text("""
UPDATE vm SET guest_fault_code = f.code, guest_fault = f.message, guest_fault_at = f.at
FROM jsonb_to_recordset(CAST(:faults AS jsonb)) AS f(vm_uuid text, code text, message text, at timestamptz)
WHERE vm.cluster = :cluster AND vm.vm_uuid = f.vm_uuid
""")
# Writers lock the rows in one order, so that two writers do not deadlock.
_LOCK_ALL = text("SELECT FROM vm WHERE cluster = :cluster ORDER BY vm_uuid FOR NO KEY UPDATE")
_LOCK_SOME = text("""
SELECT FROM vm WHERE cluster = :cluster AND vm_uuid = ANY(:vms) ORDER BY vm_uuid FOR NO KEY UPDATE
""")
_IS_KNOWN = text("SELECT EXISTS (SELECT FROM vm WHERE cluster = :cluster AND vanished_at IS NULL)")
_WHOLE = text("""
UPDATE cluster SET scanned_at = :at, scan_fault_code = NULL, scan_fault = NULL, scan_fault_at = NULL
WHERE name = :cluster AND (scanned_at IS NULL OR scanned_at <= :at)
""")
_NOT_WHOLE = text("""
UPDATE cluster SET scan_fault_code = :code, scan_fault = :message, scan_fault_at = clock_timestamp()
WHERE name = :cluster
""")


class Inventory:
    """The VMs of one database, for those who scan. Every write raises FenceLost where the scan was taken over."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def has_vms(self, cluster: str) -> bool:
        """True if the last scan found any VM on the cluster."""
        async with self._database.transaction() as connection:
            return bool(await connection.scalar(_IS_KNOWN, {"cluster": cluster}))

    async def known_entities(self, cluster: str) -> dict[VmUuid, str]:
        """The id of the tools' entity of each VM that had one when the query was last answered."""
        async with self._database.transaction() as connection:
            rows = (await connection.execute(_KNOWN_ENTITIES, {"cluster": cluster})).all()
            return {VmUuid(vm_uuid): ngt_uuid for vm_uuid, ngt_uuid in rows}

    async def store(self, claim: ScanClaim, seen: ScanResult) -> Stored:
        """Stores all of the result or nothing."""
        async with self._database.transaction() as connection:
            await lock_scan(connection, claim)
            if seen.absent is None:
                await connection.execute(_LOCK_ALL, {"cluster": claim.cluster})
            new = 0
            for part in chunks(seen.vms):
                new += await _store_some(connection, claim.cluster, seen, part)
            vanished = await connection.execute(
                _VANISH,
                {
                    "cluster": claim.cluster,
                    "at": seen.at,
                    "all_others": seen.absent is None,
                    "absent": list(seen.absent or ()),
                },
            )
            await store_observations(connection, claim.cluster, seen.dates)
        return Stored(new, vanished.rowcount)

    async def store_guests(self, claim: ScanClaim, read: Sequence[Observation], failed: Sequence[GuestFault]) -> None:
        """Stores the certificates that guests returned, and the faults of the others."""
        read_vms = [one.vm_uuid for one in read]
        every_vm = [*read_vms, *(fault.vm_uuid for fault in failed)]
        values: Mapping[str, object] = {
            "cluster": claim.cluster,
            "vms": read_vms,
            "faults": json.dumps([asdict(fault) for fault in failed], default=datetime.isoformat),
        }
        async with self._database.transaction() as connection:
            await lock_scan(connection, claim)
            await connection.execute(_LOCK_SOME, {"cluster": claim.cluster, "vms": every_vm})
            await store_observations(connection, claim.cluster, read)
            await connection.execute(_GUESTS_READ, values)
            await connection.execute(_GUESTS_FAILED, values)

    async def finish(self, claim: ScanClaim, end: ScanEnd, looked_at: datetime | None = None) -> None:
        """Ends the scan; for a whole cluster it stores the time of the scan, or the reason why it was incomplete."""
        async with self._database.transaction() as connection:
            await end_scan(connection, claim, end)
            if claim.vm_uuid is not None:
                return
            if end.outcome is ScanOutcome.COMPLETE:
                await connection.execute(_WHOLE, {"cluster": claim.cluster, "at": looked_at})
            else:
                await connection.execute(_NOT_WHOLE, {"cluster": claim.cluster, **_of(end.fault)})


async def _store_some(connection: AsyncConnection, cluster: str, seen: ScanResult, vms: Sequence[ScannedVm]) -> int:
    rows = json.dumps([{name: getattr(vm, name) for name in ScannedVm.__slots__} for vm in vms])
    values = {"cluster": cluster, "at": seen.at, "seen": rows, "whole": seen.has_entities}
    return int(await connection.scalar(_STORE, values) or 0)


def _of(fault: Fault | None) -> dict[str, str | None]:
    return {"code": None, "message": None} if fault is None else {"code": fault.code, "message": fault.message}

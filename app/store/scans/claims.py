"""Scans for workers: claim, renew the lease, release, end. As with jobs every write is fenced.

A scan only reads, so a worker that claims the scan of a dead one repeats all of it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.ngt.errors import Fault
from app.ngt.vocabulary import VmUuid
from app.store.postgres.database import Database
from app.store.postgres.queue import WakeUps
from app.store.records.claims import FenceLost
from app.store.records.scans import ScanCounts, ScanOutcome, ScanStatus
from app.store.scans.start import SCAN_CHANNEL

_CHANGED = "version = version + 1, updated_at = clock_timestamp()"
_NOTIFY = f"pg_notify('{SCAN_CHANNEL}', CAST(id AS text))"
_MINE = "id = :id AND fence = :fence AND NOT done"
_CLAIM = text(f"""
UPDATE scan SET status = 'running', message = 'looks at the cluster', fence = fence + 1, runner = :runner,
  lease_until = clock_timestamp() + make_interval(secs => :lease_s),
  started_at = coalesce(started_at, clock_timestamp()), {_CHANGED}
WHERE id = :id AND NOT done AND due_at <= clock_timestamp()
  AND (lease_until IS NULL OR lease_until < clock_timestamp())
RETURNING cluster, vm_uuid, fence, clock_timestamp(), {_NOTIFY}
""")  # noqa: S608 - constants of this module
_LOCK = text(f"SELECT id FROM scan WHERE {_MINE} FOR UPDATE")  # noqa: S608 - as above
_SHOW_PROGRESS = text(f"UPDATE scan SET message = :message, {_CHANGED} WHERE {_MINE} RETURNING {_NOTIFY}")  # noqa: S608 - as above
_RELEASE = text(f"""
UPDATE scan SET status = 'queued', message = :message, runner = NULL, lease_until = NULL,
  due_at = clock_timestamp(), {_CHANGED}
WHERE {_MINE} RETURNING {_NOTIFY}
""")  # noqa: S608 - as above
_COUNTS = tuple(asdict(ScanCounts()))
_END = text(f"""
UPDATE scan SET done = true, status = :status, outcome = :outcome, message = :message, error_code = :error_code,
  error_message = :error_message, {", ".join(f"{name} = :{name}" for name in _COUNTS)},
  due_at = NULL, lease_until = NULL, finished_at = clock_timestamp(), {_CHANGED}
WHERE {_MINE} RETURNING {_NOTIFY}
""")  # noqa: S608 - as above
_RENEW_LEASES = text("""
UPDATE scan SET lease_until = clock_timestamp() + make_interval(secs => :lease_s)
WHERE id = ANY(:ids) AND runner = :runner AND NOT done AND lease_until IS NOT NULL
""")
_DUE = text("""
SELECT id, vm_uuid IS NULL FROM scan WHERE NOT done AND due_at <= clock_timestamp()
  AND (lease_until IS NULL OR lease_until < clock_timestamp())
  -- A scan that is in the queue already is not queued twice.
  AND NOT EXISTS (SELECT FROM procrastinate_jobs q WHERE q.status = 'todo' AND q.args->>'scan_id' = scan.id::text)
ORDER BY created_at LIMIT 500
""")


@dataclass(frozen=True, slots=True)
class ScanClaim:
    """A scan that is this runner's until another one claims it. `now` is the database's clock.

    `fence` counts the claims of the scan. `vm_uuid` None: all VMs of the cluster.
    """

    scan_id: UUID
    cluster: str
    vm_uuid: VmUuid | None
    fence: int
    now: datetime


@dataclass(frozen=True, slots=True)
class ScanEnd:
    """The end of a scan. `fault` is the reason why it saw nothing, or (outcome `partial`) only a part."""

    outcome: ScanOutcome
    message: str
    counts: ScanCounts = field(default_factory=ScanCounts)
    fault: Fault | None = None


class ScanClaims:
    """The claims of one worker process on scans. `runner` names the process and must be unique."""

    def __init__(self, database: Database, wakeups: WakeUps, *, runner: str, lease_s: float) -> None:
        self._database = database
        self._wakeups = wakeups
        self._runner = runner
        self._lease_s = lease_s
        # The fence of each scan that runs here: only these leases are renewed.
        self._fences: dict[UUID, int] = {}

    async def claim(self, scan_id: UUID) -> ScanClaim | None:
        """The scan, if it is due and has no live lease, else None, which is harmless.

        From now on `renew_leases` renews its lease, until `stop_heartbeat`.
        """
        values = {"id": scan_id, "runner": self._runner, "lease_s": self._lease_s}
        async with self._database.transaction() as connection:
            row = (await connection.execute(_CLAIM, values)).one_or_none()
        if row is None:
            return None
        cluster, vm_uuid, fence, now, _ = row
        self._fences[scan_id] = fence
        return ScanClaim(scan_id, cluster, None if vm_uuid is None else VmUuid(vm_uuid), fence, now)

    def stop_heartbeat(self, claim: ScanClaim) -> None:
        """The scan does not run here any more; if it was not released, its lease expires."""
        if self._fences.get(claim.scan_id) == claim.fence:
            del self._fences[claim.scan_id]

    async def show_progress(self, claim: ScanClaim, message: str) -> None:
        """Raises FenceLost."""
        async with self._database.transaction() as connection:
            await _execute(connection, _SHOW_PROGRESS, claim, {"message": message})

    async def release(self, claim: ScanClaim, message: str) -> None:
        """The scan waits for another worker. Raises FenceLost."""
        async with self._database.transaction() as connection:
            await _execute(connection, _RELEASE, claim, {"message": message})
            await self._wakeups.wake_for_scan(connection, claim.scan_id, whole_cluster=claim.vm_uuid is None)

    async def renew_leases(self) -> None:
        """Renews the lease of every scan that runs here; to be called well within the lease."""
        if self._fences:
            values = {"ids": list(self._fences), "runner": self._runner, "lease_s": self._lease_s}
            async with self._database.transaction() as connection:
                await connection.execute(_RENEW_LEASES, values)

    async def sweep(self) -> int:
        """Wakes every due open scan that has no live lease."""
        async with self._database.transaction() as connection:
            due = (await connection.execute(_DUE)).all()
            for scan_id, whole_cluster in due:
                await self._wakeups.wake_for_scan(connection, scan_id, whole_cluster=whole_cluster)
        return len(due)


async def lock_scan(connection: AsyncConnection, claim: ScanClaim) -> None:
    """Locks the scan against other claims and its end until the transaction ends. Raises FenceLost."""
    await _execute(connection, _LOCK, claim, {})


async def end_scan(connection: AsyncConnection, claim: ScanClaim, end: ScanEnd) -> None:
    """Raises FenceLost."""
    failed = end.outcome is ScanOutcome.FAILED
    values = {
        "status": ScanStatus.FAILED if failed else ScanStatus.SUCCEEDED,
        "outcome": end.outcome,
        "message": end.message,
        "error_code": None if end.fault is None else end.fault.code,
        "error_message": None if end.fault is None else end.fault.message,
        **asdict(end.counts),
    }
    await _execute(connection, _END, claim, values)


async def _execute(
    connection: AsyncConnection, change: TextClause, claim: ScanClaim, values: Mapping[str, object]
) -> None:
    done = await connection.execute(change, {"id": claim.scan_id, "fence": claim.fence, **values})
    if done.first() is None:
        raise FenceLost

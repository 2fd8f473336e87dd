"""Scans for those who run them: claim, keep the lease, put back, end. As with jobs every write is fenced.

A scan only looks, so whoever takes one over from a runner that died does all of it again.
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
_ANNOUNCED = f"pg_notify('{SCAN_CHANNEL}', CAST(id AS text))"
_MINE = "id = :id AND fence = :fence AND NOT done"
_CLAIM = text(f"""
UPDATE scan SET status = 'running', message = 'looks at the cluster', fence = fence + 1, runner = :runner,
  lease_until = clock_timestamp() + make_interval(secs => :lease_s),
  started_at = coalesce(started_at, clock_timestamp()), {_CHANGED}
WHERE id = :id AND NOT done AND due_at <= clock_timestamp()
  AND (lease_until IS NULL OR lease_until < clock_timestamp())
RETURNING cluster, vm_uuid, fence, clock_timestamp(), {_ANNOUNCED}
""")  # noqa: S608 - constants of this module
_LOCK = text(f"SELECT clock_timestamp() FROM scan WHERE {_MINE} FOR UPDATE")  # noqa: S608 - as above
_SAY = text(f"UPDATE scan SET message = :message, {_CHANGED} WHERE {_MINE} RETURNING {_ANNOUNCED}")  # noqa: S608 - as above
_PUT_BACK = text(f"""
UPDATE scan SET status = 'queued', message = :message, runner = NULL, lease_until = NULL,
  due_at = clock_timestamp(), {_CHANGED}
WHERE {_MINE} RETURNING {_ANNOUNCED}
""")  # noqa: S608 - as above
_COUNTS = tuple(asdict(ScanCounts()))
_END = text(f"""
UPDATE scan SET done = true, status = :status, outcome = :outcome, message = :message, error_code = :error_code,
  error_message = :error_message, {", ".join(f"{name} = :{name}" for name in _COUNTS)},
  due_at = NULL, lease_until = NULL, finished_at = clock_timestamp(), {_CHANGED}
WHERE {_MINE} RETURNING {_ANNOUNCED}
""")  # noqa: S608 - as above
_KEEP = text("""
UPDATE scan SET lease_until = clock_timestamp() + make_interval(secs => :lease_s)
WHERE id = ANY(:ids) AND runner = :runner AND NOT done AND lease_until IS NOT NULL
""")
_DUE = text("""
SELECT id, vm_uuid IS NULL FROM scan WHERE NOT done AND due_at <= clock_timestamp()
  AND (lease_until IS NULL OR lease_until < clock_timestamp())
  -- Where workers are busy a wake-up waits its turn; a second one would only lengthen the queue.
  AND NOT EXISTS (SELECT FROM procrastinate_jobs q WHERE q.status = 'todo' AND q.args->>'scan_id' = scan.id::text)
ORDER BY created_at LIMIT 500
""")


@dataclass(frozen=True, slots=True)
class ScanClaim:
    """A scan that is this runner's until its fence is passed. `now`: the database's clock.

    `fence` also says how many times the scan was begun. `vm_uuid` None: all VMs of the cluster.
    """

    scan_id: UUID
    cluster: str
    vm_uuid: VmUuid | None
    fence: int
    now: datetime


@dataclass(frozen=True, slots=True)
class ScanEnd:
    """How a scan ends. `fault`: why it saw nothing, or (outcome `partial`) not all that it should."""

    outcome: ScanOutcome
    message: str
    counts: ScanCounts = field(default_factory=ScanCounts)
    fault: Fault | None = None


class ScanClaims:
    """What one worker process may do with scans. `runner` names the process and must be its own."""

    def __init__(self, database: Database, wakeups: WakeUps, *, runner: str, lease_s: float) -> None:
        self._database = database
        self._wakeups = wakeups
        self._runner = runner
        self._lease_s = lease_s
        # Only what is really at work here has its lease kept.
        self._at_work: dict[UUID, int] = {}

    async def claim(self, scan_id: UUID) -> ScanClaim | None:
        """The scan if it is due and nobody has it, else None, which is harmless. Its lease is kept until `let_go`."""
        values = {"id": scan_id, "runner": self._runner, "lease_s": self._lease_s}
        async with self._database.transaction() as connection:
            row = (await connection.execute(_CLAIM, values)).one_or_none()
        if row is None:
            return None
        cluster, vm_uuid, fence, now, _ = row
        self._at_work[scan_id] = fence
        return ScanClaim(scan_id, cluster, None if vm_uuid is None else VmUuid(vm_uuid), fence, now)

    def let_go(self, claim: ScanClaim) -> None:
        """Nobody here is at work on the scan any more; if it was not put back, its lease runs out by itself."""
        if self._at_work.get(claim.scan_id) == claim.fence:
            del self._at_work[claim.scan_id]

    async def say(self, claim: ScanClaim, message: str) -> None:
        """Show how far the scan is. Raises FenceLost."""
        async with self._database.transaction() as connection:
            await _execute(connection, _SAY, claim, {"message": message})

    async def put_back(self, claim: ScanClaim, message: str) -> None:
        """Leave the scan to whoever is woken next. Raises FenceLost."""
        async with self._database.transaction() as connection:
            await _execute(connection, _PUT_BACK, claim, {"message": message})
            await self._wakeups.wake_for_scan(connection, claim.scan_id, whole_cluster=claim.vm_uuid is None)

    async def finish(self, claim: ScanClaim, end: ScanEnd) -> None:
        """The scan ends. Raises FenceLost."""
        async with self._database.transaction() as connection:
            await end_scan(connection, claim, end)

    async def renew_leases(self) -> None:
        """Keeps every scan that is at work here; called often enough within the lease."""
        if self._at_work:
            values = {"ids": list(self._at_work), "runner": self._runner, "lease_s": self._lease_s}
            async with self._database.transaction() as connection:
                await connection.execute(_KEEP, values)

    async def wake_due(self) -> int:
        """The sweep: wakes every open scan that has no live lease."""
        async with self._database.transaction() as connection:
            due = (await connection.execute(_DUE)).all()
            for scan_id, whole_cluster in due:
                await self._wakeups.wake_for_scan(connection, scan_id, whole_cluster=whole_cluster)
        return len(due)


async def lock_scan(connection: AsyncConnection, claim: ScanClaim) -> datetime:
    """From here to the end of the transaction nobody else ends or takes the scan; the database's clock.

    Raises FenceLost where somebody did.
    """
    now = await connection.scalar(_LOCK, {"id": claim.scan_id, "fence": claim.fence})
    if now is None:
        raise FenceLost
    assert isinstance(now, datetime)
    return now


async def end_scan(connection: AsyncConnection, claim: ScanClaim, end: ScanEnd) -> None:
    """Ends the scan in a transaction with what it saw. Raises FenceLost."""
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

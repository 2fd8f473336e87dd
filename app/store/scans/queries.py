"""What callers do with scans: start or join one, find it, and wait for its end. Workers have `app.store.scans.claims`.

A request never looks at a cluster itself: it stores a scan, which a worker runs, and may wait until that is done.
"""

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select, tuple_

from app.ngt.errors import Fault, FaultCode
from app.ngt.vocabulary import VmUuid
from app.store.change_feed import ChangeFeed, Subscription
from app.store.postgres.database import Database
from app.store.postgres.pages import PageCursor
from app.store.postgres.queue import WakeUps
from app.store.postgres.tables import SCAN
from app.store.records.callers import Caller
from app.store.records.scans import ScanOrigin, ScanRecord, StartedScan
from app.store.scans.start import SCAN_CHANNEL, newest_ended, scan_record, start_scan


@dataclass(frozen=True, slots=True)
class ScanFilter:
    """Which scans are wanted; None means any. With `caller` only those of the clusters that the caller may use."""

    cluster: str | None = None
    done: bool | None = None
    caller: Caller | None = None


class Scans:
    """The scans of one database. Every function raises Fault `database-unavailable` when it does not answer.

    `changes` is not open yet: scans are waited for over the same connection as jobs.
    """

    def __init__(self, database: Database, wakeups: WakeUps, changes: ChangeFeed) -> None:
        self._database = database
        self._wakeups = wakeups
        self._watches = changes.of(SCAN_CHANNEL, self._read)

    async def start(
        self, cluster: str, *, vm_uuid: VmUuid | None = None, origin: ScanOrigin, caller: Caller
    ) -> StartedScan:
        """A scan of the whole cluster, or of one VM on it; an open one of the same is joined, whoever started it."""
        async with self._database.transaction() as connection:
            return await start_scan(connection, self._wakeups, cluster, vm_uuid=vm_uuid, origin=origin, caller=caller)

    async def find(self, scan_id: UUID) -> ScanRecord | None:
        async with self._database.transaction() as connection:
            row = (await connection.execute(select(SCAN).where(SCAN.c.id == scan_id))).mappings().first()
            return None if row is None else scan_record(row)

    async def list(
        self, wanted: ScanFilter, *, limit: int = 50, after: PageCursor | None = None
    ) -> tuple[ScanRecord, ...]:
        """At most `limit` scans, newest first, from below `after`."""
        equal = {SCAN.c.cluster: wanted.cluster, SCAN.c.done: wanted.done}
        conditions = [column == value for column, value in equal.items() if value is not None]
        if wanted.caller is not None and wanted.caller.clusters is not None:
            conditions.append(SCAN.c.cluster.in_(sorted(wanted.caller.clusters)))
        if after is not None:
            conditions.append(tuple_(SCAN.c.created_at, SCAN.c.id) < tuple_(after.created_at, after.id))
        newest_first = select(SCAN).where(*conditions).order_by(SCAN.c.created_at.desc(), SCAN.c.id.desc())
        async with self._database.transaction() as connection:
            rows = (await connection.execute(newest_first.limit(limit))).mappings()
            return tuple(scan_record(row) for row in rows)

    async def latest(self, cluster: str, vm_uuid: VmUuid | None = None) -> ScanRecord | None:
        """The newest scan that has ended, well or not, and that covers the VM: one of its own, or of all VMs.

        Without a VM the newest one of the whole cluster.
        """
        async with self._database.transaction() as connection:
            row = (await connection.execute(newest_ended(cluster, vm_uuid))).mappings().first()
            return None if row is None else scan_record(row)

    def watch(self, scan_id: UUID) -> AbstractContextManager[Subscription[ScanRecord]]:
        """From here on no change of the scan is missed: read it now, then wait with `Subscription.until`."""
        return self._watches.watch(scan_id)

    async def wait_until_done(self, scan_id: UUID, timeout_s: float) -> ScanRecord:
        """The scan as soon as it has ended, else as it is after `timeout_s`. Raises Fault `scan-not-found`."""
        with self.watch(scan_id) as watch:
            scan = await self.find(scan_id)
            if scan is None:
                raise Fault(FaultCode.SCAN_NOT_FOUND, f"There is no scan {scan_id}.")
            return await watch.until(scan, lambda now: now.done, timeout_s)

    async def _read(self, scan_ids: Collection[UUID]) -> Sequence[ScanRecord]:
        async with self._database.transaction() as connection:
            rows = (await connection.execute(select(SCAN).where(SCAN.c.id.in_(scan_ids)))).mappings()
            return tuple(scan_record(row) for row in rows)

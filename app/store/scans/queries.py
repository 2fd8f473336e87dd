"""Scans for callers: start or join one, read it, and wait for its end. Workers use `app.store.scans.claims`.

A request stores a scan, which a worker runs, and may wait for its end; the request itself never connects to a cluster.
"""

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Select, or_, select

from app.ngt.vocabulary import VmUuid
from app.store.change_feed import ChangeFeed, Subscription
from app.store.postgres.database import Database
from app.store.postgres.pages import PageCursor, newest_first
from app.store.postgres.queue import WakeUps
from app.store.postgres.tables import SCAN
from app.store.records.callers import Caller
from app.store.records.rows import scan_record
from app.store.records.scans import ScanOrigin, ScanRecord, StartedScan
from app.store.scans.start import SCAN_CHANNEL, start_scan


@dataclass(frozen=True, slots=True)
class ScanFilter:
    """The filter of a list of scans; None means any. `caller` limits it to the clusters that the caller may use."""

    cluster: str | None = None
    caller: Caller | None = None


class Scans:
    """The scans of one database. Every method raises Fault `database-unavailable` when it does not answer.

    `changes` is not open yet: scans share its connection with jobs.
    """

    def __init__(self, database: Database, wakeups: WakeUps, changes: ChangeFeed) -> None:
        self._database = database
        self._wakeups = wakeups
        self._subscriptions = changes.add_channel(SCAN_CHANNEL, self._read)

    async def start(
        self, cluster: str, *, vm_uuid: VmUuid | None = None, origin: ScanOrigin, caller: Caller
    ) -> StartedScan:
        """A scan of the whole cluster, or of one VM on it; it joins an open one of the same, from any caller."""
        async with self._database.transaction() as connection:
            return await start_scan(connection, self._wakeups, cluster, vm_uuid=vm_uuid, origin=origin, caller=caller)

    async def find(self, scan_id: UUID) -> ScanRecord | None:
        return next(iter(await self._read([scan_id])), None)

    async def list(
        self, wanted: ScanFilter, *, limit: int = 50, after: PageCursor | None = None
    ) -> tuple[ScanRecord, ...]:
        """At most `limit` scans, newest first, from below `after`."""
        page = newest_first(SCAN, limit, after)
        if wanted.cluster is not None:
            page = page.where(SCAN.c.cluster == wanted.cluster)
        if wanted.caller is not None and wanted.caller.clusters is not None:
            page = page.where(SCAN.c.cluster.in_(sorted(wanted.caller.clusters)))
        return await self._records(page)

    async def latest(self, cluster: str, vm_uuid: VmUuid | None = None) -> ScanRecord | None:
        """As `newest_ended`."""
        return next(iter(await self._records(newest_ended(cluster, vm_uuid))), None)

    def watch(self, scan_id: UUID) -> AbstractContextManager[Subscription[ScanRecord]]:
        """As `ChangeFeed.watch`, for a scan."""
        return self._subscriptions.watch(scan_id)

    async def _read(self, scan_ids: Collection[UUID]) -> Sequence[ScanRecord]:
        return await self._records(select(SCAN).where(SCAN.c.id.in_(scan_ids)))

    async def _records(self, wanted: Select[Any]) -> tuple[ScanRecord, ...]:
        async with self._database.transaction() as connection:
            return tuple(scan_record(row) for row in (await connection.execute(wanted)).mappings())


def newest_ended(cluster: str, vm_uuid: VmUuid | None) -> Select[Any]:
    """The newest scan that has ended, succeeded or not, and covers the VM: its own, or one of the whole cluster.

    Without a VM the newest one of the whole cluster.
    """
    of_all = SCAN.c.vm_uuid.is_(None)
    covers = of_all if vm_uuid is None else or_(of_all, SCAN.c.vm_uuid == vm_uuid)
    ended = select(SCAN).where(SCAN.c.cluster == cluster, SCAN.c.done, covers)
    return ended.order_by(SCAN.c.finished_at.desc(), SCAN.c.id.desc()).limit(1)

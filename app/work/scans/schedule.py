"""The schedule of the configuration, with an offset of its own for each cluster."""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import structlog
from croniter import croniter

from app.settings import ScanSettings
from app.store.postgres.database import Database, read_clock
from app.store.postgres.queue import WakeUps
from app.store.scans.schedule import ScanTurns, ScheduledScan

log = structlog.get_logger(__name__)


def scheduled_at(now: datetime, clusters: Iterable[str], scan: ScanSettings) -> list[ScheduledScan]:
    """The last two scheduled scans of each cluster. `scan.schedule` is not off."""
    return [_scheduled(now, cluster, scan) for cluster in clusters]


def offset_of(cluster: str, jitter_s: float) -> timedelta:
    """The offset of a cluster's scan from the schedule: from 0 to `jitter_s`, the same on every replica."""
    number = int.from_bytes(hashlib.sha256(cluster.encode()).digest()[:4], "big")
    return timedelta(seconds=int(jitter_s * number / 2**32))


def _scheduled(now: datetime, cluster: str, scan: ScanSettings) -> ScheduledScan:
    offset = offset_of(cluster, scan.jitter_s)
    # The scheduled time itself counts as past.
    shown = (now - offset + timedelta(seconds=1)).astimezone(ZoneInfo(scan.time_zone))
    moments = croniter(scan.schedule, shown)
    last, before = (moments.get_prev(datetime).astimezone(UTC) + offset for _ in range(2))
    return ScheduledScan(cluster, last, before)


class ScanSchedule:
    """Starts the scans that are due, once a minute, on the replica that takes the wake-up."""

    def __init__(self, database: Database, wakeups: WakeUps, clusters: Iterable[str], scan: ScanSettings) -> None:
        self._database = database
        self._schedule = ScanTurns(database, wakeups)
        self._clusters = tuple(clusters)
        self._scan = scan

    async def start_due(self) -> None:
        now = await read_clock(self._database)
        started = await self._schedule.start_due(scheduled_at(now, self._clusters, self._scan), now)
        if started:
            log.info("scans were started by the schedule", clusters=started)

"""When clusters are scanned by themselves: at their turn, soon where turns were missed, never twice for one turn."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
import pytest_asyncio
from sqlalchemy import func

from app.settings import ScanSettings
from app.simulator.spec import uniform_site
from app.store.change_feed import ChangeFeed
from app.store.clusters.pause import Clusters
from app.store.jobs.commands import Jobs
from app.store.postgres.database import Database
from app.store.postgres.queue import WakeUps, queue_app
from app.store.postgres.tables import CLUSTER, SCAN
from app.store.records.callers import THIS_SERVICE
from app.store.records.scans import ScanOrigin
from app.store.scans.queries import ScanFilter, Scans
from app.store.scans.schedule import TRY_AGAIN, ScanTurns
from app.work.scans.schedule import offset_of, scheduled_at
from tests.limits import LIMIT_S
from tests.work.conftest import Begin

NIGHTLY = ScanSettings(jitter_s=0)
TWO = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)
DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)


class Night:
    """The schedule of cluster c1 on a database, at times that the test names."""

    def __init__(self, database: Database, wakeups: WakeUps) -> None:
        self._database = database
        self._turns = ScanTurns(database, wakeups)

    async def starts(self, now: datetime, scan: ScanSettings = NIGHTLY) -> bool:
        """Whether a scan is started at that time; it is then as old as that."""
        started = await self._turns.start_due(scheduled_at(now, ["c1"], scan), now)
        if started:
            async with self._database.transaction() as connection:
                await connection.execute(SCAN.update().where(~SCAN.c.done).values(created_at=now))
        return started == ("c1",)

    async def ends(self, scanned_at: datetime | None) -> None:
        """Every open scan has ended; whole ones at that time."""
        async with self._database.transaction() as connection:
            await connection.execute(SCAN.update().values(done=True, due_at=None, finished_at=func.now()))
            if scanned_at is not None:
                await connection.execute(CLUSTER.update().values(scanned_at=scanned_at))


@pytest_asyncio.fixture
async def night(database: Database, database_url: str) -> AsyncIterator[Night]:
    await Clusters(database).ensure(["c1"])
    yield Night(database, WakeUps(queue_app(database_url)))


# Turns.


@pytest.mark.parametrize(
    ("now", "last"),
    [
        (TWO, TWO),
        (TWO - timedelta(seconds=1), TWO - DAY),
        (TWO + 23 * timedelta(hours=1), TWO),
    ],
)
def test_a_turn_is_the_last_moment_of_the_schedule(now: datetime, last: datetime) -> None:
    (turn,) = scheduled_at(now, ["c1"], NIGHTLY)
    assert (turn.last, turn.before) == (last, last - DAY)


def test_the_schedule_is_in_the_time_zone_that_was_given() -> None:
    berlin = ScanSettings(jitter_s=0, time_zone="Europe/Berlin")
    for day, hour in ((datetime(2026, 1, 15, 12, tzinfo=UTC), 1), (datetime(2026, 7, 15, 12, tzinfo=UTC), 0)):
        (turn,) = scheduled_at(day, ["c1"], berlin)
        assert turn.last == day.replace(hour=hour)


def test_every_cluster_has_its_own_moment_within_the_jitter_and_always_the_same() -> None:
    names = [f"c{number}" for number in range(200)]
    offsets = [offset_of(name, 3600) for name in names]
    assert offsets == [offset_of(name, 3600) for name in names]
    assert all(timedelta(0) <= offset < timedelta(hours=1) for offset in offsets)
    quarters = [sum(offset // timedelta(minutes=15) == quarter for offset in offsets) for quarter in range(4)]
    assert min(quarters) > 25
    assert {offset_of(name, 0) for name in names} == {timedelta(0)}
    for turn, offset in zip(scheduled_at(TWO + 12 * timedelta(hours=1), names, ScanSettings()), offsets, strict=True):
        assert turn.last == TWO + offset


# What is started.


async def test_a_cluster_is_scanned_once_a_turn(night: Night) -> None:
    await night.ends(TWO - DAY)
    assert not await night.starts(TWO - MINUTE)
    assert await night.starts(TWO)
    assert not await night.starts(TWO + MINUTE)
    await night.ends(TWO + MINUTE)
    assert not await night.starts(TWO + 2 * MINUTE)
    assert await night.starts(TWO + DAY)


async def test_a_scan_that_failed_is_not_repeated_before_the_next_turn(night: Night) -> None:
    await night.ends(TWO - DAY)
    assert await night.starts(TWO)
    await night.ends(None)
    assert not await night.starts(TWO + 10 * MINUTE)
    assert not await night.starts(TWO + DAY - MINUTE)
    assert await night.starts(TWO + DAY)


async def test_one_night_that_was_missed_is_not_made_up_for_by_day(night: Night) -> None:
    await night.ends(TWO - DAY + MINUTE)
    assert not await night.starts(TWO + timedelta(hours=7))


async def test_after_two_nights_that_were_missed_a_cluster_is_scanned_soon(night: Night) -> None:
    await night.ends(TWO - 2 * DAY + MINUTE)
    now = TWO + timedelta(hours=7)
    assert await night.starts(now)
    assert not await night.starts(now + MINUTE)


async def test_a_cluster_that_was_never_scanned_is_scanned_soon_and_tried_again_until_it_was(night: Night) -> None:
    now = TWO + timedelta(hours=9)
    assert await night.starts(now)
    await night.ends(None)
    assert not await night.starts(now + TRY_AGAIN - MINUTE)
    assert await night.starts(now + TRY_AGAIN)
    await night.ends(now + TRY_AGAIN)
    assert not await night.starts(now + 2 * TRY_AGAIN)


async def test_the_schedule_starts_scans_in_the_name_of_the_service(
    night: Night, database: Database, database_url: str
) -> None:
    assert await night.starts(TWO)
    wakeups = WakeUps(queue_app(database_url))
    scans = Scans(database, wakeups, ChangeFeed(database_url, Jobs(database, wakeups)))
    (scan,) = await scans.list(ScanFilter())
    assert (scan.origin, scan.caller, scan.vm_uuid) == (ScanOrigin.SCHEDULED, THIS_SERVICE.name, None)


# The worker.


async def test_clusters_that_were_never_scanned_are_scanned_soon_after_the_start(
    begin: Begin, database_url: str
) -> None:
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        await connection.execute("LISTEN ngt_scan")
        spec = uniform_site(vms=1, cvms=1, clusters=3)
        service = await begin(spec, guests=False, scan={"schedule": "0 2 * * *"})
        async with asyncio.timeout(LIMIT_S):
            while len(done := [scan for scan in await service.scans.list(ScanFilter()) if scan.done]) < 3:
                async for _ in connection.notifies(stop_after=1):
                    pass
    assert {(scan.origin, scan.outcome) for scan in done} == {(ScanOrigin.SCHEDULED, "complete")}


async def test_no_more_clusters_are_scanned_at_a_time_than_is_allowed(begin: Begin) -> None:
    spec = uniform_site(vms=1, cvms=1, clusters=5, latency_s={"ncli": 0.2})
    service = await begin(spec, guests=False, scan={"clusters_at_once": 2})
    scans = [await service.scan(f"c{number}") for number in range(1, 6)]
    for scan in scans:
        await service.scan_ended(scan.id)
    done = [await service.scans.find(scan.id) for scan in scans]
    times = [(scan.started_at, scan.finished_at) for scan in done if scan is not None]
    assert len(times) == 5
    for begun, _ in times:
        assert begun is not None
        assert sum(one <= begun < end for one, end in times if one is not None and end is not None) <= 2

"""Scans as rows: started once however many ask for them, run by one worker at a time, and waited for on any replica."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from sqlalchemy import func, text

from app.ngt.errors import Fault, FaultCode
from app.ngt.vocabulary import VmUuid
from app.store.change_feed import ChangeFeed
from app.store.inventory.scan_results import Inventory
from app.store.jobs.commands import Jobs
from app.store.postgres.database import Database
from app.store.postgres.pages import PageCursor
from app.store.postgres.queue import WakeUps, queue_app
from app.store.postgres.tables import SCAN
from app.store.records.claims import FenceLost
from app.store.records.scans import ScanCounts, ScanOrigin, ScanOutcome, ScanRecord, ScanStatus, StartedScan
from app.store.scans.claims import ScanClaim, ScanClaims, ScanEnd
from app.store.scans.queries import ScanFilter, Scans
from tests.limits import LIMIT_S
from tests.store.conftest import ANN, BEN, new_vm

COMPLETE = ScanEnd(ScanOutcome.COMPLETE, "3 VMs were seen", ScanCounts(vms_seen=3, vms_new=1))


@pytest_asyncio.fixture
async def changes(database_url: str, jobs: Jobs) -> ChangeFeed:
    return ChangeFeed(database_url, jobs)


@pytest_asyncio.fixture
async def scans(database: Database, wakeups: WakeUps, changes: ChangeFeed) -> AsyncIterator[Scans]:
    made = Scans(database, wakeups, changes)
    async with changes, asyncio.timeout(LIMIT_S):
        await changes.listening()
        yield made


class Runner(ScanClaims):
    """A worker that ends its scans through the inventory."""

    async def finish(self, claim: ScanClaim, end: ScanEnd) -> None:
        await Inventory(self._database).finish(claim, end)


def worker(database: Database, wakeups: WakeUps, *, lease_s: float = 60) -> Runner:
    return Runner(database, wakeups, runner=str(uuid4()), lease_s=lease_s)


@pytest.fixture
def running(database: Database, wakeups: WakeUps) -> Runner:
    return worker(database, wakeups)


async def start(scans: Scans, cluster: str = "c1", vm_uuid: VmUuid | None = None) -> StartedScan:
    return await scans.start(cluster, vm_uuid=vm_uuid, origin=ScanOrigin.REQUESTED, caller=ANN)


async def started(scans: Scans, cluster: str = "c1", vm_uuid: VmUuid | None = None) -> ScanRecord:
    return (await start(scans, cluster, vm_uuid)).scan


async def until_done(scans: Scans, scan_id: UUID, timeout_s: float) -> ScanRecord:
    with scans.watch(scan_id) as watch:
        return await watch.until(await read(scans, scan_id), lambda now: now.done, timeout_s)


async def claimed(running: ScanClaims, scan: ScanRecord) -> ScanClaim:
    claim = await running.claim(scan.id)
    assert claim is not None
    return claim


async def ended(scans: Scans, running: Runner, cluster: str = "c1", vm_uuid: VmUuid | None = None) -> ScanRecord:
    scan = await started(scans, cluster, vm_uuid)
    await running.finish(await claimed(running, scan), COMPLETE)
    return await read(scans, scan.id)


async def read(scans: Scans, scan_id: UUID) -> ScanRecord:
    scan = await scans.find(scan_id)
    assert scan is not None
    return scan


async def wake_ups(database: Database) -> list[tuple[str, str]]:
    async with database.transaction() as connection:
        found = text("SELECT queue_name, args->>'scan_id' FROM procrastinate_jobs WHERE status = 'todo' ORDER BY id")
        return [(queue, scan_id) for queue, scan_id in (await connection.execute(found)).all()]


async def let_lease_run_out(database: Database, scan: ScanRecord) -> None:
    async with database.transaction() as connection:
        over = func.clock_timestamp() - timedelta(seconds=1)
        await connection.execute(SCAN.update().where(SCAN.c.id == scan.id).values(lease_until=over))


async def test_a_scan_is_stored_with_the_wake_up_for_it(scans: Scans, database: Database) -> None:
    vm = new_vm()
    whole, one = await start(scans), await start(scans, vm_uuid=vm)
    assert not whole.joined
    assert (whole.scan.cluster, whole.scan.vm_uuid, whole.scan.status) == ("c1", None, ScanStatus.QUEUED)
    assert (whole.scan.origin, whole.scan.caller, whole.scan.done) == (ScanOrigin.REQUESTED, "ann", False)
    assert one.scan.vm_uuid == vm
    assert await wake_ups(database) == [("cluster-scans", str(whole.scan.id)), ("renewals", str(one.scan.id))]


async def test_whoever_asks_for_what_is_open_joins_it(scans: Scans, running: Runner, database: Database) -> None:
    vm = new_vm()
    whole, one = await started(scans), await started(scans, vm_uuid=vm)
    await claimed(running, whole)
    for same, cluster, vm_uuid in ((whole, "c1", None), (one, "c1", vm)):
        again = await start(scans, cluster, vm_uuid)
        assert again.joined
        assert again.scan.id == same.id
    assert len(await wake_ups(database)) == 2
    others = [await start(scans, "c2"), await start(scans, vm_uuid=new_vm()), await start(scans, "c2", vm)]
    assert not any(other.joined for other in others)


async def test_of_many_who_ask_at_once_one_starts_the_scan(scans: Scans) -> None:
    asked = await asyncio.gather(*(start(scans) for _ in range(10)))
    assert len({one.scan.id for one in asked}) == 1
    assert [one.joined for one in asked].count(False) == 1


async def test_a_scan_that_has_ended_is_not_joined(scans: Scans, running: Runner) -> None:
    first = await ended(scans, running)
    again = await start(scans)
    assert not again.joined
    assert again.scan.id != first.id


async def test_one_worker_has_the_scan_and_its_end_is_kept(
    scans: Scans, running: Runner, database: Database, wakeups: WakeUps
) -> None:
    scan = await started(scans)
    claim = await claimed(running, scan)
    assert (claim.cluster, claim.vm_uuid, claim.fence) == ("c1", None, 1)
    assert await worker(database, wakeups).claim(scan.id) is None
    await running.show_progress(claim, "reads 7 guests")
    now = await read(scans, scan.id)
    assert (now.status, now.message) == (ScanStatus.RUNNING, "reads 7 guests")
    await running.finish(claim, COMPLETE)
    now = await read(scans, scan.id)
    assert (now.status, now.done, now.outcome, now.message) == ("succeeded", True, "complete", "3 VMs were seen")
    assert (now.counts.vms_seen, now.counts.vms_new, now.counts.vms_vanished) == (3, 1, None)
    assert now.finished_at is not None
    assert await running.claim(scan.id) is None


async def test_a_failed_scan_says_why(scans: Scans, running: Runner) -> None:
    scan = await started(scans)
    fault = Fault(FaultCode.CVM_UNREACHABLE, "no CVM of c1 answered")
    await running.finish(await claimed(running, scan), ScanEnd(ScanOutcome.FAILED, "nothing was seen", fault=fault))
    now = await read(scans, scan.id)
    assert (now.status, now.outcome, now.error_code) == ("failed", "failed", "cvm-unreachable")
    assert now.error_message == "no CVM of c1 answered"


async def test_a_scan_whose_worker_died_is_taken_over_and_the_dead_one_can_write_nothing(
    scans: Scans, running: Runner, database: Database, wakeups: WakeUps
) -> None:
    scan = await started(scans)
    dead = await claimed(running, scan)
    await let_lease_run_out(database, scan)
    taken = await claimed(worker(database, wakeups), scan)
    assert taken.fence == 2
    for write in (running.finish(dead, COMPLETE), running.show_progress(dead, "alive"), running.release(dead, "later")):
        with pytest.raises(FenceLost):
            await write
    assert not (await read(scans, scan.id)).done


async def test_a_kept_lease_is_not_taken(scans: Scans, database: Database, wakeups: WakeUps) -> None:
    keeper = worker(database, wakeups)
    scan = await started(scans)
    claim = await claimed(keeper, scan)
    await let_lease_run_out(database, scan)
    await keeper.renew_leases()
    assert await worker(database, wakeups).claim(scan.id) is None
    keeper.stop_heartbeat(claim)
    await let_lease_run_out(database, scan)
    await keeper.renew_leases()
    assert await worker(database, wakeups).claim(scan.id) is not None


async def test_a_scan_that_is_put_back_waits_for_its_turn_with_a_wake_up(
    scans: Scans, running: Runner, database: Database
) -> None:
    scan = await started(scans)
    await running.release(await claimed(running, scan), "the service stopped")
    now = await read(scans, scan.id)
    assert (now.status, now.done, now.message) == (ScanStatus.QUEUED, False, "the service stopped")
    assert await wake_ups(database) == [("cluster-scans", str(scan.id))] * 2
    assert (await claimed(running, scan)).fence == 2


async def test_the_sweep_wakes_what_nobody_has(scans: Scans, running: Runner, database: Database) -> None:
    lost, kept, done = await started(scans), await started(scans, "c2"), await ended(scans, running, "c3")
    await claimed(running, kept)
    await claimed(running, lost)
    assert await running.sweep() == 0
    await let_lease_run_out(database, lost)
    # The wake-up that started it is still there.
    assert await running.sweep() == 0
    async with database.transaction() as connection:
        await connection.execute(text("DELETE FROM procrastinate_jobs"))
    assert await running.sweep() == 1
    assert await wake_ups(database) == [("cluster-scans", str(lost.id))]
    assert done.done


async def test_a_wait_ends_with_the_scan_on_whatever_replica_it_ends(
    scans: Scans, database_url: str, running: Runner
) -> None:
    scan = await started(scans)
    elsewhere = Database(database_url)
    try:
        waiting = asyncio.create_task(until_done(scans, scan.id, LIMIT_S))
        other = worker(elsewhere, WakeUps(queue_app(database_url)))
        claim = await claimed(other, scan)
        await other.show_progress(claim, "half of it")
        await other.finish(claim, COMPLETE)
        assert (await waiting).outcome is ScanOutcome.COMPLETE
    finally:
        await elsewhere.close()


async def test_a_wait_that_is_too_short_ends_with_the_scan_as_it_is(scans: Scans) -> None:
    scan = await started(scans)
    assert await until_done(scans, scan.id, 0.05) == scan


async def test_a_scan_that_is_not_there_is_not_found(scans: Scans) -> None:
    assert await scans.find(uuid4()) is None


async def test_jobs_and_scans_are_heard_over_one_connection(scans: Scans, database: Database) -> None:
    async with database.transaction() as connection:
        listening = text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = 'ngt-renewal-changes'"
        )
        assert await connection.scalar(listening) == 1


async def test_the_latest_scan_of_a_vm_is_its_own_or_one_of_all(scans: Scans, running: Runner) -> None:
    vm, other = new_vm(), new_vm()
    assert await scans.latest("c1", vm) is None
    whole = await ended(scans, running)
    assert await scans.latest("c1", vm) == whole
    own = await ended(scans, running, vm_uuid=vm)
    await started(scans, vm_uuid=vm)
    assert await scans.latest("c1", vm) == own
    assert await scans.latest("c1", other) == whole
    assert await scans.latest("c1") == whole
    assert await scans.latest("c2", vm) is None


async def test_scans_are_listed_page_by_page_newest_first(scans: Scans, running: Runner) -> None:
    all_scans = [await ended(scans, running, cluster) for cluster in ("c1", "c2", "c1", "c1")]
    newest_first = all_scans[::-1]
    page = await scans.list(ScanFilter(), limit=3)
    assert list(page) == newest_first[:3]
    last = page[-1]
    assert list(await scans.list(ScanFilter(), after=PageCursor(last.created_at, last.id))) == newest_first[3:]
    assert [scan.cluster for scan in await scans.list(ScanFilter(cluster="c2"))] == ["c2"]
    assert {scan.cluster for scan in await scans.list(ScanFilter(caller=BEN))} == {"c1"}
    assert all(scan.done for scan in await scans.list(ScanFilter()))

"""What scans saw, as rows: written together or not at all, never over what is newer, by no runner that is late."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import RowMapping, insert, select

from app.ngt.errors import Fault, FaultCode
from app.ngt.vocabulary import CertificateSource, VmUuid
from app.store.clusters.pause import Clusters
from app.store.inventory.scan_results import GuestFault, Inventory, ScannedVm, ScanResult, Stored
from app.store.postgres.database import Database
from app.store.postgres.queue import WakeUps
from app.store.postgres.tables import CLUSTER, SCAN, VM
from app.store.records.callers import THIS_SERVICE
from app.store.records.claims import FenceLost
from app.store.records.inventory import Observation
from app.store.records.scans import ScanOrigin, ScanOutcome
from app.store.scans.claims import ScanClaim, ScanClaims, ScanEnd
from app.store.scans.start import start_scan
from tests.store.conftest import new_vm

TODAY = datetime(2026, 11, 20, tzinfo=UTC)
LATER = TODAY + timedelta(minutes=5)
COMPLETE = ScanEnd(ScanOutcome.COMPLETE, "")


@pytest.fixture
def inventory(database: Database) -> Inventory:
    return Inventory(database)


@pytest_asyncio.fixture
async def claim(database: Database, wakeups: WakeUps) -> AsyncIterator[ScanClaim]:
    """A scan of the whole of c1 that is at work."""
    await Clusters(database).ensure(["c1", "c2"])
    yield await claimed(database, wakeups)


async def claimed(database: Database, wakeups: WakeUps, vm_uuid: VmUuid | None = None) -> ScanClaim:
    async with database.transaction() as connection:
        started = await start_scan(
            connection, wakeups, "c1", vm_uuid=vm_uuid, origin=ScanOrigin.REQUESTED, caller=THIS_SERVICE
        )
    claim = await ScanClaims(database, wakeups, runner="w1", lease_s=60).claim(started.scan.id)
    assert claim is not None
    return claim


def seen_vm(vm_uuid: VmUuid, **more: Any) -> ScannedVm:
    flags = {
        "ngt_enabled": True,
        "iso_mounted": False,
        "link_active": True,
        "vss_snapshot": True,
        "file_level_restore": False,
        "ngt_uuid": "11111111-1111-4111-8111-111111111111",
        "has_entity": True,
    }
    return ScannedVm(
        **{"vm_uuid": vm_uuid, "name": "web01", "power": "on", "addresses": ("10.0.0.1",), **flags, **more}
    )


def seen(*vms: ScannedVm, at: datetime = TODAY, has_entities: bool = True, **more: Any) -> ScanResult:
    return ScanResult(at, vms, has_entities=has_entities, **{"absent": None, **more})


def date(vm_uuid: VmUuid, at: datetime = TODAY) -> Observation:
    return Observation(vm_uuid, CertificateSource.CVM_EXPIRY_DATE, at, TODAY + timedelta(days=12))


async def row_of(database: Database, vm_uuid: VmUuid) -> RowMapping:
    async with database.transaction() as connection:
        return (await connection.execute(select(VM).where(VM.c.vm_uuid == vm_uuid))).mappings().one()


async def lose(database: Database) -> None:
    """Another runner has taken every scan over."""
    async with database.transaction() as connection:
        await connection.execute(SCAN.update().values(fence=SCAN.c.fence + 1))


async def test_a_look_stores_vms_and_dates_together(inventory: Inventory, claim: ScanClaim, database: Database) -> None:
    one, two = new_vm(), new_vm()
    look = seen(seen_vm(one), seen_vm(two, power=None, addresses=()), dates=[date(one)])
    assert await inventory.store(claim, look) == Stored(new=2, vanished=0)
    row = await row_of(database, one)
    assert (row["not_after"], row["certificate_source"]) == (TODAY + timedelta(days=12), "cvm_expiry_date")
    assert (await row_of(database, two))["addresses"] == []
    assert await inventory.store(claim, seen(seen_vm(one), seen_vm(two), at=LATER)) == Stored(new=0, vanished=0)
    assert (await row_of(database, one))["first_seen_at"] == TODAY


async def test_an_older_look_replaces_nothing_newer(inventory: Inventory, claim: ScanClaim, database: Database) -> None:
    vm = new_vm()
    await inventory.store(claim, seen(seen_vm(vm, name="newer"), at=LATER))
    await inventory.store(claim, seen(seen_vm(vm, name="older")))
    row = await row_of(database, vm)
    assert (row["name"], row["last_seen_at"]) == ("newer", LATER)
    assert await inventory.store(claim, seen(at=TODAY)) == Stored(new=0, vanished=0)


async def test_without_entities_what_the_listing_does_not_say_stays(
    inventory: Inventory, claim: ScanClaim, database: Database
) -> None:
    vm = new_vm()
    await inventory.store(claim, seen(seen_vm(vm)))
    unsaid: dict[str, Any] = dict.fromkeys(("ngt_enabled", "iso_mounted", "vss_snapshot", "ngt_uuid", "has_entity"))
    listed = seen_vm(vm, name="renamed", link_active=False, **unsaid)
    await inventory.store(claim, seen(listed, at=LATER, has_entities=False))
    row = await row_of(database, vm)
    assert (row["name"], row["link_active"], row["has_entity"], row["vss_snapshot"]) == ("renamed", False, True, True)
    await inventory.store(claim, seen(listed, at=LATER))
    row = await row_of(database, vm)
    assert (row["has_entity"], row["ngt_uuid"], row["vss_snapshot"]) == (None, None, None)


async def test_what_a_renewal_heard_of_after_the_listing_is_not_gone(
    inventory: Inventory, claim: ScanClaim, database: Database
) -> None:
    told_later, told_earlier, elsewhere, watched = new_vm(), new_vm(), new_vm(), new_vm()
    rows = ((told_later, "c1", LATER), (told_earlier, "c1", TODAY - timedelta(days=1)), (elsewhere, "c2", None))
    async with database.transaction() as connection:
        for vm, cluster, since in rows:
            await connection.execute(insert(VM).values(vm_uuid=vm, cluster=cluster, awaiting_pickup_since=since))
        seen_at = {"last_seen_at": TODAY - timedelta(days=1), "observed_at": LATER}
        await connection.execute(insert(VM).values(vm_uuid=watched, cluster="c1", **seen_at))
    assert await inventory.store(claim, seen()) == Stored(new=0, vanished=1)
    assert (await row_of(database, told_earlier))["vanished_at"] == TODAY
    assert (await row_of(database, told_later))["vanished_at"] is None
    assert (await row_of(database, watched))["vanished_at"] is None
    assert (await row_of(database, elsewhere))["vanished_at"] is None


async def test_a_look_at_one_vm_says_nothing_of_others(
    inventory: Inventory, claim: ScanClaim, database: Database, wakeups: WakeUps
) -> None:
    one, other = new_vm(), new_vm()
    await inventory.store(claim, seen(seen_vm(one), seen_vm(other)))
    single = await claimed(database, wakeups, one)
    assert await inventory.store(single, seen(seen_vm(one), at=LATER, absent=[])) == Stored(new=0, vanished=0)
    assert await inventory.store(single, seen(at=LATER, absent=[other])) == Stored(new=0, vanished=1)
    await inventory.finish(single, COMPLETE, LATER)
    async with database.transaction() as connection:
        scanned_at = select(CLUSTER.c.scanned_at).where(CLUSTER.c.name == "c1")
        assert await connection.scalar(scanned_at) is None


async def test_the_faults_of_guests_come_and_go(inventory: Inventory, claim: ScanClaim, database: Database) -> None:
    vm = new_vm()
    await inventory.store(claim, seen(seen_vm(vm)))
    await inventory.store_guests(claim, [], [GuestFault(vm, "guest-not-reached", "it is silent", TODAY)])
    row = await row_of(database, vm)
    assert (row["guest_fault_code"], row["guest_fault"], row["guest_fault_at"]) == (
        "guest-not-reached", "it is silent", TODAY,
    )  # fmt: skip
    read = Observation(vm, CertificateSource.GUEST_CERTIFICATE, TODAY, LATER)
    await inventory.store_guests(claim, [read], [])
    row = await row_of(database, vm)
    assert (row["guest_fault_code"], row["guest_fault_at"]) == (None, None)
    assert row["certificate_source"] == "guest_certificate"


async def test_a_runner_whose_scan_was_taken_over_stores_nothing(
    inventory: Inventory, claim: ScanClaim, database: Database
) -> None:
    vm = new_vm()
    await lose(database)
    fault = GuestFault(vm, "x", "y", TODAY)
    for write in (
        inventory.store(claim, seen(seen_vm(vm), dates=[date(vm)])),
        inventory.store_guests(claim, [], [fault]),
        inventory.finish(claim, COMPLETE, TODAY),
    ):
        with pytest.raises(FenceLost):
            await write
    async with database.transaction() as connection:
        assert (await connection.execute(select(VM))).all() == []


async def test_the_cluster_remembers_its_last_whole_scan_and_why_the_last_one_was_not(
    inventory: Inventory, database: Database, claim: ScanClaim, wakeups: WakeUps
) -> None:
    await inventory.finish(claim, COMPLETE, TODAY)
    fault = Fault(FaultCode.GATEWAY_DOWN, "ncli could not connect")
    await inventory.finish(await claimed(database, wakeups), ScanEnd(ScanOutcome.FAILED, "", fault=fault))
    async with database.transaction() as connection:
        row = (await connection.execute(select(CLUSTER).where(CLUSTER.c.name == "c1"))).mappings().one()
    assert (row["scanned_at"], row["scan_fault_code"]) == (TODAY, "gateway-down")
    assert row["scan_fault"] == "ncli could not connect"
    await inventory.finish(await claimed(database, wakeups), COMPLETE, LATER)
    async with database.transaction() as connection:
        row = (await connection.execute(select(CLUSTER).where(CLUSTER.c.name == "c1"))).mappings().one()
    assert (row["scanned_at"], row["scan_fault_code"], row["scan_fault_at"]) == (LATER, None, None)


async def test_it_is_known_which_entities_there_were(inventory: Inventory, claim: ScanClaim) -> None:
    assert not await inventory.has_vms("c1")
    one, two = new_vm(), new_vm()
    await inventory.store(claim, seen(seen_vm(one), seen_vm(two, ngt_uuid=None, has_entity=False)))
    assert await inventory.has_vms("c1")
    assert await inventory.known_entities("c1") == {one: "11111111-1111-4111-8111-111111111111"}
    await inventory.store(claim, seen(at=LATER))
    assert not await inventory.has_vms("c1")
    assert await inventory.known_entities("c1") == {}

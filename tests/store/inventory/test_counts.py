"""What monitoring is told of stored VMs: each in one bucket, and the vanished ones nowhere."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, insert, update

from app.store.callers.api_keys import Keys
from app.store.clusters.pause import Clusters
from app.store.inventory.counts import BUCKETS, CertificateCounts, ClusterCounts, Counted
from app.store.postgres.database import Database
from app.store.postgres.tables import CLUSTER, VM
from tests.store.conftest import new_vm

DAY_1 = datetime(2026, 11, 1, tzinfo=UTC)
DAY_2 = datetime(2026, 11, 2, tzinfo=UTC)


async def add_vm(database: Database, *, left: timedelta | None = None, cluster: str = "c1", **columns: Any) -> str:
    """A VM whose certificate has that much time left by the database's clock."""
    vm_uuid = new_vm()
    not_after = None if left is None else func.now() + left
    async with database.transaction() as connection:
        row = {"vm_uuid": vm_uuid, "cluster": cluster, "name": "web01", "not_after": not_after, **columns}
        await connection.execute(insert(VM).values(**row))
    return vm_uuid


async def read(database: Database, *, per_vm: bool = False) -> Counted:
    return await CertificateCounts(database).read({"c2", "c1"}, per_vm=per_vm)


async def cluster_1(database: Database) -> ClusterCounts:
    (found, _) = (await read(database)).clusters
    return found


@pytest.mark.parametrize(
    ("left", "bucket"),
    [
        (timedelta(days=-400), "expired"),
        (timedelta(seconds=-1), "expired"),
        (timedelta(minutes=5), "lt7d"),
        (timedelta(days=7, minutes=-5), "lt7d"),
        (timedelta(days=7, minutes=5), "lt30d"),
        (timedelta(days=30, minutes=-5), "lt30d"),
        (timedelta(days=30, minutes=5), "lt90d"),
        (timedelta(days=90, minutes=-5), "lt90d"),
        (timedelta(days=90, minutes=5), "ok"),
        (timedelta(days=36500), "ok"),
        (None, "unknown"),
    ],
)
async def test_each_vm_is_in_the_bucket_of_the_time_it_has_left(
    database: Database, clusters: Clusters, left: timedelta | None, bucket: str
) -> None:
    await add_vm(database, left=left)
    counts = await cluster_1(database)
    assert counts.certificates == {**dict.fromkeys(BUCKETS, 0), bucket: 1}
    assert counts.vms == 1
    assert (counts.earliest_not_after is None) == (left is None)


async def test_a_vanished_vm_and_one_of_another_cluster_are_counted_nowhere(
    database: Database, clusters: Clusters
) -> None:
    expired = timedelta(days=-1)
    times: dict[str, Any] = {
        "certificate_observed_at": DAY_1,
        "certificate_source": "guest_certificate",
        "link_active": True,
    }
    await add_vm(database, left=expired, vanished_at=DAY_2, awaiting_pickup_since=DAY_1, **times)
    await add_vm(database, left=expired, cluster="removed", awaiting_pickup_since=DAY_1, **times)
    counted = await read(database, per_vm=True)
    assert counted.vms == []
    assert [each.cluster for each in counted.clusters] == ["c1", "c2"]
    for counts in counted.clusters:
        assert counts.vms == sum(counts.certificates.values()) == 0
        assert counts.earliest_not_after is counts.oldest_observed_at is counts.oldest_awaiting_pickup_at is None


async def test_the_times_of_a_cluster_are_the_first_or_the_last_of_its_vms(
    database: Database, clusters: Clusters
) -> None:
    for day in (DAY_2, DAY_1):
        seen: dict[str, Any] = {"certificate_observed_at": day, "certificate_source": "cvm_expiry_date"}
        await add_vm(database, **seen, awaiting_pickup_since=day, renewed_at=day, not_after=day)
    await add_vm(database, certificate_observed_at=DAY_1 - timedelta(days=9), certificate_source="computed")
    counts = await cluster_1(database)
    assert counts.earliest_not_after == counts.oldest_observed_at == counts.oldest_awaiting_pickup_at == DAY_1
    assert counts.last_renewed_at == DAY_2


async def test_what_is_remembered_of_a_cluster_is_told(database: Database, clusters: Clusters) -> None:
    counts = await cluster_1(database)
    assert (counts.scanned_at, counts.scan_failed_at, counts.paused, counts.auto_renew_stopped) == (
        None, None, False, False,
    )  # fmt: skip
    async with database.transaction() as connection:
        changed = {"scanned_at": DAY_1, "scan_fault_at": DAY_2, "paused_at": DAY_1, "auto_stopped_at": DAY_1}
        await connection.execute(update(CLUSTER).where(CLUSTER.c.name == "c1").values(**changed))
    counts = await cluster_1(database)
    assert (counts.scanned_at, counts.scan_failed_at, counts.paused, counts.auto_renew_stopped) == (
        DAY_1, DAY_2, True, True,
    )  # fmt: skip


async def test_vms_are_read_only_when_they_are_asked_for(database: Database, clusters: Clusters) -> None:
    known = await add_vm(
        database,
        name='we"b\\01\n名前',
        not_before=DAY_1,
        not_after=DAY_2,
        certificate_observed_at=DAY_1,
        certificate_source="guest_certificate",
        link_active=False,
    )
    computed = await add_vm(
        database, name=None, cluster="c2", certificate_source="computed", certificate_observed_at=DAY_1, not_after=DAY_2
    )
    assert (await read(database)).vms == []
    vms = sorted((await read(database, per_vm=True)).vms)
    assert vms == [
        ("c1", known, 'we"b\\01\n名前', DAY_1.timestamp(), DAY_2.timestamp(), DAY_1.timestamp(), 0.0),
        ("c2", computed, "", None, DAY_2.timestamp(), None, None),
    ]


async def test_more_vms_than_are_read_at_once_are_all_there(database: Database, clusters: Clusters) -> None:
    async with database.transaction() as connection:
        rows = [{"vm_uuid": new_vm(), "cluster": "c1", "name": f"vm{number}"} for number in range(1201)]
        await connection.execute(insert(VM), rows)
    counted = await read(database, per_vm=True)
    assert {vm.vm_name for vm in counted.vms} == {f"vm{number}" for number in range(1201)}
    assert counted.clusters[0].certificates["unknown"] == 1201


async def test_only_keys_that_can_be_used_and_that_expire_are_told(database: Database, keys: Keys) -> None:
    await keys.create("never", frozenset())
    soon, _ = await keys.create("soon", frozenset(), expires_in=timedelta(days=3))
    await keys.create("over", frozenset(), expires_in=timedelta(seconds=-1))
    revoked, _ = await keys.create("revoked", frozenset(), expires_in=timedelta(days=3))
    await keys.revoke(revoked.id)
    assert (await read(database)).keys_expire_at == {soon.id: soon.expires_at}

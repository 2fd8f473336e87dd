"""Pausing and resuming a cluster, and what is remembered of VMs."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert, text, update

from app.ngt.errors import Fault, FaultCode
from app.ngt.renewal.holds import SlotRules
from app.store.clusters.pause import Clusters
from app.store.inventory.vms import Vms
from app.store.jobs.claims import JobClaims
from app.store.jobs.commands import Jobs
from app.store.postgres.database import Database
from app.store.postgres.queue import WakeUps
from app.store.postgres.tables import CLUSTER, VM
from tests.store.conftest import new_vm, renewal

SLOTS = {"c1": SlotRules(max_running=3, prove_first=False), "c2": SlotRules(max_running=3, prove_first=False)}


async def wakes(database: Database, job_id: object) -> int:
    async with database.transaction() as connection:
        counted = text("SELECT count(*) FROM procrastinate_jobs WHERE args->>'job_id' = :id")
        return int((await connection.execute(counted, {"id": str(job_id)})).scalar_one())


async def test_a_cluster_is_remembered_once(clusters: Clusters) -> None:
    await clusters.pause("c1", "AOS upgrade", "ann")
    await clusters.ensure(["c1", "c2", "c3", "c3"])
    await clusters.ensure([])
    listed = await clusters.list(["c3", "c1", "unknown"])
    assert [(cluster.name, cluster.pause_reason) for cluster in listed] == [("c1", "AOS upgrade"), ("c3", None)]


async def test_a_second_pause_keeps_the_first_time(clusters: Clusters) -> None:
    first = await clusters.pause("c1", "AOS upgrade", "ann")
    second = await clusters.pause("c1", "a longer AOS upgrade", "ben")
    assert first.paused_at == second.paused_at
    assert (second.pause_reason, second.paused_by) == ("a longer AOS upgrade", "ben")


async def test_an_unknown_cluster_is_neither_paused_nor_resumed(clusters: Clusters, wakeups: WakeUps) -> None:
    for refused in (clusters.pause("c9", "why", "ann"), clusters.resume("c9", wakeups)):
        with pytest.raises(Fault) as fault:
            await refused
        assert fault.value.code is FaultCode.CLUSTER_NOT_FOUND


async def test_resuming_wakes_what_the_pause_held_and_forgets_the_unproven(
    clusters: Clusters, jobs: Jobs, database: Database, wakeups: WakeUps
) -> None:
    running = JobClaims(database, wakeups, runner="a worker", lease_s=60)
    await clusters.pause("c1", None, "ann")
    async with database.transaction() as connection:
        await connection.execute(update(CLUSTER).values(unproven_in_a_row=5))
    job = (await jobs.start_renewal(renewal(cluster="c1"))).job
    other = (await jobs.start_renewal(renewal(cluster="c2"))).job
    assert await running.claim(job.id, SLOTS) is None
    held = await jobs.find(job.id)
    assert held is not None
    assert held.wait_reason == "cluster_paused"
    resumed = await clusters.resume("c1", wakeups)
    assert (resumed.paused_at, resumed.paused_by, resumed.unproven_in_a_row) == (None, None, 0)
    assert await wakes(database, job.id) == 2
    assert await wakes(database, other.id) == 1
    assert await running.claim(job.id, SLOTS) is not None


async def test_resuming_does_not_wake_what_runs_or_waits_for_something_else(
    clusters: Clusters, jobs: Jobs, database: Database, wakeups: WakeUps
) -> None:
    running = JobClaims(database, wakeups, runner="a worker", lease_s=60)
    job = (await jobs.start_renewal(renewal(cluster="c1"))).job
    assert await running.claim(job.id, SLOTS) is not None
    await clusters.pause("c1", None, "ann")
    await clusters.resume("c1", wakeups)
    assert await wakes(database, job.id) == 1


async def test_a_vm_is_known_on_the_cluster_that_saw_it_last_first(database: Database) -> None:
    vms, vm_uuid, seen = Vms(database), new_vm(), datetime(2020, 12, 1, tzinfo=UTC)
    assert await vms.known_cluster(vm_uuid) == ()
    async with database.transaction() as connection:
        for cluster, at in (("c1", seen), ("c2", seen + timedelta(days=1)), ("c3", None)):
            await connection.execute(insert(VM).values(vm_uuid=vm_uuid, cluster=cluster, observed_at=at))
    assert await vms.known_cluster(vm_uuid) == ("c2", "c1", "c3")


async def test_a_renewal_is_known_on_the_cluster_where_it_was_proved(database: Database) -> None:
    vms, vm_uuid, proved = Vms(database), new_vm(), datetime(2026, 11, 24, tzinfo=UTC)
    assert (await vms.before_renewal(vm_uuid, "c1")).renewed_at is None
    async with database.transaction() as connection:
        await connection.execute(insert(VM).values(vm_uuid=vm_uuid, cluster="c1", renewed_at=proved))
    assert (await vms.before_renewal(vm_uuid, "c1")).renewed_at == proved
    assert (await vms.before_renewal(vm_uuid, "c2")).renewed_at is None


async def test_a_vm_awaits_pickup_where_a_certificate_was_issued_and_not_seen(database: Database) -> None:
    vms, vm_uuid = Vms(database), new_vm()
    async with database.transaction() as connection:
        await connection.execute(
            insert(VM).values(vm_uuid=vm_uuid, cluster="c1", awaiting_pickup_since=datetime.now(UTC))
        )
        await connection.execute(insert(VM).values(vm_uuid=vm_uuid, cluster="c2"))
    known = [await vms.before_renewal(vm_uuid, cluster) for cluster in ("c1", "c2", "c3")]
    assert [before.awaiting_pickup for before in known] == [True, False, False]

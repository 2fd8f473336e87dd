"""Which of the sources of a certificate's dates counts, and that old words never replace newer ones."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, insert, select, update

from app.ngt.vocabulary import CertificateSource, VmUuid
from app.store.jobs.commands import Jobs
from app.store.observations import store_observations, store_renewed
from app.store.postgres.database import Database
from app.store.postgres.tables import CERTIFICATE_OBSERVATION, VM
from app.store.records.inventory import Observation
from tests.store.conftest import Leave, new_vm, renewal

TODAY = datetime(2026, 11, 20, tzinfo=UTC)
GUEST, PUSHED, CVM, COMPUTED = CertificateSource


def days(number: float) -> timedelta:
    return timedelta(days=number)


def seen(vm: VmUuid, source: CertificateSource, *, ago: float = 0, left: float = 100, **more: Any) -> Observation:
    return Observation(vm, source, TODAY - days(ago), TODAY + days(left), **more)


async def known_vm(database: Database, **columns: Any) -> VmUuid:
    vm = new_vm()
    async with database.transaction() as connection:
        await connection.execute(insert(VM).values(vm_uuid=vm, cluster="c1", **columns))
    return vm


async def store(database: Database, *observed: Observation) -> None:
    for one in observed:
        async with database.transaction() as connection:
            await store_observations(connection, "c1", [one])


async def shown(database: Database, vm: VmUuid) -> tuple[str | None, datetime | None]:
    async with database.transaction() as connection:
        columns = VM.c.certificate_source, VM.c.not_after
        row = (await connection.execute(select(*columns).where(VM.c.vm_uuid == vm))).one()
        return row.certificate_source, row.not_after


async def test_the_best_source_counts_whatever_the_others_say(database: Database) -> None:
    vm = await known_vm(database)
    left = {GUEST: 10, PUSHED: 20, CVM: 30, COMPUTED: 40}
    for source in (COMPUTED, CVM, PUSHED, GUEST):
        await store(database, seen(vm, source, left=left[source]))
        assert await shown(database, vm) == (source, TODAY + days(left[source]))
    await store(database, seen(vm, CVM, left=900))
    assert await shown(database, vm) == (GUEST, TODAY + days(10))


async def test_all_that_a_source_says_is_shown(database: Database) -> None:
    vm = await known_vm(database)
    facts: dict[str, Any] = {
        "serial": "1f",
        "fingerprint": "ab",
        "subject": "CN=a",
        "issuer": "CN=b",
        "not_before": TODAY - days(9),
    }
    await store(database, seen(vm, PUSHED, given_by="ann", **facts))
    async with database.transaction() as connection:
        row = (await connection.execute(select(VM).where(VM.c.vm_uuid == vm))).mappings().one()
        kept = (await connection.execute(select(CERTIFICATE_OBSERVATION))).mappings().one()
    assert {name: row[name] for name in facts} == facts
    assert (row["certificate_observed_at"], kept["given_by"]) == (TODAY, "ann")


async def test_a_better_source_that_was_last_heard_weeks_ago_gives_way(database: Database) -> None:
    vm = await known_vm(database)
    await store(database, seen(vm, PUSHED, ago=30, left=5), seen(vm, CVM, left=800))
    assert await shown(database, vm) == (CVM, TODAY + days(800))


async def test_a_computed_date_never_takes_the_place_of_what_was_seen(database: Database) -> None:
    vm = await known_vm(database)
    await store(database, seen(vm, CVM, ago=90, left=5), seen(vm, COMPUTED, left=1000))
    assert await shown(database, vm) == (CVM, TODAY + days(5))


async def test_an_older_word_of_a_source_changes_nothing(database: Database) -> None:
    vm = await known_vm(database)
    await store(database, seen(vm, GUEST, left=900), seen(vm, GUEST, ago=1, left=5))
    assert await shown(database, vm) == (GUEST, TODAY + days(900))


async def test_what_was_seen_before_a_proved_renewal_is_forgotten(database: Database) -> None:
    vm = await known_vm(database)
    await store(database, seen(vm, GUEST, ago=2, left=5), seen(vm, PUSHED, ago=1, left=5))
    async with database.transaction() as connection:
        await connection.execute(update(VM).values(renewed_at=TODAY))
        await store_renewed(connection, "c1", seen(vm, CVM, left=1000))
    assert await shown(database, vm) == (CVM, TODAY + days(1000))
    # A reading that was on its way during the renewal comes too late.
    await store(database, seen(vm, GUEST, ago=0.1, left=5))
    assert await shown(database, vm) == (CVM, TODAY + days(1000))


async def test_a_vm_that_nobody_knows_is_passed_over(database: Database) -> None:
    vm, stranger = await known_vm(database), new_vm()
    async with database.transaction() as connection:
        await store_observations(connection, "c1", [seen(stranger, CVM), seen(vm, CVM)])
        known = await connection.scalar(select(func.count()).select_from(CERTIFICATE_OBSERVATION))
    assert known == 1


@pytest.mark.parametrize(
    ("state", "source", "facts", "believed", "picked_up"),
    [
        ({"iso_mounted": True, "link_active": True}, CVM, {}, False, False),
        ({"iso_mounted": False, "link_active": False}, CVM, {}, False, False),
        ({"iso_mounted": False, "link_active": True}, CVM, {}, True, True),
        ({"iso_mounted": True}, GUEST, {"not_before": TODAY - days(1.5)}, True, True),
        ({"iso_mounted": True}, GUEST, {"not_before": TODAY - days(900)}, True, False),
    ],
)
async def test_an_issued_certificate_is_not_taken_for_the_installed_one(
    database: Database,
    state: dict[str, Any],
    source: CertificateSource,
    facts: dict[str, Any],
    believed: bool,
    picked_up: bool,
) -> None:
    vm = await known_vm(database, awaiting_pickup_since=TODAY - days(1), not_after=TODAY, **state)
    await store(database, seen(vm, source, left=1000, **facts))
    assert (await shown(database, vm))[0] == (source if believed else None)
    async with database.transaction() as connection:
        since = await connection.scalar(select(VM.c.awaiting_pickup_since).where(VM.c.vm_uuid == vm))
    assert (since is None) is picked_up


@pytest.mark.parametrize(
    ("job", "vm_facts", "believed"),
    [
        # Its create is on its way, or its answer was lost: the certificate may be issued, and nobody knows of it yet.
        ({}, {}, False),
        # The ISO finds no free slot: none was ejected, and over a serial port the link is active all the time.
        ({}, {"awaiting_pickup_since": TODAY - days(1)}, False),
        ({"done": True}, {"awaiting_pickup_since": TODAY - days(1)}, False),
        # The look was before the mount, and is stored after it.
        (
            {"progress": {"mounted_at": (TODAY + days(0.1)).isoformat()}},
            {"awaiting_pickup_since": TODAY - days(1)},
            False,
        ),
        (
            {"progress": {"mounted_at": (TODAY - days(0.1)).isoformat()}},
            {"awaiting_pickup_since": TODAY - days(1)},
            True,
        ),
        ({"changing_since": None}, {}, True),
        # Another renewal was proved since.
        ({"done": True}, {}, True),
    ],
)
async def test_the_clusters_date_is_not_believed_between_the_first_change_and_the_mount(
    database: Database, jobs: Jobs, leave: Leave, job: dict[str, Any], vm_facts: dict[str, Any], believed: bool
) -> None:
    renewing = (await jobs.start_renewal(renewal())).job
    await leave(renewing.id, **({"changing_since": TODAY - days(1)} | job))
    vm = renewing.vm_uuid
    async with database.transaction() as connection:
        known = {"not_after": TODAY + days(3), "iso_mounted": False, "link_active": True, "last_job_id": renewing.id}
        await connection.execute(insert(VM).values(vm_uuid=vm, cluster="c1", **(known | vm_facts)))
    await store(database, seen(vm, CVM, left=1000))
    assert (await shown(database, vm))[1] == TODAY + days(1000 if believed else 3)


async def test_a_pickup_that_a_scan_saw_before_its_job_failed_is_found_out_by_the_next_scan(
    database: Database, jobs: Jobs, leave: Leave
) -> None:
    """Else the VM would await it for as long as the certificate lives, and not be renewed by itself at its end."""
    renewing = (await jobs.start_renewal(renewal())).job
    vm, mounted_at = renewing.vm_uuid, (TODAY - days(2)).isoformat()
    old = {"results": {"old_not_after": (TODAY + days(3)).isoformat()}, "progress": {"mounted_at": mounted_at}}
    await leave(renewing.id, changing_since=TODAY - days(2), **old)
    async with database.transaction() as connection:
        known = {"not_after": TODAY + days(3), "iso_mounted": False, "link_active": True, "last_job_id": renewing.id}
        await connection.execute(insert(VM).values(vm_uuid=vm, cluster="c1", awaiting_pickup_since=TODAY, **known))
    for ago, done in ((-1, False), (-2, True)):
        await leave(renewing.id, done=done)
        await store(database, seen(vm, CVM, ago=ago, left=1000))
        async with database.transaction() as connection:
            since = await connection.scalar(select(VM.c.awaiting_pickup_since).where(VM.c.vm_uuid == vm))
        assert (since is None) is done


async def test_many_observations_are_stored_together(database: Database) -> None:
    vms = [new_vm() for _ in range(1200)]
    async with database.transaction() as connection:
        await connection.execute(insert(VM), [{"vm_uuid": vm, "cluster": "c1"} for vm in vms])
        await store_observations(connection, "c1", [seen(vm, CVM, left=n) for n, vm in enumerate(vms)])
        dates = select(func.count(VM.c.not_after.distinct()))
        assert await connection.scalar(dates) == len(vms)

"""Finding VMs, page after page and in one stream, and when their certificates expire."""

import asyncio
from contextlib import aclosing
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any

import pytest
from sqlalchemy import insert, update

from app.ngt.errors import Fault, FaultCode
from app.ngt.vocabulary import CertificateSource, PowerState, VmUuid
from app.store.inventory.search import LONGEST_PLACE, VmFilter, VmSort, place_of
from app.store.inventory.vms import FORECAST_DAYS, Vms
from app.store.jobs.commands import Jobs
from app.store.observations import store_observations
from app.store.postgres.database import Database
from app.store.postgres.tables import VM
from app.store.records.inventory import ClusterTotals, ExpiringWeek, KnownVm, Observation
from tests.store.conftest import Leave, new_vm, renewal

EVERYWHERE = ("c1", "c2")
ALL = VmFilter(clusters=EVERYWHERE)


@pytest.fixture
def vms(database: Database) -> Vms:
    return Vms(database)


def from_now(**of: float) -> datetime:
    return datetime.now(UTC) + timedelta(**of)


async def add(database: Database, name: str | None = None, *, cluster: str = "c1", **columns: Any) -> VmUuid:
    vm = columns.pop("vm_uuid", None) or new_vm()
    async with database.transaction() as connection:
        await connection.execute(insert(VM).values(vm_uuid=vm, cluster=cluster, name=name, **columns))
    return VmUuid(vm)


async def names(vms: Vms, sort: VmSort = VmSort.NAME, **wanted: Any) -> list[str | None]:
    found = await vms.list(VmFilter(**{"clusters": EVERYWHERE, **wanted}), sort, limit=200)
    return [vm.name for vm in found]


async def walk(vms: Vms, sort: VmSort, limit: int, wanted: VmFilter = ALL) -> list[KnownVm]:
    """All pages."""
    seen: list[KnownVm] = []
    while page := await vms.list(wanted, sort, limit=limit, after=place_of(seen[-1], sort) if seen else None):
        assert len(page) <= limit
        seen += page
    return seen


async def test_what_is_known_of_a_vm_is_shown_and_what_is_not_is_none(database: Database, vms: Vms) -> None:
    vm = await add(database, "web01", addresses=["10.1.0.1", "10.1.0.2"], power="on", link_active=False)
    (found,) = await vms.list(ALL, VmSort.NAME, limit=5)
    assert (found.vm_uuid, found.name, found.cluster) == (vm, "web01", "c1")
    assert (found.addresses, found.power, found.link_active) == (("10.1.0.1", "10.1.0.2"), "on", False)
    assert {found.not_after, found.days_left, found.expired, found.has_entity, found.last_job_id} == {None}


@pytest.mark.parametrize(
    ("left", "days", "expired"),
    [
        ({"days": 3, "seconds": 60}, 3, False),
        ({"days": 3, "seconds": -60}, 2, False),
        ({"seconds": 60}, 0, False),
        ({"seconds": -60}, -1, True),
        ({"days": -30, "seconds": 60}, -30, True),
        ({"days": 2_000_000}, 1_999_999, False),
    ],
)
async def test_days_left_are_whole_and_rounded_down(
    database: Database, vms: Vms, left: dict[str, float], days: int, expired: bool
) -> None:
    await add(database, not_after=from_now(**left))
    (found,) = await vms.list(ALL, VmSort.NAME, limit=5)
    assert (found.days_left, found.expired) == (days, expired)


async def test_what_expires_next_comes_first_and_what_is_not_known_last(database: Database, vms: Vms) -> None:
    for name, days in (("later", 9), ("gone", -1), ("unknown", None), ("soon", 1)):
        await add(database, name, not_after=None if days is None else from_now(days=days))
    assert await names(vms, VmSort.NOT_AFTER) == ["gone", "soon", "later", "unknown"]
    assert await names(vms, VmSort.NOT_AFTER_DESC) == ["later", "soon", "gone", "unknown"]


async def test_vms_without_a_name_come_after_all_others(database: Database, vms: Vms) -> None:
    for name in ("b", None, "a"):
        await add(database, name)
    assert await names(vms) == ["a", "b", None]


async def test_a_name_is_found_whole_or_by_its_beginning(database: Database, vms: Vms) -> None:
    for name in ("web", "web01", "web_1", "WEB01", "db%", "db%01", None):
        await add(database, name)
    assert await names(vms, name="web") == ["web"]
    assert sorted(map(str, await names(vms, name_begins="web"))) == ["web", "web01", "web_1"]
    assert await names(vms, name_begins="web_") == ["web_1"]
    assert await names(vms, name_begins="db%") == ["db%", "db%01"]
    assert len(await names(vms, name_begins="")) == 6


async def test_each_filter_finds_what_it_says_and_all_must_hold(database: Database, vms: Vms) -> None:
    await add(database, "expired", not_after=from_now(days=-1), link_active=False, power="on")
    await add(database, "soon", not_after=from_now(days=29, hours=23), link_active=True, power="on")
    await add(database, "later", not_after=from_now(days=30, hours=1), link_active=True, power="off")
    await add(database, "unknown", cluster="c2", power="unknown")
    await add(database, "never scanned", cluster="c2")
    await add(database, "gone", not_after=from_now(days=-1), vanished_at=from_now(days=-1))
    rows: list[tuple[dict[str, Any], list[str]]] = [
        ({}, ["expired", "later", "never scanned", "soon", "unknown"]),
        ({"clusters": ("c2",)}, ["never scanned", "unknown"]),
        ({"clusters": ()}, []),
        ({"expires_within_days": 30}, ["expired", "soon"]),
        ({"expires_within_days": 0}, ["expired"]),
        ({"expires_within_days": 30, "expired": False}, ["soon"]),
        ({"expired": True}, ["expired"]),
        ({"expired": False}, ["later", "soon"]),
        ({"unknown_expiry": True}, ["never scanned", "unknown"]),
        ({"unknown_expiry": False}, ["expired", "later", "soon"]),
        ({"link_active": True}, ["later", "soon"]),
        ({"link_active": False}, ["expired"]),
        ({"power": PowerState.ON}, ["expired", "soon"]),
        ({"power": PowerState.UNKNOWN}, ["never scanned", "unknown"]),
        ({"power": PowerState.ON, "link_active": True}, ["soon"]),
        ({"vanished": True}, ["gone"]),
        ({"vanished": True, "expired": False}, []),
        ({"vanished": None, "expired": True}, ["expired", "gone"]),
    ]
    for wanted, expected in rows:
        assert await names(vms, **wanted) == expected, wanted


def same_names(chance: Random) -> str | None:
    return chance.choice(["a", "b", "b" * (LONGEST_PLACE + 5), "b" * (LONGEST_PLACE + 9), "ä", None])


async def add_at_random(database: Database, chance: Random, until: int) -> list[VmUuid]:
    dates = [None, *(from_now(days=day) for day in (-1, 1, 1, 2))]
    return [
        await add(database, same_names(chance), cluster=chance.choice(EVERYWHERE), not_after=chance.choice(dates))
        for _ in range(until)
    ]


@pytest.mark.parametrize("sort", list(VmSort))
async def test_the_pages_together_are_the_whole_list(database: Database, vms: Vms, sort: VmSort) -> None:
    chance = Random(7)  # noqa: S311 - the same VMs in each run
    added = await add_at_random(database, chance, 40)
    whole = await vms.list(ALL, sort, limit=200)
    assert sorted(vm.vm_uuid for vm in whole) == sorted(added)
    for limit in (1, 3, 7):
        assert await walk(vms, sort, limit) == list(whole)
    one_cluster = VmFilter(clusters=("c1",))
    assert await walk(vms, sort, 3, one_cluster) == [vm for vm in whole if vm.cluster == "c1"]


@pytest.mark.parametrize("sort", list(VmSort))
async def test_vms_that_come_go_and_are_seen_again_move_no_other(database: Database, vms: Vms, sort: VmSort) -> None:
    chance = Random(11)  # noqa: S311 - as above
    first = await add_at_random(database, chance, 25)
    seen: list[KnownVm] = []
    while page := await vms.list(ALL, sort, limit=3, after=place_of(seen[-1], sort) if seen else None):
        seen += page
        await add_at_random(database, chance, 1)
        async with database.transaction() as connection:
            await connection.execute(update(VM).values(last_seen_at=datetime.now(UTC), power="on"))
            await connection.execute(VM.delete().where(VM.c.vm_uuid == page[0].vm_uuid))
        if len(seen) > 200:
            break
    of_first = [vm.vm_uuid for vm in seen if vm.vm_uuid in set(first)]
    assert sorted(of_first) == sorted(first)


async def test_a_stream_has_every_vm_once_and_in_order(database: Database, vms: Vms) -> None:
    rows = [{"vm_uuid": new_vm(), "cluster": "c1", "not_after": from_now(days=n % 7)} for n in range(1203)]
    async with database.transaction() as connection:
        await connection.execute(insert(VM), rows)
    async with aclosing(vms.stream(ALL, VmSort.NOT_AFTER)) as parts:
        got = [part async for part in parts]
    assert [len(part) for part in got] == [500, 500, 203]
    streamed = [vm.vm_uuid for part in got for vm in part]
    assert streamed == [vm.vm_uuid for vm in await vms.list(ALL, VmSort.NOT_AFTER, limit=2000)]


async def test_a_stream_of_nothing_is_one_empty_part(vms: Vms) -> None:
    async with aclosing(vms.stream(ALL, VmSort.NAME)) as parts:
        assert [part async for part in parts] == [()]


async def test_streams_leave_connections_to_others(database: Database, vms: Vms) -> None:
    await add(database, "a")
    streams = [vms.stream(ALL, VmSort.NAME) for _ in range(5)]
    await asyncio.gather(*(anext(stream) for stream in streams))
    with pytest.raises(Fault) as refused:
        await anext(vms.stream(ALL, VmSort.NAME))
    assert refused.value.code is FaultCode.DATABASE_UNAVAILABLE
    for stream in streams:
        await stream.aclose()
    async with aclosing(vms.stream(ALL, VmSort.NAME)) as parts:
        assert len(await anext(parts)) == 1


# One VM.


async def test_a_vm_is_found_where_it_has_not_vanished_and_was_seen_last(database: Database, vms: Vms) -> None:
    vm = new_vm()
    await add(database, "old", vm_uuid=vm, cluster="c1", last_seen_at=from_now(hours=-5))
    await add(database, "new", vm_uuid=vm, cluster="c2", last_seen_at=from_now(hours=-4))
    assert await vms.known_cluster(vm) == ("c2", "c1")
    await change(database, vm, "c1", observed_at=from_now(hours=-3))
    assert await vms.known_cluster(vm) == ("c1", "c2")
    found = await vms.find(vm, EVERYWHERE)
    assert found is not None
    assert found.cluster == "c1"
    await change(database, vm, "c1", vanished_at=from_now(hours=-1))
    assert await vms.known_cluster(vm) == ("c2",)
    for clusters, cluster in ((EVERYWHERE, "c2"), (("c1",), "c1"), (("c2",), "c2")):
        found = await vms.find(vm, clusters)
        assert found is not None
        assert found.cluster == cluster
    assert await vms.find(vm, ()) is None
    await change(database, vm, "c2", vanished_at=from_now(hours=-1))
    assert await vms.known_cluster(vm) == ("c1", "c2")
    assert await vms.known_cluster(new_vm()) == ()
    assert await vms.find(new_vm(), EVERYWHERE) is None


async def change(database: Database, vm: VmUuid, cluster: str, **columns: Any) -> None:
    async with database.transaction() as connection:
        await connection.execute(update(VM).where(VM.c.vm_uuid == vm, VM.c.cluster == cluster).values(**columns))


async def test_all_sources_are_shown_the_best_first_beside_the_newest_job(
    database: Database, vms: Vms, jobs: Jobs, leave: Leave
) -> None:
    vm = await add(database, "web01")
    await add(database, "another")
    now = datetime.now(UTC)
    sources = CertificateSource.CVM_EXPIRY_DATE, CertificateSource.PUSHED_CERTIFICATE
    said = [Observation(vm, source, now, now + timedelta(days=9), given_by="ann") for source in sources]
    async with database.transaction() as connection:
        for one in said:
            await store_observations(connection, "c1", [one])
    known = await vms.find_ngt(vm, EVERYWHERE)
    assert known is not None
    assert [one.source for one in known.observations] == [*reversed(sources)]
    assert (known.observations[0].given_by, known.observations[0].observed_at) == ("ann", now)
    assert known.vm.certificate_source == "pushed_certificate"
    assert (known.vm.last_job_id, known.last_job_status, known.last_job_outcome) == (None, None, None)

    first = (await jobs.start_renewal(renewal(vm))).job
    await leave(first.id, done=True, status="failed", outcome="failed")
    second = (await jobs.start_renewal(renewal(vm))).job
    # A plan is no renewal, and a job elsewhere may be of another VM with the same UUID.
    await jobs.start_renewal(renewal(vm, validate_only=True))
    await leave(second.id, done=True, status="succeeded", outcome="renewed")
    elsewhere = (await jobs.start_renewal(renewal(vm, cluster="c2"))).job
    assert elsewhere.id not in {first.id, second.id}
    known = await vms.find_ngt(vm, EVERYWHERE)
    assert known is not None
    assert (known.vm.last_job_id, known.last_job_status, known.last_job_outcome) == (second.id, "succeeded", "renewed")
    assert await vms.find_ngt(vm, ("c2",)) is None


# The forecast.


def monday(weeks_ahead: int) -> datetime:
    """The beginning of a week, UTC."""
    today = datetime.now(UTC).date()
    begins = today - timedelta(days=today.weekday()) + timedelta(weeks=weeks_ahead)
    return datetime(begins.year, begins.month, begins.day, tzinfo=UTC)


async def test_weeks_begin_on_monday_and_each_certificate_is_in_its_own(database: Database, vms: Vms) -> None:
    week, second = monday(3), timedelta(seconds=1)
    for not_after in (week - second, week, week + timedelta(days=7) - second, week + timedelta(days=7)):
        await add(database, not_after=not_after)
    await add(database, cluster="c2", not_after=week)
    forecast = await vms.forecast(EVERYWHERE)

    def begins(weeks: int) -> date:
        return monday(weeks).date()

    assert forecast.weeks == (
        ExpiringWeek("c1", begins(2), 1),
        ExpiringWeek("c1", begins(3), 2),
        ExpiringWeek("c1", begins(4), 1),
        ExpiringWeek("c2", begins(3), 1),
    )
    assert (await vms.forecast(["c2"])).weeks == forecast.weeks[-1:]


async def test_the_totals_know_what_no_week_has(database: Database, vms: Vms) -> None:
    for days in (-500, -1, 1, FORECAST_DAYS - 1, FORECAST_DAYS + 1, None):
        await add(database, not_after=None if days is None else from_now(days=days))
    await add(database, not_after=from_now(days=5), vanished_at=from_now(days=-1))
    forecast = await vms.forecast(["c2", "c1"])
    assert forecast.totals == (ClusterTotals("c1", 6, 2, 1, 2), ClusterTotals("c2", 0, 0, 0, 0))
    assert sum(week.expiring for week in forecast.weeks) == 2
    assert (await vms.forecast([])).totals == ()

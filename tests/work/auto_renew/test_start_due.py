"""Automatic renewals as they are started day after day on a real database, by a clock that the test sets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from sqlalchemy import func, select, text, update

from app.ngt.renewal.request import RenewalRequest
from app.ngt.vocabulary import VmUuid
from app.settings import AutoRenew, ClusterSettings, RenewWindow
from app.store.auto_renew import AutoRenewals
from app.store.clusters.pause import Clusters
from app.store.jobs.commands import Jobs
from app.store.jobs.progress_json import dump_request
from app.store.jobs.service_pause import Pauses
from app.store.postgres.database import Database
from app.store.postgres.queue import WakeUps, queue_app
from app.store.postgres.tables import CLUSTER, JOB, VM
from app.store.records.jobs import JobRecord, JobStatus, NewRenewal
from app.work.auto_renew import AutoRenewal
from tests.work.service import OPERATOR

DAY = timedelta(days=1)
# A Sunday at noon; the window opens at 21:00 UTC, and at 20:00 in summer.
NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
NIGHT = NOON + timedelta(hours=9)
RULES: dict[str, Any] = {
    "enabled": True,
    "windows": (RenewWindow(cron="0 22 * * *", duration_minutes=240, time_zone="Europe/Berlin"),),
}


def cluster_of(rules: dict[str, Any], **more: Any) -> ClusterSettings:
    key = Path("key")
    given: dict[str, Any] = {"cvms": ("10.0.0.31",), "key_file": key, "known_hosts": key, "prove_first": False}
    return ClusterSettings(**given | {"restart_agent": "manual"} | more, auto_renew=AutoRenew(**RULES | rules))


@dataclass(slots=True)
class Replica:
    """One process that starts automatic renewals, with connections of its own."""

    database: Database
    jobs: Jobs
    auto: AutoRenewal


@dataclass(slots=True)
class Nights:
    """The clusters of a test; jobs are ended by the test as a worker would end them."""

    url: str
    stack: AsyncExitStack
    clusters: dict[str, ClusterSettings]
    one: Replica = field(init=False)

    async def replica(self, *, max_queued: int = 1000) -> Replica:
        database = Database(self.url)
        self.stack.push_async_callback(database.close)
        jobs = Jobs(database, WakeUps(queue_app(self.url)))
        auto = AutoRenewal(AutoRenewals(database), jobs, self.clusters, max_queued=max_queued, renewed_recently_s=86400)
        return Replica(database, jobs, auto)

    async def change(self, statement: Any) -> None:
        async with self.one.database.transaction() as connection:
            await connection.execute(statement)

    async def add(self, name: str, ends_at: datetime | None, cluster: str = "c1", **columns: Any) -> VmUuid:
        vm_uuid = VmUuid(str(uuid4()))
        seen = {"vm_uuid": vm_uuid, "cluster": cluster, "name": name, "not_after": ends_at, "power": "on"}
        source = {"certificate_source": "cvm_expiry_date", "has_entity": True, "ngt_enabled": True}
        await self.change(VM.insert().values(**seen | source | columns))
        return vm_uuid

    async def wave(self, count: int, ends_at: datetime) -> None:
        for number in range(count):
            await self.add(f"vm-{number:03}", ends_at)

    async def start(self, now: datetime) -> list[str]:
        """The names of the VMs whose renewal is started then; their jobs have that time."""
        started = await self.one.auto.start_due(now)
        return [await self.started_at(job, now) for job in started]

    async def started_at(self, job: JobRecord, now: datetime) -> str:
        await self.change(update(JOB).where(JOB.c.id == job.id).values(created_at=now))
        async with self.one.database.transaction() as connection:
            return str(await connection.scalar(select(VM.c.name).where(VM.c.vm_uuid == job.vm_uuid)))

    async def end(self, now: datetime, outcome: str = "renewed") -> None:
        """All open automatic jobs end so."""
        done = {"done": True, "outcome": outcome, "status": JobStatus.SUCCEEDED, "due_at": None, "finished_at": now}
        open_jobs = ~JOB.c.done, JOB.c.automatic_rule.is_not(None)
        if outcome == "renewed":
            renewed = select(JOB.c.vm_uuid).where(*open_jobs)
            later = {"renewed_at": now, "not_after": now + 1000 * DAY}
            await self.change(update(VM).where(VM.c.vm_uuid.in_(renewed)).values(**later))
        await self.change(update(JOB).where(*open_jobs).values(takes_slot=False, **done))

    async def night(self, evening: datetime, outcome: str = "renewed") -> list[str]:
        """All that is started in the night, with a look every half an hour, before each of which all is ended."""
        started: list[str] = []
        for minutes in range(0, 240, 30):
            now = evening + timedelta(minutes=minutes)
            begun = await self.start(now)
            assert len(begun) <= self.clusters["c1"].auto_renew.at_most_at_once
            started += begun
            await self.end(now, outcome)
        return started

    async def counted(self) -> int:
        async with self.one.database.transaction() as connection:
            return await connection.scalar(select(func.count()).select_from(JOB)) or 0


@pytest_asyncio.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


async def begin(url: str, stack: AsyncExitStack, rules: dict[str, Any] | None = None, **more: Any) -> Nights:
    nights = Nights(url, stack, {"c1": cluster_of(rules or {}, **more)})
    nights.one = await nights.replica()
    await Clusters(nights.one.database).ensure(["c1", "c2"])
    return nights


async def test_a_wave_is_renewed_night_after_night_and_no_more_at_once_than_allowed(
    database_url: str, stack: AsyncExitStack
) -> None:
    nights = await begin(database_url, stack)
    await nights.wave(30, NOON + 10 * DAY)
    assert await nights.start(NOON) == []
    assert len(await nights.start(NIGHT)) == 2
    assert await nights.start(NIGHT + timedelta(minutes=1)) == []
    await nights.end(NIGHT)
    assert len(await nights.start(NIGHT + timedelta(minutes=2))) == 1
    await nights.end(NIGHT)
    assert await nights.start(NIGHT + timedelta(hours=3, minutes=59)) == []
    each = [len(await nights.night(NIGHT + number * DAY)) for number in range(1, 11)]
    assert each == [3] * 9 + [0]


async def test_after_days_without_the_service_only_so_many_more_are_started_as_are_needed(
    database_url: str, stack: AsyncExitStack
) -> None:
    nights = await begin(database_url, stack)
    await nights.wave(30, NOON + 10 * DAY)
    each = [len(await nights.night(NIGHT + number * DAY)) for number in (0, 6, 7, 8, 9)]
    assert each == [3, 7, 7, 7, 6]


async def test_even_what_is_too_late_is_started_at_most_per_day(database_url: str, stack: AsyncExitStack) -> None:
    nights = await begin(database_url, stack, {"at_most_per_day": 4})
    await nights.wave(10, NOON + DAY)
    assert [len(await nights.night(NIGHT + number * DAY)) for number in range(4)] == [4, 4, 2, 0]


async def test_a_job_says_by_which_rule_it_was_started(database_url: str, stack: AsyncExitStack) -> None:
    nights = await begin(database_url, stack, {"restart_agent": "manual"})
    vm_uuid = await nights.add("web01", datetime(2027, 1, 10, tzinfo=UTC))
    (job,) = await nights.one.auto.start_due(NIGHT)
    assert job.automatic_rule == (
        "automatic renewal of c1: expires 2027-01-10, within before_days = 60; "
        "window 0 22 * * * for 240 min Europe/Berlin"
    )
    assert (job.caller_id, job.caller, job.cluster) == ("automatic", "automatic renewal", "c1")
    async with nights.one.database.transaction() as connection:
        request = await connection.scalar(select(JOB.c.request).where(JOB.c.vm_uuid == vm_uuid))
    wanted = {"skip_if_valid_days": 60, "cluster": "c1", "clusters": ["c1"], "restart_agent": "manual", "force": False}
    assert request is not None
    assert wanted.items() <= request.items()


async def test_a_date_that_is_only_computed_or_has_passed_is_due_and_the_rule_says_so(
    database_url: str, stack: AsyncExitStack
) -> None:
    nights = await begin(database_url, stack, {"windows": ()})
    await nights.add("gone", NOON - DAY)
    await nights.add("computed", NOON + DAY, certificate_source="computed")
    rules = [job.automatic_rule for job in await nights.one.auto.start_due(NOON)]
    assert rules == [
        "automatic renewal of c1: expired 2026-11-28, within before_days = 60; no windows: always open",
        "automatic renewal of c1: expires 2026-11-30, which is computed, within before_days = 60; "
        "no windows: always open",
    ]


@pytest.mark.parametrize(
    "columns",
    [
        {"vanished_at": NOON},
        {"name": "db-1"},
        {"not_after": None},
        {"not_after": NOON + 90 * DAY},
        {"power": "off"},
        {"has_entity": False},
        {"ngt_enabled": False},
        {"awaiting_pickup_since": NOON},
        {"renewed_at": NOON},
    ],
)
async def test_a_vm_that_the_rules_leave_out_is_not_renewed(
    database_url: str, stack: AsyncExitStack, columns: dict[str, Any]
) -> None:
    nights = await begin(database_url, stack, {"include": ("web-*",)})
    await nights.add(**{"name": "web-1", "ends_at": NOON + DAY, **_with_end(columns)})
    assert await nights.start(NIGHT) == []
    await nights.add("web-2", NOON + 2 * DAY)
    assert await nights.start(NIGHT) == ["web-2"]


def _with_end(columns: dict[str, Any]) -> dict[str, Any]:
    return {("ends_at" if name == "not_after" else name): value for name, value in columns.items()}


async def test_a_vm_that_moved_to_another_cluster_is_left_to_that_one(database_url: str, stack: AsyncExitStack) -> None:
    nights = await begin(database_url, stack)
    vm_uuid = await nights.add("web-1", NOON + DAY, last_seen_at=NOON - DAY)
    await nights.change(VM.insert().values(vm_uuid=vm_uuid, cluster="c2", name="web-1", last_seen_at=NOON))
    assert await nights.start(NIGHT) == []
    await nights.change(update(VM).where(VM.c.cluster == "c2").values(vanished_at=NOON))
    assert await nights.start(NIGHT) == ["web-1"]


async def test_nothing_is_started_where_it_is_off(database_url: str, stack: AsyncExitStack) -> None:
    nights = await begin(database_url, stack, {"enabled": False})
    await nights.add("web-1", NOON + DAY)
    assert await nights.start(NIGHT) == []


async def test_nothing_is_started_while_the_service_or_the_cluster_is_paused_or_it_was_stopped(
    database_url: str, stack: AsyncExitStack
) -> None:
    nights = await begin(database_url, stack)
    await nights.add("web-1", NOON + DAY)
    database, wakeups = nights.one.database, WakeUps(queue_app(database_url))
    clusters, pauses = Clusters(database), Pauses(database, wakeups, {})
    await clusters.pause("c1", None, "a test")
    assert await nights.start(NIGHT) == []
    await clusters.resume("c1", wakeups)
    await pauses.pause(None, None, "a test")
    assert await nights.start(NIGHT) == []
    await pauses.resume()
    await nights.change(update(CLUSTER).values(auto_stopped_at=NOON, auto_stopped_reason="3 failed"))
    assert await nights.start(NIGHT) == []
    await clusters.resume_auto_renew("c1")
    assert await nights.start(NIGHT) == ["web-1"]


async def test_nothing_is_started_beside_a_stranded_vm(database_url: str, stack: AsyncExitStack) -> None:
    nights = await begin(database_url, stack)
    await nights.add("web-1", NOON + DAY)
    await ask(nights, await nights.add("other", None), stranded_since=NOON)
    assert await nights.start(NIGHT) == []


async def test_until_a_renewal_was_proved_one_is_started_at_a_time(database_url: str, stack: AsyncExitStack) -> None:
    nights = await begin(database_url, stack, prove_first=True)
    await nights.wave(30, NOON + 10 * DAY)
    assert len(await nights.start(NIGHT)) == 1
    # Not even while it only waits for a person: it may yet turn out that renewals do not work there.
    await nights.change(update(JOB).values(takes_slot=False, status="waiting", wait_reason="agent_restart"))
    assert await nights.start(NIGHT) == []
    await nights.end(NIGHT)
    await nights.change(update(CLUSTER).values(proven_at=NIGHT))
    assert len(await nights.start(NIGHT)) == 2


async def test_what_people_asked_for_goes_first_and_nothing_queues_behind_it(
    database_url: str, stack: AsyncExitStack
) -> None:
    nights = await begin(database_url, stack, max_running=3)
    await nights.wave(30, NOON + 10 * DAY)
    for number in range(2):
        await ask(nights, await nights.add(f"asked-{number}", NOON + 900 * DAY))
    assert len(await nights.start(NIGHT)) == 1
    assert await nights.start(NIGHT) == []


async def test_a_job_that_waits_for_a_person_makes_room(database_url: str, stack: AsyncExitStack) -> None:
    nights = await begin(database_url, stack)
    await nights.wave(60, NOON + 10 * DAY)
    assert len(await nights.start(NIGHT)) == 2
    assert await nights.start(NIGHT) == []
    await nights.change(update(JOB).values(takes_slot=False, status="waiting", wait_reason="agent_restart"))
    assert len(await nights.start(NIGHT)) == 2


async def test_a_vm_that_somebody_renews_is_left_to_that_job(database_url: str, stack: AsyncExitStack) -> None:
    nights = await begin(database_url, stack)
    await ask(nights, await nights.add("web-1", NOON + DAY))
    await nights.add("web-2", NOON + 2 * DAY)
    assert await nights.start(NIGHT) == ["web-2"]


async def test_a_vm_that_could_not_be_renewed_is_tried_again_after_growing_times(
    database_url: str, stack: AsyncExitStack
) -> None:
    nights = await begin(database_url, stack)
    await nights.add("web-1", NOON + 50 * DAY)
    tried = [number for number in range(26) if await nights.night(NIGHT + number * DAY, "failed")]
    assert tried == [0, 1, 3, 7, 15, 23]


async def test_a_full_queue_and_a_cluster_of_trouble_hold_up_no_other(database_url: str, stack: AsyncExitStack) -> None:
    nights = await begin(database_url, stack)
    nights.clusters["c2"] = cluster_of({})
    full = await nights.replica(max_queued=1)
    await nights.add("web-1", NOON + DAY)
    await nights.add("web-2", NOON + DAY, cluster="c2")
    assert len(await full.auto.start_due(NIGHT)) == 1
    both = await nights.replica()
    assert len(await both.auto.start_due(NIGHT)) == 1
    assert await nights.counted() == 2


async def test_many_replicas_start_no_more_than_one_would(database_url: str, stack: AsyncExitStack) -> None:
    # Always open, in a zone where it is about noon, so that the day does not end during the test.
    zone = f"Etc/GMT{datetime.now(UTC).hour - 12:+d}"
    window = RenewWindow(cron="* * * * *", duration_minutes=1, time_zone=zone)
    nights = await begin(database_url, stack, {"windows": (window,), "at_most_at_once": 3})
    replicas = [await nights.replica() for _ in range(4)]
    await nights.wave(30, datetime.now(UTC) + 3 * DAY)
    for share in (3, 3, 3, 1):
        for _ in range(3):
            await asyncio.gather(*(replica.auto.start_due() for replica in replicas))
        async with nights.one.database.transaction() as connection:
            open_jobs = await connection.scalar(select(func.count()).select_from(JOB).where(~JOB.c.done))
        assert open_jobs == share
        await nights.end(datetime.now(UTC))


async def test_whatever_one_cluster_meets_the_others_are_served(database_url: str, stack: AsyncExitStack) -> None:
    nights = await begin(database_url, stack)
    nights.clusters["c2"] = cluster_of({})
    nights.one = await nights.replica()
    await nights.add("web-1", NOON + DAY)
    await nights.add("web-2", NOON + DAY, cluster="c2")
    await nights.change(text("ALTER TABLE job ADD CHECK (cluster <> 'c1')"))
    assert await nights.start(NIGHT) == ["web-2"]


async def test_by_the_clock_of_the_database_an_open_window_is_found(database_url: str, stack: AsyncExitStack) -> None:
    nights = await begin(database_url, stack, {"windows": (RenewWindow(cron="* * * * *", duration_minutes=1),)})
    await nights.add("web-1", datetime.now(UTC) + DAY)
    (job,) = await nights.one.auto.start_due()
    assert "window * * * * * for 1 min UTC" in (job.automatic_rule or "")


async def test_in_the_night_of_the_clock_change_there_is_one_share(database_url: str, stack: AsyncExitStack) -> None:
    """02:30 comes twice on 25 October 2026, and never on 28 March 2027; each time the window opens once."""
    window = RenewWindow(cron="30 2 * * *", duration_minutes=30, time_zone="Europe/Berlin")
    nights = await begin(database_url, stack, {"windows": (window,), "before_days": 900})
    await nights.wave(8, datetime(2027, 10, 26, tzinfo=UTC))
    for day, opens in ((date(2026, 10, 25), "00:30"), (date(2027, 3, 28), "01:30")):
        started = []
        for minutes in range(-180, 240, 30):
            now = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(minutes=minutes)
            begun = await nights.start(now)
            await nights.end(now)
            started += [f"{now:%H:%M}"] * len(begun)
        assert started == [opens]


async def ask(nights: Nights, vm_uuid: VmUuid, **columns: Any) -> None:
    """Somebody asks for a renewal of the VM."""
    request = dump_request(RenewalRequest())
    new = NewRenewal(vm_uuid, "c1", request, {}, validate_only=False, fail_on_conflict=True, caller=OPERATOR)
    job = (await nights.one.jobs.start_renewal(new)).job
    if columns:
        await nights.change(update(JOB).where(JOB.c.id == job.id).values(**columns))

"""Automatic renewals to their end, on the simulated site and with a worker.

In most tests the worker is told that automatic renewal is off, so that only the test starts something, at its own time.
"""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import select
from structlog.testing import capture_logs

from app.settings import ClusterSettings
from app.simulator.spec import ClusterSpec, SiteSpec, VmSpec, uniform_site
from app.store.auto_renew import AutoRenewals
from app.store.postgres.tables import VM
from app.store.records.jobs import JobRecord
from app.work.auto_renew import AutoRenewal
from tests.limits import LIMIT_S
from tests.work.conftest import Begin
from tests.work.service import Service, shown

HOUR = timedelta(hours=1)


def opens_at() -> datetime:
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


def rules_of(opens: datetime, **more: Any) -> dict[str, Any]:
    return {"enabled": False, "windows": [{"cron": f"0 {opens.hour} * * *", "duration_minutes": 60}], **more}


async def scanned(service: Service, *names: str, ends_at: datetime) -> None:
    """A scan saw the VMs, and that their certificates end then."""
    seen = {"cluster": "c1", "not_after": ends_at, "certificate_source": "cvm_expiry_date", "power": "on"}
    async with service.database.transaction() as connection:
        for name in names:
            await connection.execute(VM.insert().values(vm_uuid=service.uuid_of(name), name=name, **seen))


def _switched_on(cluster: ClusterSettings) -> ClusterSettings:
    return cluster.model_copy(update={"auto_renew": cluster.auto_renew.model_copy(update={"enabled": True})})


async def started(service: Service, now: datetime) -> tuple[JobRecord, ...]:
    clusters = {name: _switched_on(cluster) for name, cluster in service.settings.clusters.items()}
    auto = AutoRenewal(AutoRenewals(service.database), service.jobs, clusters, max_queued=100, renewed_recently_s=86400)
    return await auto.start_due(now)


async def test_one_is_renewed_and_then_the_others_two_at_a_time(begin: Begin) -> None:
    opens = opens_at()
    service = await begin(uniform_site(vms=3), auto_renew=rules_of(opens))
    # They end within the opening, so all of them have their turn in it.
    await scanned(service, "vm0001", "vm0002", "vm0003", ends_at=opens + HOUR / 2)
    (first,) = await started(service, opens)
    assert await started(service, opens) == ()
    done = await service.done(first)
    assert done.outcome == "renewed", shown(done)
    assert (done.automatic_rule or "").startswith("automatic renewal of c1: expires ")
    rest = await started(service, opens)
    assert len(rest) == 2
    assert await started(service, opens) == ()
    for job in rest:
        done = await service.done(job)
        assert done.outcome == "renewed", shown(done)
    assert await started(service, opens) == ()
    async with service.database.transaction() as connection:
        ends = (await connection.scalars(select(VM.c.not_after))).all()
    assert [end > datetime.now(UTC) + timedelta(days=900) for end in ends] == [True] * 3


async def test_a_certificate_that_turns_out_to_be_good_is_left_alone(begin: Begin) -> None:
    opens = opens_at()
    site = SiteSpec((ClusterSpec("c1", 3, (VmSpec("fresh", expires_in_days=900),)),))
    service = await begin(site, auto_renew=rules_of(opens))
    await scanned(service, "fresh", ends_at=opens + HOUR)
    (job,) = await started(service, opens)
    done = await service.done(job)
    assert (done.status, done.outcome) == ("skipped", "already_valid"), shown(done)
    assert service.effects_on("fresh") == []
    # It is not asked again and again.
    assert await started(service, opens) == ()


async def test_a_window_that_closes_ends_no_job_and_begins_none(begin: Begin) -> None:
    opens = opens_at()
    service = await begin(uniform_site(vms=3), prove_first=False, auto_renew=rules_of(opens))
    await scanned(service, "vm0001", "vm0002", "vm0003", ends_at=opens + HOUR)
    begun = await started(service, opens + HOUR - timedelta(seconds=1))
    assert len(begun) == 2
    assert await started(service, opens + HOUR) == ()
    for job in begun:
        done = await service.done(job)
        assert done.outcome == "renewed", shown(done)
    assert await started(service, opens + HOUR) == ()


async def test_failures_in_a_row_stop_it_and_are_logged_as_an_error(begin: Begin) -> None:
    opens = opens_at()
    names = [f"off{number}" for number in range(4)]
    site = SiteSpec((ClusterSpec("c1", 3, tuple(VmSpec(name, powered_on=False) for name in names)),))
    rules = rules_of(opens, stop_after_failures=2)
    service = await begin(site, prove_first=False, auto_renew=rules, with_worker=False)
    await scanned(service, *names, ends_at=opens + HOUR)
    with capture_logs() as logged:
        async with service.at_work():
            for job in await started(service, opens):
                done = await service.done(job)
                assert done.error_code == "vm-powered-off", shown(done)
    (error,) = [line for line in logged if line["log_level"] == "error"]
    assert error["event"] == "automatic renewal was stopped on the cluster"
    assert error["reason"].startswith("2 automatic renewals in a row failed, the last one for VM off")
    assert await started(service, opens) == ()
    await service.clusters.resume_auto_renew("c1")
    assert len(await started(service, opens)) == 2


async def test_the_worker_starts_them_by_itself(begin: Begin) -> None:
    service = await begin(uniform_site(vms=1), auto_renew={"enabled": True}, with_worker=False)
    await scanned(service, "vm0001", ends_at=datetime.now(UTC) + 24 * HOUR)
    async with await psycopg.AsyncConnection.connect(service.database.url, autocommit=True) as connection:
        await connection.execute("LISTEN ngt_job")
        async with service.at_work():
            heard = [notify.payload async for notify in connection.notifies(timeout=LIMIT_S, stop_after=1)]
            done = await service.done(await service.find(UUID(heard[0])))
    assert done.outcome == "renewed", shown(done)
    assert (done.automatic_rule or "").endswith("no windows: always open")

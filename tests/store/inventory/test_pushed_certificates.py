"""A certificate that was handed in is kept with its VM, and tells the VM's job only where it proves something."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select

from app.ngt.renewal.progress import Before, EntityStage, FoundVm, GuestSighting, Progress, Sighting, WaitReason
from app.ngt.renewal.request import RenewalRequest
from app.ngt.vocabulary import Certificate, PowerState, VmUuid
from app.store.inventory.pushed_certificates import PushedCertificates
from app.store.jobs.claims import JobClaims
from app.store.jobs.commands import Jobs
from app.store.jobs.progress_json import dump_progress, load_progress
from app.store.postgres.database import Database
from app.store.postgres.queue import WakeUps, queue_app
from app.store.postgres.tables import CERTIFICATE_OBSERVATION, JOB, VM
from app.store.records.claims import ProgressColumns, Release
from app.store.records.jobs import JobRecord
from tests.store.conftest import Leave, new_vm, renewal

NOW = datetime.now(UTC).replace(microsecond=0)
OLD = Certificate(NOW - timedelta(days=990), NOW + timedelta(days=10), "01", "f1", "CN=a", "CN=b")
NEW = Certificate(NOW - timedelta(minutes=1), NOW + timedelta(days=1000), "02", "f2", "CN=a", "CN=b")
ISSUED = NOW - timedelta(minutes=1)


@pytest.fixture
def pushed(database: Database, wakeups: WakeUps) -> PushedCertificates:
    return PushedCertificates(database, wakeups)


@pytest.fixture
def running(database: Database, wakeups: WakeUps) -> JobClaims:
    return JobClaims(database, wakeups, runner="here", lease_s=60)


def progress(vm: VmUuid, **more: Any) -> Progress:
    """The certificate is issued and mounted, and the agent has to be restarted."""
    before = GuestSighting(ISSUED, OLD, None, "10.1.0.5", "SHA256:key")
    known = Progress(
        vm_uuid=vm,
        request=RenewalRequest(),
        cluster="c1",
        vm=FoundVm("web01", PowerState.ON, (), None),
        before=Before(Sighting(ISSUED, None), before),
        entity=EntityStage.ISSUED,
        issued_at=ISSUED,
        between=Sighting(ISSUED, None),
        mounted_at=ISSUED,
        verify_by=NOW + timedelta(days=7),
    )
    return replace(known, **more)


async def waiting_job(database: Database, jobs: Jobs, leave: Leave, **columns: Any) -> JobRecord:
    vm = new_vm()
    async with database.transaction() as connection:
        await connection.execute(insert(VM).values(vm_uuid=vm, cluster="c1"))
    job = (await jobs.start_renewal(renewal(vm))).job
    left: dict[str, Any] = {"status": "waiting", "wait_reason": WaitReason.AGENT_RESTART, "due_at": None}
    await leave(job.id, **(left | {"progress": dump_progress(progress(vm))} | columns))
    return job


async def column(database: Database, job: JobRecord, *names: str) -> tuple[Any, ...]:
    async with database.transaction() as connection:
        row = (await connection.execute(select(*(JOB.c[name] for name in names)).where(JOB.c.id == job.id))).one()
        return tuple(row)


def test_the_progress_of_a_job_that_began_under_an_earlier_version_is_read() -> None:
    known = progress(new_vm())
    earlier = {name: value for name, value in dump_progress(known).items() if name != "pushed"}
    assert load_progress(earlier) == known


async def test_what_is_handed_in_is_kept_with_who_gave_it(database: Database, pushed: PushedCertificates) -> None:
    vm = new_vm()
    async with database.transaction() as connection:
        await connection.execute(insert(VM).values(vm_uuid=vm, cluster="c1"))
    await pushed.push(vm, "c1", OLD, "ansible")
    await pushed.push(vm, "c1", NEW, "puppet")
    async with database.transaction() as connection:
        (kept,) = (await connection.execute(select(CERTIFICATE_OBSERVATION))).mappings().all()
        shown = (await connection.execute(select(VM))).mappings().one()
    assert {name: kept[name] for name in Certificate.__slots__} == {
        name: getattr(NEW, name) for name in Certificate.__slots__
    }
    assert (kept["source"], kept["given_by"], kept["cluster"]) == ("pushed_certificate", "puppet", "c1")
    assert (shown["certificate_source"], shown["not_after"]) == ("pushed_certificate", NEW.not_after)


@pytest.mark.parametrize(
    "reason", [WaitReason.AGENT_RESTART, WaitReason.VM_POWERED_OFF, WaitReason.GUEST_UNREACHABLE, WaitReason.PICKUP]
)
async def test_a_job_that_waits_for_its_guest_is_woken_and_finds_it(
    database: Database, jobs: Jobs, leave: Leave, pushed: PushedCertificates, running: JobClaims, reason: WaitReason
) -> None:
    job = await waiting_job(database, jobs, leave, wait_reason=reason)
    assert await running.claim(job.id, {}) is None
    before = await jobs.find(job.id)
    await pushed.push(job.vm_uuid, "c1", NEW, "ansible")
    woken = await jobs.find(job.id)
    assert before is not None
    assert woken is not None
    assert woken.version == before.version + 1
    claim = await running.claim(job.id, {})
    assert claim is not None
    assert claim.look_now
    assert claim.pushed is not None
    assert (claim.pushed.certificate, claim.pushed.given_by) == (NEW, "ansible")
    assert claim.pushed.at > ISSUED


@pytest.mark.parametrize("nothing", [OLD, replace(NEW, serial="01"), replace(NEW, not_after=OLD.not_after)])
async def test_a_job_is_not_woken_by_what_proves_nothing(
    database: Database, jobs: Jobs, leave: Leave, pushed: PushedCertificates, nothing: Certificate
) -> None:
    job = await waiting_job(database, jobs, leave)
    before = await jobs.find(job.id)
    await pushed.push(job.vm_uuid, "c1", nothing, "ansible")
    assert await jobs.find(job.id) == before
    assert await column(database, job, "due_at", "look_now") == (None, False)


@pytest.mark.parametrize(
    "left",
    [
        {"done": True, "status": "failed", "wait_reason": None},
        {"cluster": "c2"},
        {"validate_only": True},
        {"progress": dump_progress(Progress(new_vm(), RenewalRequest())), "status": "queued", "wait_reason": None},
    ],
)
async def test_other_jobs_are_left_alone(
    database: Database, jobs: Jobs, leave: Leave, pushed: PushedCertificates, left: dict[str, Any]
) -> None:
    job = await waiting_job(database, jobs, leave, **left)
    before = await column(database, job, *JOB.c.keys())
    await pushed.push(job.vm_uuid, "c1", NEW, "ansible")
    assert await column(database, job, *JOB.c.keys()) == before


async def test_a_job_that_is_at_work_looks_as_soon_as_it_is_put_back(
    database: Database, database_url: str, jobs: Jobs, leave: Leave
) -> None:
    queue = queue_app(database_url)
    async with queue.open_async():
        running = JobClaims(database, WakeUps(queue), runner="here", lease_s=60)
        pushed = PushedCertificates(database, WakeUps(queue))
        job = await waiting_job(database, jobs, leave, due_at=NOW)
        claim = await running.claim(job.id, {})
        assert claim is not None
        assert claim.pushed is None
        await pushed.push(job.vm_uuid, "c1", NEW, "ansible")
        far = NOW + timedelta(days=7)
        back = Release("waiting", WaitReason.AGENT_RESTART, "restart it", until=far, deadline=far)
        state = ProgressColumns(claim.progress, {}, takes_slot=False, stranded=False, awaits_pickup=True)
        await running.release(claim, state, back, None)
        running.stop_heartbeat(claim)
        again = await running.claim(job.id, {})
        assert again is not None
        assert again.pushed is not None
        # Once it has looked, it waits as long as it likes.
        await running.release(again, state, back, None)
        assert await column(database, job, "due_at", "look_now") == (far, False)


async def test_pushing_while_jobs_are_put_back_locks_nobody_out_and_loses_no_news(
    database: Database, database_url: str, jobs: Jobs, leave: Leave
) -> None:
    queue = queue_app(database_url)
    async with queue.open_async():
        running = JobClaims(database, WakeUps(queue), runner="here", lease_s=60)
        pushed = PushedCertificates(database, WakeUps(queue))
        far = NOW + timedelta(days=7)
        back = Release("waiting", WaitReason.AGENT_RESTART, "restart it", until=far, deadline=far)

        async def meet(job: JobRecord) -> None:
            claim = await running.claim(job.id, {})
            assert claim is not None
            state = ProgressColumns(claim.progress, {}, takes_slot=False, stranded=False, awaits_pickup=True)
            await asyncio.gather(
                running.release(claim, state, back, None), pushed.push(job.vm_uuid, "c1", NEW, "ansible")
            )
            running.stop_heartbeat(claim)
            heard = await running.claim(job.id, {})
            assert heard is not None
            assert heard.pushed is not None

        started = [await waiting_job(database, jobs, leave, due_at=NOW) for _ in range(30)]
        await asyncio.gather(*(meet(job) for job in started))

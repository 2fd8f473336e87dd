"""Finding jobs, counting them, and reading their log."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import event, insert

from app.store.jobs.commands import Jobs
from app.store.jobs.queries import JobFilter
from app.store.postgres.database import Database
from app.store.postgres.pages import PageCursor
from app.store.postgres.tables import EXCHANGE, STEP, VM
from app.store.records.jobs import JobRecord, JobStatus
from tests.store.conftest import ANN, BEN, Leave, new_vm, renewal

DAY_1 = datetime(2020, 12, 1, tzinfo=UTC)


async def started(jobs: Jobs, **more: object) -> JobRecord:
    return (await jobs.start_renewal(renewal(**more))).job  # type: ignore[arg-type]  # by name


async def ids(jobs: Jobs, wanted: JobFilter) -> list[UUID]:
    return [job.id for job in await jobs.list(wanted)]


async def test_pages_hold_every_job_once_newest_first(jobs: Jobs, leave: Leave) -> None:
    made = [await started(jobs) for _ in range(7)]
    for job in made[:3]:
        await leave(job.id, created_at=DAY_1)
    seen: list[JobRecord] = []
    after: PageCursor | None = None
    while page := await jobs.list(JobFilter(), limit=2, after=after):
        assert len(page) <= 2
        seen.extend(page)
        after = PageCursor(page[-1].created_at, page[-1].id)
    assert len({job.id for job in seen}) == 7
    assert seen == sorted(seen, key=lambda job: (job.created_at, job.id), reverse=True)


async def test_a_new_job_does_not_move_the_pages_below_it(jobs: Jobs) -> None:
    made = [await started(jobs) for _ in range(4)]
    (first, second) = await jobs.list(JobFilter(), limit=2)
    await started(jobs)
    rest = await jobs.list(JobFilter(), after=PageCursor(second.created_at, second.id))
    assert [job.id for job in (first, second, *rest)] == [job.id for job in reversed(made)]


async def test_each_filter_finds_its_jobs_and_no_others(jobs: Jobs, leave: Leave) -> None:
    vm_uuid = new_vm()
    wanted = await started(jobs, vm_uuid=vm_uuid, cluster="c2", change_number="CHG1", correlation_id="RITM1")
    other = await started(jobs, change_number="CHG2", correlation_id="RITM2")
    await leave(wanted.id, status="waiting")
    await leave(other.id, status="failed", done=True, created_at=DAY_1)
    for filter_ in (
        JobFilter(status=JobStatus.WAITING),
        JobFilter(done=False),
        JobFilter(vm_uuid=vm_uuid),
        JobFilter(cluster="c2"),
        JobFilter(change_number="CHG1"),
        JobFilter(correlation_id="RITM1"),
        JobFilter(created_after=DAY_1 + timedelta(seconds=1)),
        JobFilter(job_ids=(wanted.id,)),
        JobFilter(done=False, cluster="c2", correlation_id="RITM1"),
    ):
        assert await ids(jobs, filter_) == [wanted.id], filter_
    assert await ids(jobs, JobFilter(created_before=DAY_1 + timedelta(seconds=1))) == [other.id]
    assert await ids(jobs, JobFilter(created_after=DAY_1, created_before=DAY_1)) == []
    assert await ids(jobs, JobFilter(job_ids=())) == []


async def test_a_joined_request_is_found_by_its_own_correlation_id(jobs: Jobs) -> None:
    first = await started(jobs, correlation_id="RITM1")
    await jobs.start_renewal(renewal(first.vm_uuid, correlation_id="RITM2"))
    await jobs.start_renewal(renewal(first.vm_uuid, correlation_id="RITM2"))
    assert await ids(jobs, JobFilter(correlation_id="RITM1")) == [first.id]
    assert await ids(jobs, JobFilter(correlation_id="RITM2")) == [first.id]


async def test_a_key_of_some_clusters_sees_their_jobs_and_its_own_of_no_cluster_yet(jobs: Jobs) -> None:
    allowed = await started(jobs, cluster="c1")
    own = await started(jobs, cluster=None, caller=BEN)
    hidden = [await started(jobs, cluster="c2"), await started(jobs, cluster=None)]
    assert await ids(jobs, JobFilter(caller=BEN)) == [own.id, allowed.id]
    assert [job.visible_to(BEN) for job in (allowed, own, *hidden)] == [True, True, False, False]
    assert len(await ids(jobs, JobFilter(caller=ANN))) == 4


async def test_a_list_has_each_jobs_steps_and_asks_twice_whatever_its_length(jobs: Jobs, database: Database) -> None:
    made = [await started(jobs) for _ in range(5)]
    async with database.transaction() as connection:
        for job in made:
            for number, name in ((2, "read_ngt_before"), (1, "find_vm")):
                step = {"job_id": job.id, "number": number, "name": name, "attempt": 1, "status": "succeeded"}
                await connection.execute(insert(STEP).values(**step, started_at=DAY_1, message=""))
    asked: list[str] = []
    async with database.transaction() as connection:
        engine = connection.engine.sync_engine
    event.listen(engine, "before_cursor_execute", lambda _c, _u, statement, *_: asked.append(statement))
    listed = await jobs.list(JobFilter())
    assert all([step.name for step in job.steps] == ["find_vm", "read_ngt_before"] for job in listed)
    assert len(asked) == 2
    found = await jobs.find(made[0].id)
    assert found is not None
    assert found.steps == listed[-1].steps


async def test_the_log_is_in_the_order_of_sending(jobs: Jobs, database: Database) -> None:
    job, other = await started(jobs), await started(jobs)
    async with database.transaction() as connection:
        for owner, sent in ((job, "ncli vm ls"), (other, "something else"), (job, "ncli ngt get")):
            row = {"job_id": owner.id, "step": "find_vm", "place": "10.0.0.31", "sent_at": DAY_1, "sent": sent}
            await connection.execute(insert(EXCHANGE).values(**row))
    assert [each.sent for each in await jobs.read_log(job.id)] == ["ncli vm ls", "ncli ngt get"]
    assert await jobs.read_log(UUID(int=1)) == ()


async def test_the_numbers_for_metrics(jobs: Jobs, database: Database, leave: Leave) -> None:
    assert await jobs.counts() == await jobs.counts()
    queued = [await started(jobs), await started(jobs)]
    stranded, done = await started(jobs, cluster="c2"), await started(jobs)
    await leave(queued[0].id, created_at=DAY_1)
    await leave(stranded.id, status="waiting", stranded_since=DAY_1)
    await leave(done.id, status="failed", done=True, stranded_since=DAY_1)
    async with database.transaction() as connection:
        for cluster, since, gone in (
            ("c1", DAY_1, None), ("c1", DAY_1, None), ("c1", DAY_1, DAY_1), ("c2", None, None),
        ):  # fmt: skip
            vm = {"vm_uuid": new_vm(), "cluster": cluster, "awaiting_pickup_since": since, "vanished_at": gone}
            await connection.execute(insert(VM).values(**vm))
    counts = await jobs.counts()
    assert counts.open_by_status == {JobStatus.QUEUED: 2, JobStatus.WAITING: 1}
    assert counts.oldest_queued_at == DAY_1
    assert counts.stranded == {"c2": 1}
    assert counts.awaiting_pickup == {"c1": 2}
    for job, pause in zip(queued, ("cluster_paused", "service_paused"), strict=True):
        await leave(job.id, wait_reason=pause)
    assert (await jobs.counts()).oldest_queued_at is None

"""Several workers on one database: each job is done once, and nobody waits for a worker that is gone."""

import signal
from collections import Counter
from itertools import pairwise

from app.simulator.faults import Does, ToolFault
from app.simulator.journal import Effect, Journal, Kind
from app.simulator.spec import uniform_site
from app.store.records.jobs import JobRecord
from tests.crash.victim import End, Point
from tests.crash.victims import Victims, nothing_at_work, until
from tests.work.clusters.test_slots_and_pauses import peak
from tests.work.conftest import Begin
from tests.work.service import Service, shown

# The limits of the tools in one text, without the window to begin in and the margin.
_BOUND_S = 4.0


async def _renew_all(service: Service, count: int) -> list[JobRecord]:
    return [await service.renew(f"vm{number:04}") for number in range(1, count + 1)]


async def _all_done(service: Service, jobs: list[JobRecord]) -> None:
    for job in jobs:
        done = await service.done(job)
        assert done.outcome == "renewed", shown(done)
        assert service.is_renewed(service.site.vm(done.vm_uuid))


def _effects(journal: Journal) -> Counter[str]:
    return Counter(record.text for record in journal.of(Kind.EFFECT))


async def test_two_workers_share_fifty_jobs_and_do_each_once(begin: Begin, victims: Victims) -> None:
    service = await begin(uniform_site(vms=50), with_worker=False, prove_first=False, max_running=3)
    jobs = await _renew_all(service, 50)
    for _ in range(2):
        await victims.begin(service)
    await _all_done(service, jobs)
    journal = service.site.journal
    assert peak(journal.changes()) <= 3
    assert journal.peak_without_entity("c1") <= 3
    effects = _effects(journal)
    assert effects[Effect.DELETED] == effects[Effect.CREATED] == effects[Effect.MOUNTED] == 50
    assert effects[Effect.AGENT_RESTARTED] == 50
    # Both have worked: each has its own connection.
    assert journal.logins("c1-cvm0") == 2


async def test_what_a_killed_worker_had_is_taken_over_and_an_unanswered_change_waits_for_its_bound(
    begin: Begin, victims: Victims
) -> None:
    service = await begin(uniform_site(vms=7), with_worker=False, prove_first=False, max_running=3)
    service.site.tool_port.latency_s["nutanix_guest_tools_cli"] = 0.1
    jobs = await _renew_all(service, 7)
    doomed = await victims.begin(service)
    journal = service.site.journal
    await until(lambda: len(journal.calls("delete_vm_tools_entity")) >= 2)
    await victims.killed(doomed)
    async with service.at_work():
        await _all_done(service, jobs)
    await nothing_at_work(service)
    assert _effects(journal)[Effect.DELETED] == 7
    pauses = [pause for job in jobs for pause in await _after_unanswered_texts(service, job)]
    assert pauses, "the worker was killed while nothing was under way"
    assert min(pauses) > _BOUND_S


async def _after_unanswered_texts(service: Service, job: JobRecord) -> list[float]:
    """How many seconds after a text whose answer nobody stored the next one was sent for that VM."""
    unanswered = {sent.sent for sent in await service.jobs.read_log(job.id) if sent.answered_at is None}
    texts = service.site.journal.changes(job.vm_uuid)
    return [later.at - text.at for text, later in pairwise(texts) if text.text in unanswered]


async def test_a_worker_that_is_asked_to_stop_finishes_its_change_and_leaves_the_rest(
    begin: Begin, victims: Victims
) -> None:
    service = await begin(uniform_site(vms=2), with_worker=False)
    service.site.order(ToolFault(does=Does.SLOW, sub_command="create_vm_tools_entity", seconds=1))
    job = await service.renew("vm0001")
    stopped = await victims.begin(service)
    await until(lambda: Effect.DELETED in service.effects_on("vm0001"))
    victims.send(stopped, signal.SIGTERM)
    await victims.gone(stopped)
    left = await service.find(job.id)
    assert [(step.name, step.status) for step in left.steps][-1] == ("recreate_entity", "succeeded"), shown(left)
    assert (left.status, left.done) == ("queued", False), shown(left)
    assert service.effects_on("vm0001") == [Effect.DELETED, Effect.CREATED]
    async with service.at_work():
        await _all_done(service, [job])
    assert service.effects_on("vm0001").count(Effect.DELETED) == 1


async def test_a_create_that_is_refused_everywhere_for_a_while_strands_no_more_than_may_run(
    begin: Begin, victims: Victims
) -> None:
    service = await begin(uniform_site(vms=8), with_worker=False, prove_first=False, max_running=3)
    service.site.order(ToolFault(does=Does.REFUSE, sub_command="create_vm_tools_entity", times=40))
    jobs = await _renew_all(service, 8)
    # Two workers, of which one is killed in the middle of it.
    doomed = await victims.begin(service)
    async with service.at_work():
        await until(lambda: len(service.site.journal.calls("create_vm_tools_entity")) > 10)
        assert 1 <= (await service.jobs.counts()).stranded["c1"] <= 3
        await victims.killed(doomed)
        await _all_done(service, jobs)
    await nothing_at_work(service)
    journal = service.site.journal
    assert 1 <= journal.peak_without_entity("c1") <= 3
    assert journal.without_entity("c1") == frozenset()
    assert (await service.jobs.counts()).stranded == {}
    assert _effects(journal)[Effect.DELETED] == 8


async def test_a_worker_that_froze_for_longer_than_its_lease_writes_nothing_any_more(
    begin: Begin, victims: Victims
) -> None:
    service = await begin(uniform_site(vms=2), with_worker=False)
    job = await service.renew("vm0001")
    frozen = await victims.begin(service, job=str(job.id), step="mount_iso", point=Point.BEFORE_ANSWER, end=End.FREEZE)
    await until(lambda: Effect.MOUNTED in service.effects_on("vm0001"))
    async with service.at_work():
        done = await service.done(job)
        assert done.outcome == "renewed", shown(done)
        victims.send(frozen, signal.SIGCONT)
        await victims.gone(frozen)
    again = await service.find(job.id)
    assert again == done

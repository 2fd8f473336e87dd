"""Slots, the first proof, pauses and the search, for a cluster as a whole."""

from collections.abc import Iterable

from app.simulator.faults import Does, ToolFault
from app.simulator.journal import Record
from app.simulator.spec import ClusterSpec, SiteSpec, VmSpec, uniform_site
from tests.work.conftest import Begin
from tests.work.service import shown

_NEVER = float("inf")


def _names(count: int) -> list[str]:
    return [f"vm{number:04}" for number in range(1, count + 1)]


def peak(records: Iterable[Record]) -> int:
    """The greatest number of these that went on at one moment."""
    events = sorted(
        (number, step)
        for record in records
        for number, step in ((record.number, 1), (record.ended_number or 1 << 60, -1))
    )
    running = most = 0
    for _, step in events:
        running += step
        most = max(most, running)
    return most


async def test_no_more_renewals_change_a_cluster_at_a_time_than_it_allows(begin: Begin) -> None:
    service = await begin(uniform_site(vms=9), max_running=2, prove_first=False)
    service.site.tool_port.latency_s["nutanix_guest_tools_cli"] = 0.05
    jobs = [await service.renew(name) for name in _names(9)]
    for job in jobs:
        done = await service.done(job)
        assert done.outcome == "renewed", shown(done)
    assert peak(service.site.journal.changes()) == 2
    assert service.site.journal.peak_without_entity("c1") <= 2


async def test_until_one_renewal_was_proved_they_run_one_at_a_time(begin: Begin) -> None:
    service = await begin(uniform_site(vms=4), max_running=4)
    service.site.vm_named("vm0001").pickup_delay_s = 1
    first = await service.renew("vm0001")
    await service.wait_until(first, lambda now: now.status == "running")
    others = [await service.renew(name) for name in _names(4)[1:]]
    for job in others:
        held = await service.waits(job, "cluster_not_proven")
        assert held.wait_reason == "cluster_not_proven", shown(held)
    assert (await service.done(first)).outcome == "renewed"
    proved_at = len(service.site.journal.records)
    for job in others:
        done = await service.done(job)
        assert done.outcome == "renewed", shown(done)
    deletes = service.site.journal.calls("delete_vm_tools_entity")
    picked_up = next(one for one in service.site.journal.records if one.text == "certificate picked up")
    assert all(delete.number > picked_up.number for delete in deletes[1:])
    assert proved_at > 0


async def test_five_renewals_in_a_row_that_were_not_proved_pause_the_cluster(begin: Begin) -> None:
    service = await begin(uniform_site(vms=7), limits={"verify_timeout_ssh_s": 0.5}, prove_first=False)
    for vm in service.site.clusters["c1"].vms.values():
        vm.pickup_delay_s = _NEVER
    for name in _names(5):
        assert (await service.renewed(name)).outcome == "failed"
    (cluster,) = await service.clusters.list(["c1"])
    assert cluster.paused_at is not None
    assert cluster.pause_reason is not None
    assert "5 renewals in a row were not proved" in cluster.pause_reason
    held = await service.waits(await service.renew("vm0006"), "cluster_paused")
    assert held.wait_reason == "cluster_paused", shown(held)
    service.site.vm_named("vm0006").pickup_delay_s = 0
    await service.clusters.resume("c1", service.wakeups)
    assert (await service.done(held)).outcome == "renewed"


async def test_one_proof_among_failures_keeps_the_cluster_going(begin: Begin) -> None:
    service = await begin(uniform_site(vms=9), limits={"verify_timeout_ssh_s": 0.5}, prove_first=False)
    for name in _names(9):
        if name != "vm0005":
            service.site.vm_named(name).pickup_delay_s = _NEVER
    for name in _names(9):
        await service.renewed(name)
    (cluster,) = await service.clusters.list(["c1"])
    assert (cluster.paused_at, cluster.unproven_in_a_row) == (None, 4)


async def test_a_pause_holds_jobs_that_have_not_begun_to_change_and_no_others(begin: Begin) -> None:
    service = await begin(uniform_site(vms=3), prove_first=False)
    service.site.order(ToolFault(does=Does.SLOW, sub_command="delete_vm_tools_entity", seconds=1))
    begun = await service.renew("vm0001")
    await service.wait_until(begun, lambda now: now.current_step == "recreate_entity")
    await service.clusters.pause("c1", "maintenance", "a test")
    held = await service.waits(await service.renew("vm0002"), "cluster_paused")
    assert held.wait_reason == "cluster_paused", shown(held)
    assert (await service.done(begun)).outcome == "renewed"
    assert service.effects_on("vm0002") == []
    await service.clusters.resume("c1", service.wakeups)
    done = await service.done(held)
    assert done.outcome == "renewed", shown(done)


async def test_a_job_that_only_looked_so_far_is_held_by_a_pause_too(begin: Begin) -> None:
    service = await begin(uniform_site(vms=2))
    # Its first look is on its way when the pause comes.
    service.site.order(ToolFault(does=Does.SLOW, sub_command="query_vm_tools_entities", seconds=1))
    job = await service.renew("vm0001")
    await service.wait_until(job, lambda now: now.current_step == "read_ngt_before")
    await service.clusters.pause("c1", "maintenance", "a test")
    held = await service.waits(job, "cluster_paused")
    assert held.wait_reason == "cluster_paused", shown(held)
    assert service.effects_on("vm0001") == []
    await service.clusters.resume("c1", service.wakeups)
    done = await service.done(held)
    assert done.outcome == "renewed", shown(done)


async def test_many_that_wait_for_a_person_hold_nobody_up(begin: Begin) -> None:
    service = await begin(uniform_site(vms=4), guests=False, max_running=1, prove_first=False)
    for name in _names(4):
        waiting = await service.waits(await service.renew(name), "agent_restart")
        assert waiting.wait_reason == "agent_restart", shown(waiting)


async def test_a_retry_finds_a_vm_that_has_moved_to_another_cluster(begin: Begin) -> None:
    roaming = VmSpec("roaming", uuid="0b51c1c5-94fb-4a5c-9a31-d1d5e8d19c41")
    two = (ClusterSpec("c1", 1, (VmSpec("stays"), roaming)), ClusterSpec("c2", 1, (VmSpec("stays"), roaming)))
    service = await begin(SiteSpec(two), limits={"listing_max_age_s": 0.01}, guests=False)
    here, there = (service.site.clusters[name].vms for name in ("c1", "c2"))
    assert roaming.uuid is not None
    moved = there.pop(roaming.uuid)
    service.site.order(ToolFault(does=Does.REFUSE, sub_command="delete_vm_tools_entity"))
    job = await service.renewed("roaming")
    assert (job.error_code, job.cluster) == ("entity-delete-failed", "c1"), shown(job)
    here.pop(roaming.uuid)
    there[roaming.uuid] = moved
    await service.jobs.retry(job.id)
    await service.waits(job, "agent_restart")
    service.site.clusters["c2"].restart_agent(moved.uuid)
    done = await service.done(job)
    assert (done.outcome, done.cluster) == ("renewed", "c2"), shown(done)
    assert service.is_renewed(moved)

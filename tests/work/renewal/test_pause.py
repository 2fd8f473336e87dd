"""The pause of the whole service with a worker at work: what is held, what goes on, and that it ends by itself."""

from datetime import UTC, datetime, timedelta

from app.simulator.faults import Does, ToolFault
from app.simulator.spec import ClusterSpec, SiteSpec, VmSpec, uniform_site
from app.store.jobs.service_pause import Pauses
from tests.work.conftest import Begin
from tests.work.service import Service, shown

TWO_CLUSTERS = SiteSpec((ClusterSpec("c1", 1, (VmSpec("here"),)), ClusterSpec("c2", 1, (VmSpec("there"),))))


def pauses_of(service: Service) -> Pauses:
    slots = {name: cluster.slots for name, cluster in service.worker.clusters.items()}
    return Pauses(service.database, service.wakeups, slots)


async def test_a_pause_holds_every_cluster_and_resuming_lets_all_go_on(begin: Begin) -> None:
    service = await begin(TWO_CLUSTERS)
    pauses = pauses_of(service)
    await pauses.pause("maintenance", None, "a test")
    jobs = [await service.renew("here", search=("c1",)), await service.renew("there", search=("c2",))]
    for job in jobs:
        held = await service.wait_until(job, lambda now: now.due_at is None)
        assert (held.status, held.wait_reason) == ("queued", "service_paused"), shown(held)
    assert service.site.journal.calls("delete_vm_tools_entity") == []
    await pauses.resume()
    for job in jobs:
        done = await service.done(job)
        assert done.outcome == "renewed", shown(done)


async def test_a_pause_ends_by_itself_and_the_sweep_starts_what_it_held(begin: Begin) -> None:
    service = await begin(uniform_site(vms=2), prove_first=False)
    until = datetime.now(UTC) + timedelta(seconds=1.5)
    await pauses_of(service).pause("maintenance", until, "a test")
    jobs = [await service.renew(name) for name in ("vm0001", "vm0002")]
    held = await service.wait_until(jobs[0], lambda now: now.due_at is None)
    assert f"until {until:%Y-%m-%dT%H:%M:%SZ}" in held.message
    for job in jobs:
        done = await service.done(job)
        assert done.outcome == "renewed", shown(done)
        assert all(step.started_at >= until for step in done.steps)
    assert (await pauses_of(service).state()).pause is None


async def test_what_has_begun_to_change_is_finished_while_the_service_is_paused(begin: Begin) -> None:
    service = await begin(uniform_site(vms=2), prove_first=False)
    service.site.order(ToolFault(does=Does.SLOW, sub_command="delete_vm_tools_entity", seconds=1))
    begun = await service.renew("vm0001")
    await service.wait_until(begun, lambda now: now.current_step == "recreate_entity")
    pauses = pauses_of(service)
    await pauses.pause(None, None, "a test")
    held = await service.waits(await service.renew("vm0002"), "service_paused")
    done = await service.done(begun)
    assert done.outcome == "renewed", shown(done)
    assert service.effects_on("vm0002") == []
    await pauses.resume()
    assert (await service.done(held)).outcome == "renewed"


async def test_a_create_is_never_held(begin: Begin) -> None:
    service = await begin(uniform_site(vms=1))
    service.site.order(ToolFault(does=Does.REFUSE, sub_command="create_vm_tools_entity", times=3))
    job = await service.renew("vm0001")
    await service.waits(job, "entity_missing")
    await pauses_of(service).pause(None, None, "a test")
    done = await service.done(job)
    assert done.outcome == "renewed", shown(done)


async def test_a_job_that_only_looked_so_far_is_held_before_its_change(begin: Begin) -> None:
    service = await begin(uniform_site(vms=1))
    service.site.order(ToolFault(does=Does.SLOW, sub_command="query_vm_tools_entities", seconds=1))
    job = await service.renew("vm0001")
    await service.wait_until(job, lambda now: now.current_step == "read_ngt_before")
    pauses = pauses_of(service)
    await pauses.pause(None, None, "a test")
    held = await service.waits(job, "service_paused")
    assert held.wait_reason == "service_paused", shown(held)
    assert service.effects_on("vm0001") == []
    await pauses.resume()
    assert (await service.done(job)).outcome == "renewed"


async def test_a_vm_is_looked_for_and_a_plan_is_made_while_the_service_is_paused(begin: Begin) -> None:
    service = await begin(TWO_CLUSTERS)
    pauses = pauses_of(service)
    await pauses.pause(None, None, "a test")
    planned = await service.renewed("here", validate_only=True)
    assert planned.outcome == "planned", shown(planned)
    somewhere = await service.wait_until(await service.renew("there"), lambda now: now.cluster is not None)
    held = await service.wait_until(somewhere, lambda now: now.due_at is None)
    assert (held.cluster, held.wait_reason) == ("c2", "service_paused"), shown(held)
    assert service.effects_on("there") == []
    await pauses.resume()
    assert (await service.done(held)).outcome == "renewed"

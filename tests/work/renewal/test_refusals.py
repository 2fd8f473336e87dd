"""What is refused before anything was changed, and what is done where the request or the configuration says so."""

from collections.abc import Awaitable, Callable

import pytest

from app.ngt.renewal.request import RestartAgent, WhenPoweredOff
from app.simulator.journal import Effect, Kind
from app.simulator.spec import ClusterSpec, ReportedExpiry, SiteSpec, Traits, VmSpec, uniform_site
from app.store.records.jobs import JobRecord
from tests.work.conftest import Begin
from tests.work.service import Service, shown

_INVISIBLE = Traits(reported_expiry=ReportedExpiry.ABSENT)


def _refused(service: Service, vm: str, job: JobRecord, error_code: str) -> None:
    """The job failed with that, and the VM was not touched."""
    assert (job.outcome, job.error_code) == ("failed", error_code), shown(job)
    assert service.site.journal.changes(service.uuid_of(vm)) == []
    assert service.effects_on(vm) == []


# Where the VM is.


async def test_of_several_clusters_the_one_that_has_the_vm_is_found(begin: Begin) -> None:
    service = await begin(uniform_site(vms=2, clusters=3))
    vm = next(vm for vm in service.site.clusters["c2"].vms.values() if vm.name == "vm0001")
    job = await service.renewed(vm)
    assert (job.outcome, job.cluster) == ("renewed", "c2"), shown(job)
    assert service.is_renewed(vm)
    assert service.site.journal.calls("delete_vm_tools_entity", cluster="c1") == []


async def test_a_vm_that_no_cluster_has_is_not_found(begin: Begin) -> None:
    service = await begin(uniform_site(vms=2, clusters=2))
    stranger = service.site.clusters["c1"].vms.pop(service.uuid_of("vm0001"))
    job = await service.renewed(stranger)
    assert job.error_code == "vm-not-found", shown(job)


async def test_while_a_cluster_is_silent_a_vm_is_not_said_to_be_nowhere(begin: Begin) -> None:
    service = await begin(uniform_site(vms=2, clusters=2))
    stranger = service.site.clusters["c1"].vms.pop(service.uuid_of("vm0001"))
    for cvm in service.site.cvms["c2"]:
        await cvm.down()
    job = await service.renewed(stranger)
    assert job.error_code == "cvm-unreachable", shown(job)


async def test_a_vm_that_was_found_is_renewed_although_another_cluster_is_silent(begin: Begin) -> None:
    service = await begin(uniform_site(vms=2, clusters=2))
    for cvm in service.site.cvms["c2"]:
        await cvm.down()
    job = await service.renewed("vm0001")
    assert job.outcome == "renewed", shown(job)


async def test_a_vm_that_two_clusters_have_is_touched_on_neither(begin: Begin) -> None:
    one = VmSpec("moved", uuid="0b51c1c5-94fb-4a5c-9a31-d1d5e8d19c41")
    service = await begin(SiteSpec((ClusterSpec("c1", 1, (one,)), ClusterSpec("c2", 1, (one,)))))
    _refused(service, "moved", await service.renewed("moved"), "vm-found-twice")


async def test_a_controller_vm_is_refused(service: Service) -> None:
    _refused(service, "NTNX-CVM-A", await service.renewed("NTNX-CVM-A"), "controller-vm")


# VMs that are off.


async def test_a_vm_that_is_off_is_refused(service: Service) -> None:
    _refused(service, "switched-off", await service.renewed("switched-off"), "vm-powered-off")


async def test_a_vm_that_is_off_is_renewed_at_its_next_start_where_that_is_asked_for(service: Service) -> None:
    job = await service.renew("switched-off", when_powered_off=WhenPoweredOff.PROCEED)
    waiting = await service.waits(job, "vm_powered_off")
    assert waiting.wait_reason == "vm_powered_off", shown(waiting)
    assert "start VM 'switched-off'" in waiting.message
    assert service.effects_on("switched-off") == [Effect.DELETED, Effect.CREATED, Effect.MOUNTED]
    await service.site.switch_power(service.uuid_of("switched-off"), on=True)
    done = await service.done(job)
    assert done.outcome == "renewed", shown(done)
    assert service.is_renewed("switched-off")


# VMs without an entity.


async def test_ngt_is_not_switched_on_by_a_typing_error(service: Service) -> None:
    _refused(service, "web01-clone", await service.renewed("web01-clone"), "ngt-not-enabled")


async def test_a_clone_gets_an_entity_and_a_certificate_of_its_own_where_that_is_asked_for(service: Service) -> None:
    job = await service.renewed("web01-clone", create_if_absent=True)
    assert job.outcome == "renewed", shown(job)
    assert service.is_renewed("web01-clone")
    assert service.site.journal.calls("delete_vm_tools_entity") == []
    assert service.effects_on("web01") == []


async def test_the_only_vm_of_a_cluster_gets_its_entity_back(begin: Begin) -> None:
    service = await begin(SiteSpec((ClusterSpec("c1", 1, (VmSpec("alone", entity=False),)),)))
    _refused(service, "alone", await service.renewed("alone"), "ngt-not-enabled")
    job = await service.renewed("alone", create_if_absent=True)
    assert job.outcome == "renewed", shown(job)


# What could not be proved, or not be finished.


async def _without_guest_access(begin: Begin) -> Service:
    return await begin(uniform_site(vms=2, traits=_INVISIBLE), guests=False)


async def _with_a_guest_that_is_not_reached(begin: Begin) -> Service:
    service = await begin(uniform_site(vms=2, traits=_INVISIBLE))
    await service.site.guests[service.uuid_of("vm0001")].down()
    return service


@pytest.mark.parametrize("situation", [_without_guest_access, _with_a_guest_that_is_not_reached])
async def test_what_could_not_be_proved_is_refused_before_anything_was_changed(
    begin: Begin, situation: Callable[[Begin], Awaitable[Service]]
) -> None:
    service = await situation(begin)
    job = await service.renewed("vm0001", restart_agent=RestartAgent.MANUAL)
    _refused(service, "vm0001", job, "not-verifiable")


async def test_a_plan_can_be_read_where_there_is_no_way_into_the_guest(begin: Begin) -> None:
    service = await _without_guest_access(begin)
    plan = (await service.renewed("vm0001", validate_only=True)).results.plan
    assert plan is not None
    assert (plan.guest_address, plan.refusal_codes) == (None, ("not-verifiable",))


async def test_an_unproved_renewal_is_called_unverified_and_only_where_that_is_accepted(begin: Begin) -> None:
    service = await begin(uniform_site(vms=2, traits=_INVISIBLE), guests=False)
    job = await service.renew("vm0001", accept_unverified=True)
    waiting = await service.waits(job, "agent_restart")
    assert waiting.wait_reason == "agent_restart", shown(waiting)
    service.site.clusters["c1"].restart_agent(service.uuid_of("vm0001"))
    done = await service.done(job)
    assert (done.status, done.outcome) == ("succeeded", "unverified"), shown(done)
    assert done.results.verified_by == "link_only"
    assert done.results.new_not_after is None


async def test_a_guest_that_is_not_reached_is_found_out_before_the_delete(service: Service) -> None:
    await service.site.guests[service.uuid_of("web02")].down()
    _refused(service, "web02", await service.renewed("web02"), "guest-not-reached")


async def test_a_guest_with_another_host_key_is_not_asked_anything(service: Service) -> None:
    service.site.guests[service.uuid_of("web02")].serve_wrong_host_key()
    _refused(service, "web02", await service.renewed("web02"), "ssh-host-key-mismatch")
    assert service.site.journal.of(Kind.GUEST, vm_uuid=service.uuid_of("web02")) == []


async def test_a_guest_that_refuses_the_login_is_asked_once(service: Service) -> None:
    service.site.guests[service.uuid_of("web02")].faults.login_refused = True
    _refused(service, "web02", await service.renewed("web02"), "ssh-auth-failed")
    assert len(service.site.journal.of(Kind.LOGIN_REFUSED, host=service.uuid_of("web02"))) == 1


async def test_without_a_way_into_the_guest_a_restart_over_ssh_is_refused(begin: Begin) -> None:
    service = await begin(guests=False)
    job = await service.renewed("web02", restart_agent=RestartAgent.SSH)
    _refused(service, "web02", job, "agent-restart-not-possible")

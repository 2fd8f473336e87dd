"""Jobs that wait: for a person, for the guest, for a CD-ROM slot; and what counts as renewed when they are woken."""

from typing import Any

import pytest

from app.ngt.errors import Fault, FaultCode
from app.ngt.renewal.request import RestartAgent
from app.ngt.tools.certificate import parse_certificate
from app.ngt.vocabulary import Certificate, VmUuid
from app.simulator.certificates import issue, pem_of
from app.simulator.faults import Does, ToolFault
from app.simulator.journal import Effect, Kind
from app.simulator.spec import ClusterSpec, ReportedExpiry, SiteSpec, Traits, VmSpec, uniform_site
from app.store.inventory.pushed_certificates import PushedCertificates
from app.store.inventory.vms import Vms
from app.store.records.jobs import JobRecord
from tests.work.conftest import Begin
from tests.work.service import OPERATOR, Service, shown

_NEVER = float("inf")


async def _waits(service: Service, vm: str, wait_reason: str, **request: Any) -> JobRecord:
    job = await service.waits(await service.renew(vm, **request), wait_reason)
    assert job.wait_reason == wait_reason, shown(job)
    return job


def _restart(service: Service, vm: str) -> None:
    """As a person does in the guest."""
    uuid = service.uuid_of(vm)
    service.site.cluster_of(uuid).restart_agent(uuid)


# Restarts by hand.


async def test_a_manual_restart_is_asked_for_with_the_command_and_noticed_by_the_watch(begin: Begin) -> None:
    service = await begin(restart_agent="manual")
    job = await _waits(service, "web02", "agent_restart")
    assert "restart the agent in VM 'web02'" in job.message
    assert "sudo systemctl restart ngt_guest_agent" in job.message
    assert job.deadline_at is not None
    _restart(service, "web02")
    done = await service.done(job)
    assert (done.outcome, done.results.verified_by) == ("renewed", "guest_certificate"), shown(done)
    assert service.effects_on("web02").count(Effect.AGENT_RESTARTED) == 1


async def test_without_a_way_into_the_guest_the_date_that_the_cluster_shows_is_the_proof(begin: Begin) -> None:
    service = await begin(guests=False)
    job = await _waits(service, "web02", "agent_restart")
    _restart(service, "web02")
    done = await service.done(job)
    assert (done.outcome, done.results.verified_by) == ("renewed", "cvm_expiry_date"), shown(done)


async def test_a_report_that_the_agent_was_restarted_makes_the_job_look_at_once(begin: Begin) -> None:
    slow = {"watch_first_interval_s": 600, "watch_last_interval_s": 600, "guest_read_delays_s": [600]}
    service = await begin(limits=slow, restart_agent="manual", verify_timeout_s=900)
    job = await _waits(service, "web02", "agent_restart")
    await service.jobs.report_agent_restarted(job.id)
    again = await service.wait_until(job, lambda now: now.version > job.version + 1 and now.status == "waiting")
    assert again.wait_reason == "agent_restart", shown(again)
    _restart(service, "web02")
    await service.jobs.report_agent_restarted(job.id)
    done = await service.done(job)
    assert done.outcome == "renewed", shown(done)


async def test_a_date_that_was_shown_before_the_iso_was_mounted_proves_nothing(begin: Begin) -> None:
    # This cluster shows the date of what it issued, whoever has it.
    traits = Traits(reported_expiry=ReportedExpiry.ISSUED, serial_port=True)
    service = await begin(uniform_site(vms=2, traits=traits), guests=False, verify_timeout_s=2)
    job = await service.renewed("vm0001")
    assert (job.outcome, job.error_code) == ("failed", "certificate-not-renewed"), shown(job)


# Certificates that are handed in.

_SLOW = {"watch_first_interval_s": 600, "watch_last_interval_s": 600, "guest_read_delays_s": [600]}


def _certificate_in(service: Service, vm: str) -> Certificate:
    installed = service.site.vm_named(vm).installed
    assert installed is not None
    return parse_certificate(pem_of(installed))


async def _push(service: Service, vm: str, certificate: Certificate) -> None:
    pushed = PushedCertificates(service.database, service.wakeups)
    await pushed.push(VmUuid(service.uuid_of(vm)), "c1", certificate, "ansible")


@pytest.mark.parametrize("guests", [True, False])
async def test_a_certificate_that_is_handed_in_ends_a_job_that_waits_for_its_guest(begin: Begin, guests: bool) -> None:
    service = await begin(limits=_SLOW, restart_agent="manual", guests=guests, verify_timeout_s=900)
    old = _certificate_in(service, "web02")
    job = await _waits(service, "web02", "agent_restart")
    await service.site.guests[service.uuid_of("web02")].down()
    await _push(service, "web02", old)
    _restart(service, "web02")
    new = _certificate_in(service, "web02")
    await _push(service, "web02", new)
    done = await service.done(job)
    assert (done.outcome, done.results.verified_by) == ("renewed", "pushed_certificate"), shown(done)
    assert (done.results.new_not_after, done.results.new_serial) == (new.not_after, new.serial)
    assert done.results.old_not_after == old.not_after
    known = await Vms(service.database).find_ngt(job.vm_uuid, ["c1"])
    assert known is not None
    assert (known.vm.certificate_source, known.vm.not_after) == ("pushed_certificate", new.not_after)
    assert [(one.source, one.given_by) for one in known.observations] == [("pushed_certificate", "ansible")]
    assert known.vm.renewed_at is not None
    assert (await service.jobs.counts()).awaiting_pickup == {}


async def test_where_nothing_else_shows_a_certificate_one_that_was_handed_in_before_lets_the_next_be_proved(
    begin: Begin,
) -> None:
    invisible = uniform_site(vms=1, traits=Traits(reported_expiry=ReportedExpiry.ABSENT, serial_port=True))
    service = await begin(invisible, limits=_SLOW, restart_agent="manual", guests=False, verify_timeout_s=900)
    vm, old = "vm0001", _certificate_in(service, "vm0001")
    await service.scanned()
    refused = await service.renewed(vm)
    assert (refused.outcome, refused.error_code) == ("failed", "not-verifiable"), shown(refused)
    await _push(service, vm, old)
    plan = (await service.renewed(vm, validate_only=True)).results.plan
    assert plan is not None
    assert (plan.refusals, "handed in" in plan.proof) == ((), True)
    job = await _waits(service, vm, "agent_restart", skip_if_valid_days=1)
    _restart(service, vm)
    # The link is active, and that proves nothing.
    await service.jobs.report_agent_restarted(job.id)
    await _push(service, vm, old)
    assert not (await service.find(job.id)).done
    new = _certificate_in(service, vm)
    await _push(service, vm, new)
    done = await service.done(job)
    assert (done.outcome, done.results.verified_by) == ("renewed", "pushed_certificate"), shown(done)
    assert (done.results.old_not_after, done.results.new_not_after) == (old.not_after, new.not_after)


async def test_capabilities_are_put_back_also_where_the_proof_was_handed_in(begin: Begin) -> None:
    site = SiteSpec((ClusterSpec("c1", 1, (VmSpec("web01", vss_snapshot=False, file_level_restore=True),)),))
    service = await begin(site, limits=_SLOW, restart_agent="manual", guests=False, verify_timeout_s=900)
    job = await _waits(service, "web01", "agent_restart")
    _restart(service, "web01")
    await _push(service, "web01", _certificate_in(service, "web01"))
    done = await service.done(job)
    assert (done.outcome, done.results.verified_by) == ("renewed", "pushed_certificate"), shown(done)
    assert (done.results.vss_after, done.results.file_level_restore_after) == (False, True)


async def test_handing_the_old_certificate_in_again_settles_nothing(begin: Begin) -> None:
    service = await begin(limits={"verify_timeout_manual_s": 2}, restart_agent="manual", guests=False)
    old = _certificate_in(service, "web02")
    job = await _waits(service, "web02", "agent_restart")
    await _push(service, "web02", old)
    await service.jobs.report_agent_restarted(job.id)
    done = await service.done(job)
    assert (done.outcome, done.error_code) == ("failed", "link-not-active"), shown(done)


# Agents that do not come back.


async def test_an_agent_that_never_picks_up_fails_the_job_and_its_vm_stays_counted(begin_on_both: Begin) -> None:
    service = await begin_on_both(limits={"verify_timeout_ssh_s": 1})
    service.site.vm_named("web02").pickup_delay_s = _NEVER
    job = await service.renewed("web02")
    assert (job.outcome, job.error_code) == ("failed", "link-not-active"), shown(job)
    assert job.remaining_action is not None
    assert "restart the agent in VM 'web02'" in job.remaining_action
    assert (await service.jobs.counts()).awaiting_pickup == {"c1": 1}


async def test_a_link_that_is_active_with_the_old_certificate_is_never_a_renewal(begin: Begin) -> None:
    service = await begin(limits={"verify_timeout_ssh_s": 1})
    vm = service.site.vm_named("web02")
    vm.pickup_delay_s, vm.link_whatever_the_certificate = _NEVER, True
    job = await service.renewed("web02")
    assert (job.outcome, job.error_code) == ("failed", "certificate-not-renewed"), shown(job)
    assert job.error_message is not None
    assert "the guest still has the certificate" in job.error_message
    assert (await service.jobs.counts()).awaiting_pickup == {"c1": 1}


async def test_accepting_the_unverified_never_hides_that_a_proof_was_possible(begin: Begin) -> None:
    service = await begin(limits={"verify_timeout_ssh_s": 2}, accept_unverified=True)
    vm = service.site.vm_named("web02")
    vm.link_whatever_the_certificate = True
    job = await service.renewed("web02")
    assert (job.outcome, job.results.verified_by) == ("renewed", "guest_certificate"), shown(job)


async def test_an_agent_that_takes_its_time_is_waited_for(service: Service) -> None:
    service.site.vm_named("web02").pickup_delay_s = 1.2
    job = await _waits(service, "web02", "pickup")
    done = await service.done(job)
    assert done.outcome == "renewed", shown(done)
    assert (await service.jobs.counts()).awaiting_pickup == {}


async def test_a_late_pickup_after_the_job_failed_is_seen_by_its_retry(begin: Begin) -> None:
    service = await begin(limits={"verify_timeout_ssh_s": 1})
    service.site.vm_named("web02").pickup_delay_s = _NEVER
    job = await service.renewed("web02")
    service.site.vm_named("web02").pickup_delay_s = 0
    await service.jobs.retry(job.id)
    done = await service.done(job)
    assert (done.outcome, done.attempt) == ("renewed", 2), shown(done)
    # The certificate was issued by the first attempt; only what comes after that is done again.
    assert service.effects_on("web02").count(Effect.DELETED) == 1
    assert (await service.jobs.counts()).awaiting_pickup == {}


async def test_the_certificate_of_another_vm_at_the_same_address_is_no_proof(begin: Begin) -> None:
    service = await begin(limits={"verify_timeout_ssh_s": 1})
    vm = service.site.vm_named("web02")
    vm.pickup_delay_s = _NEVER
    job = await _waits(service, "web02", "pickup")
    # A clone of a VM that was renewed has come up at this VM's address, with the host key that both share.
    vm.installed = issue("5e6b0a3c-52f1-4d0e-b45f-9f8a4a1f4b11", not_before=service.site.clusters["c1"].clock())
    done = await service.done(job)
    assert done.outcome == "failed", shown(done)


async def test_a_guest_that_goes_away_after_the_mount_is_waited_for(service: Service) -> None:
    service.site.tool_port.latency_s["nutanix_guest_tools_cli"] = 0.1
    job = await service.renew("web02")
    await service.wait_until(job, lambda now: now.current_step == "mount_iso")
    await service.site.guests[service.uuid_of("web02")].down()
    waiting = await service.waits(job, "guest_unreachable")
    assert waiting.wait_reason == "guest_unreachable", shown(waiting)
    await service.site.guests[service.uuid_of("web02")].up()
    done = await service.done(job)
    assert done.outcome == "renewed", shown(done)


# The CD-ROM slot.


async def test_a_taken_cdrom_slot_is_waited_for_and_the_mount_is_tried_again(begin_on_both: Begin) -> None:
    service = await begin_on_both()
    service.site.vm_named("web02").slot_taken = True
    job = await _waits(service, "web02", "no_free_cdrom_slot")
    assert "kNoFreeCdRomSlot" in job.message
    assert "eject the medium" in job.message
    service.site.vm_named("web02").slot_taken = False
    done = await service.done(job)
    assert done.outcome == "renewed", shown(done)
    assert service.effects_on("web02").count(Effect.DELETED) == 1


async def test_a_taken_slot_is_told_as_such_also_where_ncli_mounts(begin: Begin) -> None:
    service = await begin(commands={"mount": "ncli ngt mount vm-id={vm_uuid}"})
    service.site.vm_named("web02").slot_taken = True
    job = await _waits(service, "web02", "no_free_cdrom_slot")
    service.site.vm_named("web02").slot_taken = False
    done = await service.done(job)
    assert done.outcome == "renewed", shown(done)


async def test_a_slot_that_stays_taken_fails_the_job_which_goes_on_from_the_mount_when_retried(begin: Begin) -> None:
    service = await begin(limits={"verify_timeout_ssh_s": 1})
    service.site.vm_named("web02").slot_taken = True
    job = await service.renewed("web02")
    assert job.error_code == "no-free-cdrom", shown(job)
    service.site.vm_named("web02").slot_taken = False
    await service.jobs.retry(job.id)
    done = await service.done(job)
    assert done.outcome == "renewed", shown(done)
    assert service.effects_on("web02") == [
        Effect.DELETED,
        Effect.CREATED,
        Effect.MOUNTED,
        Effect.AGENT_RESTARTED,
        Effect.PICKED_UP,
    ]


async def test_a_mount_that_is_refused_fails_and_a_retry_goes_on_with_the_mount(begin_on_both: Begin) -> None:
    service = await begin_on_both()
    service.site.order(ToolFault(does=Does.REFUSE, sub_command="mount_guest_tools", words=("kSomethingNew",)))
    job = await service.renewed("web02")
    assert job.error_code == "iso-mount-failed", shown(job)
    assert job.error_message is not None
    assert "kSomethingNew" in job.error_message
    assert (await service.jobs.counts()).awaiting_pickup == {"c1": 1}
    await service.jobs.retry(job.id)
    done = await service.done(job)
    assert done.outcome == "renewed", shown(done)
    assert service.effects_on("web02").count(Effect.DELETED) == 1


# Cancelling.


async def test_a_job_that_waits_for_a_person_can_be_cancelled_and_says_what_is_left_to_do(begin: Begin) -> None:
    service = await begin(restart_agent="manual")
    job = await _waits(service, "web02", "agent_restart")
    cancelled = await service.jobs.cancel(job.id, OPERATOR)
    assert (cancelled.outcome, cancelled.error_code) == ("cancelled", "cancelled")
    assert cancelled.remaining_action is not None
    assert "sudo systemctl restart ngt_guest_agent" in cancelled.remaining_action
    assert (await service.jobs.counts()).awaiting_pickup == {"c1": 1}


async def test_a_job_in_the_middle_of_a_change_cannot_be_cancelled(service: Service) -> None:
    service.site.order(ToolFault(does=Does.SLOW, sub_command="create_vm_tools_entity", seconds=1))
    job = await service.renew("web02")
    await service.wait_until(job, lambda now: now.current_step == "recreate_entity")
    with pytest.raises(Fault) as refused:
        await service.jobs.cancel(job.id, OPERATOR)
    assert refused.value.code is FaultCode.JOB_NOT_CANCELLABLE
    done = await service.done(job)
    assert done.outcome == "renewed", shown(done)


async def test_a_job_that_only_looks_can_be_cancelled_and_then_changes_nothing(service: Service) -> None:
    service.site.tool_port.latency_s["ncli"] = 0.5
    job = await service.renew("web02")
    await service.wait_until(job, lambda now: now.status == "running")
    assert (await service.jobs.cancel(job.id, OPERATOR)).outcome == "cancelled"
    other = await service.renewed("db01")
    assert other.outcome == "renewed", shown(other)
    assert service.effects_on("web02") == []
    assert (await service.find(job.id)).outcome == "cancelled"


# Watching.


async def test_the_watch_asks_the_cluster_once_for_all_that_wait(begin: Begin) -> None:
    names = [f"vm{number:04}" for number in range(1, 7)]
    service = await begin(uniform_site(vms=6), guests=False, max_running=6, prove_first=False)
    jobs = [await service.renew(name) for name in names]
    for job in jobs:
        assert (await service.waits(job, "agent_restart")).wait_reason == "agent_restart"
    before = service.site.journal.listings("c1")
    first = len(service.site.journal.records)
    for name in names:
        _restart(service, name)
    for job in jobs:
        done = await service.done(job)
        assert done.outcome == "renewed", shown(done)
    calls = [record.sub_command for record in service.site.journal.records[first:] if record.kind is Kind.TOOL]
    # A listing and a query for all of them together, and a last look of each.
    assert service.site.journal.listings("c1") - before <= 3
    assert calls.count("ngt get") == 0


async def test_a_vm_that_was_switched_off_while_it_waited_is_told_as_such(begin: Begin) -> None:
    spec = SiteSpec((ClusterSpec("c1", 1, (VmSpec("web"), VmSpec("other"))),))
    service = await begin(spec, restart_agent="manual")
    job = await _waits(service, "web", "agent_restart", restart_agent=RestartAgent.MANUAL)
    uuid = service.uuid_of("web")
    await service.site.switch_power(uuid, on=False)
    off = await service.waits(job, "vm_powered_off")
    assert off.wait_reason == "vm_powered_off", shown(off)
    await service.site.switch_power(uuid, on=True)
    done = await service.done(job)
    assert done.outcome == "renewed", shown(done)

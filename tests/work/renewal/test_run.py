"""The renewal itself, over the simulated CVMs and over OpenSSH's own server."""

from datetime import UTC, datetime

import pytest

from app.ngt.renewal.request import Mode
from app.simulator.faults import Does, ToolFault
from app.simulator.journal import Effect
from app.simulator.spec import ClusterSpec, LogLines, Refresh, SiteSpec, Traits, VmSpec, uniform_site
from tests.work.conftest import Begin
from tests.work.service import Service, shown, steps_of

RECREATED = [Effect.DELETED, Effect.CREATED, Effect.MOUNTED, Effect.AGENT_RESTARTED, Effect.PICKED_UP]


async def test_a_renewal_recreates_the_entity_and_sees_the_new_certificate_in_the_guest(begin_on_both: Begin) -> None:
    service = await begin_on_both()
    before = service.state_of("web02")
    job = await service.renewed("web02")
    assert job.outcome == "renewed", shown(job)
    assert service.is_renewed("web02")
    assert service.effects_on("web02") == RECREATED
    assert [step.name for step in job.steps] == [
        "find_vm",
        "read_ngt_before",
        "recreate_entity",
        "mount_iso",
        "restart_agent",
        "verify",
    ]
    assert {step.status for step in job.steps} == {"succeeded"}
    results = job.results
    assert results.verified_by == "guest_certificate"
    assert results.old_not_after == _date(before["installed_not_after"])
    assert results.new_not_after == _date(service.state_of("web02")["issued_not_after"])
    assert results.old_serial != results.new_serial
    assert results.link_active is True


async def test_a_windows_guest_and_a_name_in_another_script_are_renewed_as_well(service: Service) -> None:
    jobs = [await service.renew(name) for name in ("Windows Server 2016 Template", "会計サーバー", "expired01")]
    for job in jobs:
        assert (await service.done(job)).outcome == "renewed"
    assert service.is_renewed("会計サーバー")
    assert service.is_renewed("Windows Server 2016 Template")


async def test_a_vm_whose_name_another_has_too_is_renewed_and_the_other_is_not_touched(service: Service) -> None:
    one, other = (vm for vm in service.site.clusters["c1"].vms.values() if vm.name == "twin")
    assert (await service.renewed(one)).outcome == "renewed"
    assert service.is_renewed(one)
    assert service.effects_on(other) == []


@pytest.mark.parametrize("log_lines", LogLines)
@pytest.mark.parametrize("ncli_json", [True, False])
async def test_both_generations_of_tools_are_understood(begin: Begin, log_lines: LogLines, ncli_json: bool) -> None:
    service = await begin(uniform_site(vms=2, traits=Traits(log_lines=log_lines, ncli_json=ncli_json)))
    job = await service.renewed("vm0001")
    assert job.outcome == "renewed", shown(job)
    assert service.is_renewed("vm0001")


async def test_a_refresh_that_reissues_is_a_renewal_without_any_delete(begin_on_both: Begin) -> None:
    service = await begin_on_both(uniform_site(vms=2, traits=Traits(refresh=Refresh.REISSUES)), mode="refresh")
    job = await service.renewed("vm0001")
    assert job.outcome == "renewed", shown(job)
    assert service.effects_on("vm0001") == [
        Effect.REISSUED,
        Effect.MOUNTED,
        Effect.AGENT_RESTARTED,
        Effect.PICKED_UP,
    ]
    (refresh,) = service.site.journal.calls("refresh_vm_tools_entity")
    assert refresh.vm_uuids == (service.uuid_of("vm0001"),)


async def test_a_refresh_that_changes_nothing_fails_and_never_turns_into_a_recreate(begin_on_both: Begin) -> None:
    service = await begin_on_both(
        uniform_site(vms=2, traits=Traits(refresh=Refresh.CHANGES_NOTHING)), limits={"verify_timeout_ssh_s": 1}
    )
    job = await service.renewed("vm0001", mode=Mode.REFRESH)
    assert (job.outcome, job.error_code) == ("failed", "certificate-not-renewed"), shown(job)
    assert service.site.journal.calls("delete_vm_tools_entity") == []
    assert service.site.journal.calls("create_vm_tools_entity") == []


async def test_a_refresh_where_the_cli_has_none_is_refused_before_anything_was_changed(service: Service) -> None:
    job = await service.renewed("web02", mode=Mode.REFRESH)
    assert job.error_code == "entity-refresh-failed", shown(job)
    assert service.site.journal.changes(service.uuid_of("web02")) == []


async def test_capabilities_that_the_new_entity_lost_are_put_back(begin_on_both: Begin) -> None:
    service = await begin_on_both()
    job = await service.renewed("web01")
    assert job.outcome == "renewed", shown(job)
    assert service.state_of("web01")["file_level_restore"] is True
    assert (job.results.file_level_restore_before, job.results.file_level_restore_after) == (True, True)
    assert steps_of(job)["restore_capabilities"].status == "succeeded"


async def test_capabilities_that_the_new_entity_has_too_many_are_taken_away(begin: Begin) -> None:
    spec = SiteSpec((ClusterSpec("c1", 1, (VmSpec("quiet", vss_snapshot=False), VmSpec("other"))),))
    service = await begin(spec)
    job = await service.renewed("quiet")
    assert job.outcome == "renewed", shown(job)
    assert service.state_of("quiet")["vss_snapshot"] is False
    assert job.results.vss_after is False


async def test_a_capability_that_cannot_be_put_back_is_reported(service: Service) -> None:
    service.site.order(ToolFault(does=Does.REFUSE, sub_command="ngt enable-applications", times=None))
    job = await service.renewed("web01")
    assert job.outcome == "renewed", shown(job)
    assert "file_level_restore was on before and was not restored" in job.message
    assert (job.results.file_level_restore_before, job.results.file_level_restore_after) == (True, False)


async def test_the_log_has_the_exact_text_that_was_sent_and_its_answer(service: Service) -> None:
    job = await service.renewed("web02")
    log = await service.jobs.read_log(job.id)
    sent = {exchange.step: exchange for exchange in log if exchange.step in {"recreate_entity", "mount_iso"}}
    texts = {record.text for record in service.site.journal.changes(service.uuid_of("web02"))}
    assert {exchange.sent for exchange in sent.values()} == texts
    assert all("kNoError" in (exchange.stdout or "") for exchange in sent.values())
    assert all(exchange.place and exchange.answered_at is not None for exchange in sent.values())
    assert not any("BEGIN" in f"{one.stdout}{one.stderr}" and "PRIVATE" in f"{one.stdout}" for one in log)


async def test_a_vm_that_was_renewed_today_is_renewed_again_only_by_force(service: Service) -> None:
    assert (await service.renewed("web02")).outcome == "renewed"
    again = await service.renewed("web02")
    assert (again.status, again.outcome) == ("skipped", "already_valid")
    assert service.effects_on("web02") == RECREATED
    forced = await service.renewed("web02", force=True)
    assert forced.outcome == "renewed", shown(forced)
    assert service.effects_on("web02") == RECREATED * 2


async def test_a_certificate_that_is_good_for_long_enough_is_left_alone(service: Service) -> None:
    skipped = await service.renewed("fresh01", skip_if_valid_days=60)
    assert (skipped.outcome, service.effects_on("fresh01")) == ("already_valid", [])
    due = await service.renewed("web02", skip_if_valid_days=60)
    assert due.outcome == "renewed", shown(due)


async def test_a_job_that_only_validates_says_what_it_would_do_and_changes_nothing(service: Service) -> None:
    job = await service.renewed("web02", validate_only=True)
    assert job.outcome == "planned", shown(job)
    plan = job.results.plan
    assert plan is not None
    uuid = service.uuid_of("web02")
    assert plan.commands == (
        f"nutanix_guest_tools_cli delete_vm_tools_entity {uuid}",
        f"nutanix_guest_tools_cli create_vm_tools_entity {uuid}",
        f"nutanix_guest_tools_cli mount_guest_tools {uuid}",
    )
    assert plan.refusal_codes == ()
    assert service.site.journal.changes() == []
    assert service.effects_on("web02") == []


async def test_a_plan_names_every_reason_for_which_the_renewal_would_be_refused(service: Service) -> None:
    job = await service.renewed("web01-clone", validate_only=True, mode=Mode.REFRESH)
    plan = job.results.plan
    assert plan is not None
    assert {"ngt-not-enabled", "entity-refresh-failed"} <= set(plan.refusal_codes)


def _date(unix_s: object) -> datetime:
    assert isinstance(unix_s, int)
    return datetime.fromtimestamp(unix_s, UTC)

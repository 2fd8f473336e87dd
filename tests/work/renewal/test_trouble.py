"""CVMs that do not do what they should: who is asked instead, what a job fails with, and what is never tried twice."""

import pytest

from app.simulator.faults import Does, Shell, ToolFault
from app.simulator.journal import Kind
from app.simulator.spec import uniform_site
from tests.work.conftest import Begin
from tests.work.service import Service, shown

_QUERY = "query_vm_tools_entities"


async def test_a_cvm_that_is_down_is_passed_over(begin: Begin) -> None:
    service = await begin(uniform_site(vms=2))
    await service.site.cvms["c1"][0].down()
    job = await service.renewed("vm0001")
    assert job.outcome == "renewed", shown(job)
    assert job.cvm == service.site.cvms["c1"][1].address


async def test_a_cvm_whose_gateway_is_down_is_passed_over(begin: Begin) -> None:
    service = await begin(uniform_site(vms=2))
    service.site.cvms["c1"][0].faults.gateway_down = True
    job = await service.renewed("vm0001")
    assert job.outcome == "renewed", shown(job)
    assert service.site.journal.of(Kind.TOOL, host="c1-cvm1") != []


async def test_a_gateway_that_is_down_everywhere_is_told_as_such(begin: Begin) -> None:
    service = await begin(uniform_site(vms=2), limits={"unreachable_retries": 1})
    for cvm in service.site.cvms["c1"]:
        cvm.faults.gateway_down = True
    job = await service.renewed("vm0001")
    assert job.error_code == "gateway-down", shown(job)


async def test_when_all_cvms_are_down_the_job_fails_and_a_retry_finds_them_again(begin: Begin) -> None:
    service = await begin(uniform_site(vms=2), limits={"unreachable_retries": 3})
    for cvm in service.site.cvms["c1"]:
        await cvm.down()
    job = await service.renewed("vm0001")
    assert job.error_code == "cvm-unreachable", shown(job)
    assert service.effects_on("vm0001") == []
    for cvm in service.site.cvms["c1"]:
        await cvm.up()
    await service.jobs.retry(job.id)
    done = await service.done(job)
    assert done.outcome == "renewed", shown(done)


async def test_cvms_that_go_down_in_the_middle_are_waited_for(begin: Begin) -> None:
    service = await begin(uniform_site(vms=2), limits={"unreachable_retries": 0})
    service.site.order(ToolFault(does=Does.DROP_BEFORE, sub_command="create_vm_tools_entity"))
    job = await service.renew("vm0001")
    await service.waits(job, "unanswered_change")
    for cvm in service.site.cvms["c1"]:
        await cvm.down()
    # Its looks fail now, again and again.
    down = await service.find(job.id)
    stays = await service.wait_until(job, lambda now: now.version > down.version + 8 or now.done)
    assert not stays.done, shown(stays)
    for cvm in service.site.cvms["c1"]:
        await cvm.up()
    done = await service.done(job)
    assert done.outcome == "renewed", shown(done)


@pytest.mark.parametrize("shell", [Shell.MENU, Shell.RESTRICTED])
async def test_a_menu_or_a_restricted_shell_is_recognised(begin: Begin, shell: Shell) -> None:
    service = await begin(uniform_site(vms=2))
    for cvm in service.site.cvms["c1"]:
        cvm.faults.shell = shell
    job = await service.renewed("vm0001")
    assert job.error_code == "cvm-shell-disabled", shown(job)
    assert job.error_message is not None
    assert "KB-19114" in job.error_message
    assert service.effects_on("vm0001") == []


async def test_a_cvm_with_another_host_key_is_sent_nothing(begin: Begin) -> None:
    service = await begin(uniform_site(vms=2))
    for cvm in service.site.cvms["c1"]:
        cvm.serve_wrong_host_key()
    job = await service.renewed("vm0001")
    assert job.error_code == "ssh-host-key-mismatch", shown(job)
    assert service.site.journal.of(Kind.EXEC, cluster="c1") == []
    for cvm_name in service.settings.clusters["c1"].cvms:
        labels = {"cluster": "c1", "cvm": cvm_name}
        assert service.metrics.registry.get_sample_value("ngt_cvm_host_key_changes_total", labels) == 1


async def test_a_refused_login_is_not_tried_a_second_time(begin: Begin) -> None:
    service = await begin(uniform_site(vms=3, cvms=2))
    for cvm in service.site.cvms["c1"]:
        cvm.faults.login_refused = True
    for name in ("vm0001", "vm0002", "vm0001"):
        job = await service.renewed(name)
        assert job.error_code == "ssh-auth-failed", shown(job)
    refused = service.site.journal.of(Kind.LOGIN_REFUSED, cluster="c1")
    assert sorted(record.host for record in refused) == ["c1-cvm0", "c1-cvm1"]


async def test_one_session_at_a_time_is_enough(begin: Begin) -> None:
    service = await begin(uniform_site(vms=4, cvms=1), prove_first=False)
    service.site.cvms["c1"][0].faults.session_limit = 1
    jobs = [await service.renew(f"vm000{number}") for number in (1, 2, 3, 4)]
    for job in jobs:
        done = await service.done(job)
        assert done.outcome == "renewed", shown(done)
    assert service.site.journal.peak_sessions["c1-cvm0"] == 1


async def test_a_whole_day_of_renewals_needs_one_login_per_cvm(begin: Begin) -> None:
    service = await begin(uniform_site(vms=5))
    for number in range(1, 6):
        done = await service.renewed(f"vm000{number}")
        assert done.outcome == "renewed", shown(done)
    assert service.site.journal.logins("c1-cvm0") == 1
    assert service.site.journal.logins("c1-cvm1") == 0


@pytest.mark.parametrize("does", [Does.HANG, Does.GARBAGE, Does.DROP_BEFORE])
async def test_a_look_that_goes_wrong_once_is_repeated(begin: Begin, does: Does) -> None:
    service = await begin(uniform_site(vms=2), limits={"look_timeout_s": 1})
    service.site.order(ToolFault(does=does, sub_command=_QUERY))
    job = await service.renewed("vm0001")
    assert job.outcome == "renewed", shown(job)


async def test_a_query_that_is_never_understood_fails_before_anything_was_changed(service: Service) -> None:
    service.site.order(ToolFault(does=Does.GARBAGE, sub_command=_QUERY, times=None))
    job = await service.renewed("web02")
    assert job.error_code == "unexpected-output", shown(job)
    assert service.effects_on("web02") == []


async def test_a_cvm_that_hangs_is_passed_over(begin: Begin) -> None:
    service = await begin(uniform_site(vms=2), limits={"look_timeout_s": 1, "listing_timeout_s": 1})
    for sub_command in ("vm ls", "vm list", _QUERY):
        service.site.order(ToolFault(does=Does.HANG, sub_command=sub_command, host="c1-cvm0", times=None))
    job = await service.renewed("vm0001")
    assert job.outcome == "renewed", shown(job)


_NOISE = """
echo 'Nutanix Controller VM: authorised use only'
echo 'TMOUT: readonly variable' >&2
TMOUT=900; readonly TMOUT; export TMOUT
alias nutanix_guest_tools_cli='echo no'
false
"""
_CLOCKS = (
    "date() { echo $(( $(command date +%s) + 7200 )); }\n",
    "date() { echo $(( $(command date +%s) - 7200 )); }\n",
)


@pytest.mark.parametrize("profile", [_NOISE, *_CLOCKS], ids=["noise", "clock ahead", "clock behind"])
async def test_what_a_cvm_sets_up_for_its_users_is_in_nobodys_way(begin_on_both: Begin, profile: str) -> None:
    service = await begin_on_both(uniform_site(vms=2))
    for cvm in service.site.cvms["c1"]:
        with service.site.tool_port.profile_for(cvm.name).open("a") as file:
            file.write(profile)
    job = await service.renewed("vm0001")
    assert job.outcome == "renewed", shown(job)
    assert {step.status for step in job.steps} == {"succeeded"}, shown(job)

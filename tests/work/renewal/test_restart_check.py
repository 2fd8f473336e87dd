"""What the restart of the agent will need is looked at before anything is changed."""

import pytest

from app.ngt.renewal.request import RestartAgent
from app.simulator.faults import Said
from app.simulator.spec import ClusterSpec, Os, SiteSpec, VmSpec, uniform_site
from tests.work.conftest import Begin
from tests.work.service import shown

_NO_SUDO = b"sudo: a password is required\n"
_NO_SERVICE = b"No files found for ngt_guest_agent.service.\n"


@pytest.mark.parametrize(
    ("said", "meaning"), [(_NO_SUDO, "sudo asks for a password"), (_NO_SERVICE, "no service of that name")]
)
@pytest.mark.field("B6")
async def test_a_restart_that_would_fail_is_a_refusal_before_any_change(
    begin: Begin, said: bytes, meaning: str
) -> None:
    service = await begin(uniform_site(vms=1))
    guest = service.site.guests[service.uuid_of("vm0001")]
    guest.faults.says.append(Said("systemctl cat", b"", said, 1))
    job = await service.renewed("vm0001")
    assert job.error_code == "agent-restart-not-possible", shown(job)
    assert said.decode().strip() in (job.error_message or "")
    assert meaning in (job.error_message or "")
    assert service.effects_on("vm0001") == []
    plan = await service.renewed("vm0001", validate_only=True)
    assert plan.results.plan is not None
    assert plan.results.plan.refusal_codes == ("agent-restart-not-possible",)


@pytest.mark.field("B6")
async def test_a_restart_by_hand_needs_no_look(begin: Begin) -> None:
    service = await begin(uniform_site(vms=1))
    service.site.guests[service.uuid_of("vm0001")].faults.says.append(Said("systemctl cat", b"", _NO_SUDO, 1))
    job = await service.renew("vm0001", restart_agent=RestartAgent.MANUAL)
    waiting = await service.waits(job, "agent_restart")
    assert waiting.wait_reason == "agent_restart", shown(waiting)


@pytest.mark.field("B6")
async def test_a_windows_guest_with_either_name_of_the_service_is_renewed_by_default(begin: Begin) -> None:
    spec = SiteSpec((ClusterSpec("c1", 1, (VmSpec("win01", os=Os.WINDOWS),)),))
    service = await begin(spec)
    job = await service.renewed("win01")
    assert job.outcome == "renewed", shown(job)

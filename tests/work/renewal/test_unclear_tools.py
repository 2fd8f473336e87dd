"""A tool that ends without a result, and CVMs that do not answer after it: the job says what it knows."""

from pathlib import Path

import pytest

from app.simulator.faults import Does, ToolFault
from app.simulator.spec import uniform_site
from tests.work.conftest import Begin
from tests.work.service import shown

_TRACEBACK = """\
Traceback (most recent call last):
  File "/home/nutanix/bin/nutanix_guest_tools_cli", line 12, in <module>
    main()
zeus.ZeusError: cannot read the zeus configuration
"""


@pytest.mark.field("B7")
async def test_a_delete_that_always_ends_with_a_traceback_is_told_in_its_own_words(
    begin: Begin, tmp_path: Path
) -> None:
    script = tmp_path / "traceback"
    script.write_text(f"#!/bin/sh\ncat <<'END'\n{_TRACEBACK}END\nexit 1\n")
    script.chmod(0o755)
    service = await begin(uniform_site(vms=1), commands={"delete": f"{script} {{vm_uuid}}", "query": _QUERY})
    job = await service.renewed("vm0001")
    assert job.error_code == "entity-delete-failed", shown(job)
    assert job.error_message is not None
    assert "delete ended with status 1 and no clear result" in job.error_message
    assert "zeus.ZeusError: cannot read the zeus configuration" in job.error_message
    assert "line 12" not in job.error_message
    assert "It was tried 5 times; the VM still has its tools entity." in job.error_message
    assert service.effects_on("vm0001") == []


_QUERY = "nutanix_guest_tools_cli query_vm_tools_entities"


@pytest.mark.field("B8")
async def test_after_a_lost_answer_silent_cvms_are_told_with_the_time_since_when(begin: Begin) -> None:
    service = await begin(uniform_site(vms=1))
    service.site.order(ToolFault(does=Does.DROP_BEFORE, sub_command="create_vm_tools_entity"))
    job = await service.renew("vm0001")
    await service.waits(job, "unanswered_change")
    for cvm in service.site.cvms["c1"]:
        await cvm.down()
    job = await service.wait_until(job, lambda now: "no CVM has shown" in now.message, 120)
    assert "was lost, and since 20" in job.message
    assert "no CVM of c1 answered" in job.message
    for cvm in service.site.cvms["c1"]:
        await cvm.up()
    done = await service.done(job, 120)
    assert done.outcome == "renewed", shown(done)

"""Each fault that can be ordered happens as ordered, as often as ordered, and to no other call."""

import asyncio
from pathlib import Path

import asyncssh
import pytest

from app.simulator.faults import Does, ToolFault
from app.simulator.journal import Kind
from app.simulator.site import Site
from app.simulator.spec import uniform_site
from app.simulator.tools import GARBAGE
from tests.simulator.conftest import log_in, run, until

pytestmark = pytest.mark.asyncio

DELETE = "delete_vm_tools_entity"


def text_of(site: Site, name: str = "web01", sub_command: str = DELETE, *, limit_s: float = 60) -> str:
    tool = f"nutanix_guest_tools_cli {sub_command} {site.vm_named(name).uuid}"
    return (
        f"trap '' HUP INT TERM PIPE; exec </dev/null; . /etc/profile; "
        f'out=$(timeout -s KILL {limit_s} {tool} 2>/dev/null); echo "rc=$?"; printf \'%s\\n\' "$out"'
    )


async def answered(site: Site, text: str) -> str:
    return str((await run(site, site.cvms["c1"][0], text)).stdout)


async def test_a_refusal_changes_nothing_and_is_used_up(site: Site) -> None:
    site.order(ToolFault(does=Does.REFUSE, sub_command=DELETE, words=("kTransportError",)))
    assert "result_vec: kTransportError" in await answered(site, text_of(site))
    assert site.vm_named("web01").entity is not None
    assert "result_vec: kNoError" in await answered(site, text_of(site))
    assert site.vm_named("web01").entity is None


async def test_a_fault_for_one_vm_and_sub_command_leaves_the_others_alone(site: Site) -> None:
    site.order(ToolFault(does=Does.REFUSE, sub_command=DELETE, vm_uuid=site.vm_named("web01").uuid, times=None))
    assert "kNoError" in await answered(site, text_of(site, "web02"))
    assert "kNoError" in await answered(site, text_of(site, sub_command="mount_guest_tools"))
    for _ in range(3):
        assert "kInternalError" in await answered(site, text_of(site))


@pytest.mark.parametrize(
    ("one_line", "expected"),
    [(True, "result_vec: kNoError result_vec: 27\n"), (False, "result_vec: kNoError\nresult_vec: 27\n")],
)
async def test_several_words_come_on_one_line_or_on_many(site: Site, *, one_line: bool, expected: str) -> None:
    site.order(ToolFault(does=Does.ANSWER, words=("kNoError", "27"), one_line=one_line))
    assert await answered(site, text_of(site)) == f"rc=0\n{expected}"
    assert site.vm_named("web01").entity is None


@pytest.mark.parametrize(("does", "expected"), [(Does.GARBAGE, GARBAGE), (Does.NO_ANSWER, "\n")])
async def test_garbage_or_nothing_is_answered_though_the_work_is_done(site: Site, does: Does, expected: str) -> None:
    site.order(ToolFault(does=does))
    assert await answered(site, text_of(site)) == f"rc=0\n{expected}"
    assert site.vm_named("web01").entity is None


@pytest.mark.parametrize(("does", "deleted"), [(Does.HANG, False), (Does.HANG_AFTER_EFFECT, True)])
async def test_a_tool_that_hangs_is_killed_by_its_time_limit(site: Site, does: Does, *, deleted: bool) -> None:
    site.order(ToolFault(does=does))
    assert await answered(site, text_of(site, limit_s=0.3)) == "rc=137\n\n"
    assert (site.vm_named("web01").entity is None) is deleted
    await until(lambda: site.journal.calls(DELETE)[0].ended_number is not None)


async def test_a_slow_tool_lands_its_effect_even_when_it_was_killed(site: Site) -> None:
    site.order(ToolFault(does=Does.SLOW, seconds=0.5))
    assert "rc=137" in await answered(site, text_of(site, limit_s=0.1))
    assert site.vm_named("web01").entity is not None
    await until(lambda: site.vm_named("web01").entity is None)


@pytest.mark.parametrize(("does", "deleted"), [(Does.DROP_BEFORE, False), (Does.DROP_AFTER, True)])
async def test_a_line_is_cut_before_or_after_the_effect(site: Site, does: Does, *, deleted: bool) -> None:
    site.order(ToolFault(does=does))
    with pytest.raises((asyncssh.ConnectionLost, asyncssh.ProcessError, ConnectionError)):
        await run_to_its_status(site, text_of(site))
    await until(lambda: site.journal.of(Kind.EXEC)[0].ended_number is not None)
    assert (site.vm_named("web01").entity is None) is deleted
    assert len(site.journal.of(Kind.CUT)) == 1


async def test_an_effect_can_land_some_time_after_the_line_was_cut(site: Site) -> None:
    site.order(ToolFault(does=Does.DROP_THEN_EFFECT, seconds=0.5))
    with pytest.raises((asyncssh.ConnectionLost, asyncssh.ProcessError, ConnectionError)):
        await run_to_its_status(site, text_of(site, limit_s=0.1))
    await until(lambda: site.journal.of(Kind.EXEC)[0].ended_number is not None)
    assert site.vm_named("web01").entity is not None
    # A second change for this VM while the first is still under way is what must never be seen.
    assert "kNoError" in await answered(site, text_of(site, sub_command="mount_guest_tools"))
    assert "kNoError" in await answered(site, text_of(site, "web02"))
    await until(lambda: site.vm_named("web01").entity is None)
    overlapping = site.journal.overlapping_changes()
    assert [(DELETE in one.text, "mount" in other.text) for one, other in overlapping] == [(True, True)]


async def run_to_its_status(site: Site, text: str) -> None:
    """Run a text and raise when no exit status came, which is how a bare client sees a cut line."""
    async with await log_in(site, site.cvms["c1"][0]) as connection:
        answer = await asyncio.wait_for(connection.run(text), 10)
        if answer.exit_status is None:
            raise ConnectionError


async def test_one_change_after_the_other_does_not_overlap(site: Site) -> None:
    for sub_command in (DELETE, "create_vm_tools_entity", "mount_guest_tools"):
        await answered(site, text_of(site, sub_command=sub_command))
    assert site.journal.overlapping_changes() == []
    assert len(site.journal.changes(site.vm_named("web01").uuid)) == 3


async def test_a_text_that_came_too_late_to_do_anything_overlaps_nothing(site: Site) -> None:
    late = f"exit 0; nutanix_guest_tools_cli {DELETE} {site.vm_named('web01').uuid}"
    site.order(ToolFault(does=Does.SLOW, seconds=0.3))
    async with asyncio.TaskGroup() as group:
        group.create_task(answered(site, text_of(site)))
        await until(lambda: bool(site.journal.calls(DELETE)))
        group.create_task(answered(site, late))
    assert site.journal.overlapping_changes() == []


async def test_latency_is_per_tool_and_costs_no_turn_of_the_others(tmp_path: Path) -> None:
    async with Site.running(uniform_site(vms=1, latency_s={"ncli": 0.4}), tmp_path) as site:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.gather(*(answered(site, ". /etc/profile; ncli vm ls") for _ in range(5)))
        assert 0.4 <= loop.time() - began < 1.5
        assert site.journal.listings("c1") == 5


async def test_ncli_reports_a_refusal_as_an_error(site: Site) -> None:
    vm = site.vm_named("web01")
    vm.slot_taken = True
    answer = await run(site, site.cvms["c1"][0], f". /etc/profile; ncli ngt mount vm-id={vm.uuid}")
    assert answer.exit_status == 1
    assert str(answer.stdout).startswith("Error: ")
    assert "kNoFreeCdRomSlot" in str(answer.stdout)

"""Each recorded situation is rendered and must be what was recorded; times, addresses and pids are masked."""

import json
import re
from pathlib import Path

import pytest

from app.simulator.journal import Journal
from app.simulator.model import SimulatedCluster
from app.simulator.spec import LogLines, Os, Traits, VmSpec
from app.simulator.tools import ToolCommand, ToolOutput, run

RECORDINGS = Path(__file__).parents[1] / "recordings"
VM_UUID = "20edafba-0644-4e57-a3cf-4abef2f69a5f"
NAME = "Windows Server 2016 Template"
CVM_B = 1

MASKS = (
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}Z:\d+"), "TIME:PID"),
    (re.compile(r"I\d{8} \d\d:\d\d:\d\d\.\d{6}Z \d+"), "TIME PID"),
    (re.compile(r"0x[0-9a-f]+"), "HEX"),
    (re.compile(r"192\.168\.[0-9X]+\.[0-9Y]+"), "ADDRESS"),
)


def masked(text: str) -> list[str]:
    # The recordings were copied from a web page, which turned blanks into non-breaking ones.
    text = text.replace("\u00a0", " ")
    for pattern, mask in MASKS:
        text = pattern.sub(mask, text)
    return text.splitlines()


def recorded(name: str) -> str:
    return (RECORDINGS / name).read_text()


def windows_template(traits: Traits, *, entity: bool = True, expires_in_days: float = 12) -> SimulatedCluster:
    cluster = SimulatedCluster(
        "c1", "00056d28-59d3-7bbc-0000-000000014005", traits, lambda: 1_600_000_000, Journal(lambda: 0)
    )
    cluster.add_vm(
        VmSpec(NAME, os=Os.WINDOWS, uuid=VM_UUID, entity=entity, expires_in_days=expires_in_days),
        addresses=("192.168.1.91", "169.254.117.111"),
    )
    return cluster


def answer(cluster: SimulatedCluster, tool: str, *arguments: str) -> ToolOutput:
    return run(ToolCommand(tool, arguments, cluster, CVM_B))


@pytest.mark.parametrize("sub_command", ["delete_vm_tools_entity", "create_vm_tools_entity"])
def test_a_change_prints_what_was_recorded_on_aos_5_18(sub_command: str) -> None:
    cluster = windows_template(Traits(), entity=sub_command.startswith("delete"))
    printed = answer(cluster, "nutanix_guest_tools_cli", sub_command, VM_UUID)
    assert masked(printed.stderr + printed.stdout) == masked(recorded(f"{sub_command}.aos-5.18.txt"))
    assert printed.stdout == "result_vec: kNoError\n"


def test_the_newer_log_lines_are_what_was_recorded_in_2025() -> None:
    cluster = windows_template(Traits(log_lines=LogLines.Y2025))
    printed = answer(cluster, "nutanix_guest_tools_cli", "get_master_location")
    assert masked(printed.stderr + printed.stdout) == masked(recorded("get_master_location.2025.txt"))


def test_ncli_ngt_get_prints_what_was_recorded() -> None:
    cluster = windows_template(Traits(mounted_flag_is_stale=True))
    answer(cluster, "ncli", "ngt", "mount", f"vm-id={VM_UUID}")
    cluster.restart_agent(VM_UUID)
    printed = answer(cluster, "ncli", "ngt", "get", f"vm-id={VM_UUID}")
    assert masked(printed.stdout) == masked(recorded("ncli_ngt_get.aos-5.18.txt"))


def test_ncli_vm_list_prints_what_was_recorded() -> None:
    printed = answer(windows_template(Traits()), "ncli", "vm", "list", f"name={NAME}")
    assert masked(printed.stdout) == masked(recorded("ncli_vm_list.aos-5.18.txt"))


def test_ncli_vm_ls_json_prints_what_was_recorded() -> None:
    expected = json.loads(recorded("ncli_vm_ls_json.2020.txt"))
    identifier, vm_uuid = expected["data"][0]["vmId"].split("::")
    cluster = SimulatedCluster("c1", identifier, Traits(), lambda: 1_600_000_000, Journal(lambda: 0))
    spec = VmSpec("win10-milk26", os=Os.WINDOWS, uuid=vm_uuid, entity=False, powered_on=False)
    cluster.add_vm(spec, addresses=("10.149.126.91",))
    assert answer(cluster, "ncli", "vm", "ls", "--json=true").stdout == recorded("ncli_vm_ls_json.2020.txt")


def test_the_query_prints_what_the_lookalike_says() -> None:
    expected = recorded("vm_info_vec.lookalike.txt")
    days = (1_693_990_800 - 1_600_000_000) / 86_400
    cluster = windows_template(Traits(serial_port=True), expires_in_days=days)
    ngt_uuid = re.search(r'ngt_uuid: "(.*)"', expected)
    entity = cluster.vms[VM_UUID].entity
    assert entity is not None
    assert ngt_uuid is not None
    entity.ngt_uuid = ngt_uuid[1]
    assert answer(cluster, "nutanix_guest_tools_cli", "query_vm_tools_entities").stdout == expected


def test_a_gateway_that_is_down_prints_what_was_recorded() -> None:
    call = ToolCommand("ncli", ("vm", "ls"), windows_template(Traits()), CVM_B)
    printed = run(call, gateway_down=True)
    assert printed.stdout == recorded("ncli_gateway_down.txt")
    assert printed.status == 1

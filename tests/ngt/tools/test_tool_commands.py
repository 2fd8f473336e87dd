"""The texts for a CVM, run by a real bash against small tools that write down what was asked of them."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from app.ngt.tools.change_command import ToolCall, build_change, read_change
from app.ngt.tools.command_lines import Tools, for_vm
from app.ngt.tools.query_commands import list_vms, probe, query_entities, read_listing, read_probe, read_query
from app.ngt.vocabulary import parse_vm_uuid
from tests.limits import LIMIT_S

UUID = parse_vm_uuid("20edafba-0644-4e57-a3cf-4abef2f69a5f")
MARKER = "ngtr-0123456789abcdef"
FAR_FUTURE_S = 4_000_000_000


class Cvm:
    """A folder that looks like a CVM to a text: a profile, tools, and what they were asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked = folder / "asked"
        self.profile = folder / "profile"
        (folder / "bin").mkdir()
        self.profile.write_text(f'PATH="{folder}/bin:$PATH"\n')
        self.tool("nutanix_guest_tools_cli", "echo 'result_vec: kNoError'")
        self.tool("ncli", "echo '[None]'")
        self.tools = Tools(profile=str(self.profile), query="nutanix_guest_tools_cli query_vm_tools_entities")

    def tool(self, name: str, body: str) -> None:
        file = self.folder / "bin" / name
        file.write_text(f'#!/bin/bash\necho "{name} $*" >> {self.asked}\n{body}\n')
        file.chmod(0o755)

    def run(self, text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=False, timeout=60)

    def start(self, text: str) -> subprocess.Popen[str]:
        return subprocess.Popen(["bash", "-c", text], stdout=subprocess.PIPE, text=True, start_new_session=True)

    def calls(self) -> list[str]:
        lines = self.asked.read_text().splitlines() if self.asked.exists() else []
        return [line.split()[1] for line in lines]

    def wait_for_calls(self, count: int) -> list[str]:
        limit = time.monotonic() + LIMIT_S
        while len(self.calls()) < count:
            assert time.monotonic() < limit, f"only {self.calls()} were called"
            time.sleep(0.01)
        return self.calls()


@pytest.fixture
def cvm(tmp_path: Path) -> Cvm:
    return Cvm(tmp_path)


def recreate(cvm: Cvm, *, not_after_s: int = FAR_FUTURE_S, limit_s: int = 10) -> str:
    calls = (
        ToolCall("delete", for_vm(cvm.tools.delete, UUID), limit_s),
        ToolCall("create", for_vm(cvm.tools.create, UUID), limit_s, needs_previous=True),
    )
    return build_change("recreate_entity", cvm.tools, calls, marker=MARKER, not_after_s=not_after_s).text


BOTH = ["delete_vm_tools_entity", "create_vm_tools_entity"]


def test_create_follows_a_delete_that_said_so(cvm: Cvm) -> None:
    answer = read_change(cvm.run(recreate(cvm)).stdout, MARKER)
    assert answer is not None
    assert [(tool.name, tool.exit_status) for tool in answer.tools] == [("delete", 0), ("create", 0)]
    assert cvm.calls() == BOTH


@pytest.mark.parametrize(
    "said",
    [
        "echo 'result_vec: kSomethingElse'",
        "echo 'result_vec: kNoError'; echo 'result_vec: kNoError'",
        "echo 'result_vec: kNoError'; exit 3",
        "echo 'all is well'",
        "exit 1",
        "echo 'result_vec: kNoErrorAtAll'",
    ],
)
def test_create_is_not_sent_after_a_delete_that_did_not_say_so(cvm: Cvm, said: str) -> None:
    cvm.tool("nutanix_guest_tools_cli", said)
    answer = read_change(cvm.run(recreate(cvm)).stdout, MARKER)
    assert answer is not None
    assert [tool.name for tool in answer.tools] == ["delete"]
    assert cvm.calls() == BOTH[:1]


def test_a_text_that_comes_late_does_nothing_and_says_so(cvm: Cvm) -> None:
    answer = read_change(cvm.run(recreate(cvm, not_after_s=1_000_000_000)).stdout, MARKER)
    assert answer is not None
    assert answer.late
    assert cvm.calls() == []


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE])
def test_no_signal_to_the_whole_group_stops_it_between_delete_and_create(cvm: Cvm, number: signal.Signals) -> None:
    cvm.tool("nutanix_guest_tools_cli", "sleep 0.5; echo 'result_vec: kNoError'")
    running = cvm.start(recreate(cvm))
    cvm.wait_for_calls(1)
    os.killpg(running.pid, number)
    assert cvm.wait_for_calls(2) == BOTH
    running.communicate(timeout=20)


def test_a_reader_that_is_gone_does_not_stop_it(cvm: Cvm) -> None:
    noise = "for i in $(seq 2000); do echo 'a log line that fills the pipe, a log line that fills the pipe'; done"
    cvm.tool("nutanix_guest_tools_cli", f"{noise}; echo 'result_vec: kNoError'")
    running = cvm.start(recreate(cvm))
    assert running.stdout is not None
    running.stdout.close()
    assert cvm.wait_for_calls(2) == BOTH
    running.wait(timeout=20)


def test_a_reader_that_is_frozen_does_not_hold_it_between_delete_and_create(cvm: Cvm) -> None:
    noise = "for i in $(seq 3000); do echo 'a log line that fills the pipe, a log line that fills the pipe'; done"
    cvm.tool("nutanix_guest_tools_cli", f"{noise}; echo 'result_vec: kNoError'")
    running = cvm.start(recreate(cvm))
    # Nobody reads: the pipe takes 64 KiB, and each tool prints 180.
    assert cvm.wait_for_calls(2) == BOTH
    stdout, _ = running.communicate(timeout=20)
    assert read_change(stdout, MARKER) is not None


def test_a_tool_that_hangs_is_ended_by_its_limit(cvm: Cvm) -> None:
    cvm.tool("nutanix_guest_tools_cli", "sleep 600")
    answer = read_change(cvm.run(recreate(cvm, limit_s=1)).stdout, MARKER)
    assert answer is not None
    assert [(tool.name, tool.exit_status) for tool in answer.tools] == [("delete", 137)]


def test_a_tool_cannot_read_what_was_meant_for_the_shell(cvm: Cvm) -> None:
    cvm.tool("nutanix_guest_tools_cli", "cat; echo 'result_vec: kNoError'")
    assert read_change(cvm.run(recreate(cvm)).stdout, MARKER) is not None
    assert cvm.calls() == BOTH


def test_an_override_may_hold_quotes_and_stays_one_tool(cvm: Cvm) -> None:
    cvm.tool("other", "echo \"got [$2]\"; echo 'result_vec: kNoError'")
    line = for_vm("other 'it''s' \"a b\" {vm_uuid}", UUID)
    text = build_change(
        "mount_iso", cvm.tools, (ToolCall("mount", line, 5),), marker=MARKER, not_after_s=FAR_FUTURE_S
    ).text
    answer = read_change(cvm.run(text).stdout, MARKER)
    assert answer is not None
    assert "got [a b]" in answer.tools[0].output


@pytest.mark.parametrize("torn_at", [0.1, 0.5, 0.9, 0.99])
def test_half_an_answer_is_no_answer(cvm: Cvm, torn_at: float) -> None:
    stdout = cvm.run(recreate(cvm)).stdout
    assert read_change(stdout[: int(len(stdout) * torn_at)], MARKER) is None


def test_the_answer_to_another_attempt_is_no_answer(cvm: Cvm) -> None:
    assert read_change(cvm.run(recreate(cvm)).stdout, "ngtr-fedcba9876543210") is None


def test_a_probe_tells_a_shell_with_its_tools(cvm: Cvm) -> None:
    cvm.tool("nutanix_guest_tools_cli", "echo 'usage: delete_vm_tools_entity | query_vm_tools_entities' >&2; exit 1")
    facts = read_probe(cvm.run(probe(cvm.tools).text).stdout)
    assert facts.shell_ok
    assert facts.tools == {"nutanix_guest_tools_cli", "ncli"}
    assert facts.sub_commands >= {"delete_vm_tools_entity", "query_vm_tools_entities"}


def test_without_the_profile_the_tools_are_not_found(cvm: Cvm) -> None:
    cvm.profile.write_text("")
    assert read_probe(cvm.run(probe(cvm.tools).text).stdout).tools == frozenset()


@pytest.mark.parametrize("menu", ["", "1) acli\n2) ncli\nChoose: ", "rbash: exec: restricted\n"])
def test_a_menu_is_no_shell(menu: str) -> None:
    assert not read_probe(menu).shell_ok


def test_a_look_gives_the_answer_the_status_and_the_clock(cvm: Cvm) -> None:
    cvm.tool("nutanix_guest_tools_cli", "echo 'vm_info_vec {'; echo '}'; exit 4")
    answer = read_query(cvm.run(query_entities(cvm.tools, 10).text).stdout)
    assert (answer.body.split(), answer.exit_status) == (["vm_info_vec", "{", "}"], 4)
    assert answer.clock_s is not None
    assert abs(answer.clock_s - time.time()) < 60


def test_a_torn_look_has_no_clock() -> None:
    assert read_query("vm_info_vec {\n}\nngtr-look end 0").clock_s is None


@pytest.fixture
def old_ncli(cvm: Cvm) -> Cvm:
    cvm.tool("ncli", "[ $# = 3 ] && { echo 'Error: unknown option -json'; exit 1; }; echo '    Uuid : x'")
    return cvm


def listed(stdout: str) -> str:
    answer = read_listing(stdout)
    assert answer.exit_status == 0
    return stdout[answer.begin : answer.end].strip()


def test_a_listing_falls_back_to_text(old_ncli: Cvm) -> None:
    assert listed(old_ncli.run(list_vms(old_ncli.tools, 10).text).stdout) == "Uuid : x"


@pytest.mark.parametrize(
    "stdout", ["", "\n ", "\nngtr-listing end 0\n", "x\nngtr-listing text\n\nngtr-listing end 1\n"]
)
def test_a_listing_that_says_nothing_is_blank(stdout: str) -> None:
    assert read_listing(stdout).is_blank


def test_a_torn_listing_has_no_status() -> None:
    assert read_listing("    Uuid : x\nngtr-listing e").exit_status is None


def test_a_listing_that_works_is_asked_for_once(cvm: Cvm) -> None:
    assert listed(cvm.run(list_vms(cvm.tools, 10).text).stdout) == "[None]"
    assert cvm.calls() == ["vm"]

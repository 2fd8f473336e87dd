"""A cluster's CVMs: failover of looks, no failover of changes, and nothing sent before the shell is proved."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from app.ngt.errors import Fault, FaultCode
from app.ngt.tools.command_lines import Tools
from app.ngt.tools.query_commands import ProbeFacts, QueryCommand
from app.ssh.cvm import CvmGroup
from app.ssh.host import Host, NotSent, Unanswered
from app.ssh.pool import Pool
from tests.limits import LIMIT_S
from tests.ssh.bash_server import BashServer, running_bash_server
from tests.ssh.conftest import until
from tests.ssh.sshd import running_sshd

MENU = "Welcome to the CVM menu\n 1) acli\n 2) ncli\nYour choice: \n"
TOOLS = ("ncli", "nutanix_guest_tools_cli")


def echo(text: str = "hello") -> QueryCommand:
    return QueryCommand("echo", f"echo {text}", 10.0)


@dataclass(slots=True)
class Commanded:
    """Three CVMs, their cluster, and what it told its observer."""

    servers: list[BashServer]
    cluster: CvmGroup
    names: list[str]
    seen: list[tuple[str, str, str]] = field(default_factory=list)


def make_profile(folder: Path, tools: tuple[str, ...] = TOOLS) -> Path:
    """A profile that alone puts the tools on the PATH."""
    programs = folder / "tools"
    programs.mkdir(parents=True, exist_ok=True)
    for tool in tools:
        program = programs / tool
        program.write_text("#!/bin/sh\necho 'usage: create_vm_tools_entity delete_vm_tools_entity'\n")
        program.chmod(0o755)
    profile = folder / "profile"
    profile.write_text(f"PATH={programs}:$PATH\n")
    return profile


def make_cluster(hosts: list[Host], pool: Pool, profile: Path, seen: list[tuple[str, str, str]]) -> CvmGroup:
    def observe(cvm: str, command: str, result: str, _seconds: float) -> None:
        seen.append((cvm, command, result))

    tools = Tools(profile=str(profile))
    return CvmGroup("c1", hosts, pool, tools, max_output_bytes=100_000, observer=observe)


@pytest_asyncio.fixture
async def commanded(tmp_path: Path, pool: Pool) -> AsyncIterator[Commanded]:
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(running_bash_server(tmp_path / f"cvm{number}")) for number in range(3)
        ]
        hosts = [server.host() for server in servers]
        seen: list[tuple[str, str, str]] = []
        cluster = make_cluster(hosts, pool, make_profile(tmp_path), seen)
        yield Commanded(servers, cluster, [host.name for host in hosts], seen)


async def test_a_look_is_answered_by_the_first_cvm_after_one_probe(commanded: Commanded) -> None:
    answers = await asyncio.gather(*(commanded.cluster.ask(lambda _: echo()) for _ in range(10)))
    assert {asked.cvm for asked in answers} == {commanded.names[0]}
    assert {asked.result.stdout for asked in answers} == {"hello\n"}
    assert [command for _, command, _ in commanded.seen].count("probe") == 1
    assert commanded.servers[0].accepted == 1


async def test_the_text_is_made_for_what_the_cli_offers(commanded: Commanded) -> None:
    asked = await commanded.cluster.ask(lambda facts: echo(" ".join(sorted(facts.sub_commands))))
    assert asked.result.stdout == "create_vm_tools_entity delete_vm_tools_entity\n"
    assert asked.facts.tools >= set(TOOLS)


async def test_a_look_goes_on_to_the_next_cvm_and_stays_with_the_one_that_answered(commanded: Commanded) -> None:
    commanded.servers[0].refuse_exec = True
    commanded.servers[1].menu = MENU
    for _ in range(2):
        assert (await commanded.cluster.ask(lambda _: echo())).cvm == commanded.names[2]
    assert len(commanded.servers[0].executed) == 1
    preferred = commanded.names[1]
    commanded.servers[1].menu = None
    assert (await commanded.cluster.ask(lambda _: echo(), prefer=preferred)).cvm == preferred


async def test_a_gateway_that_is_down_means_another_cvm(commanded: Commanded, tmp_path: Path) -> None:
    text = f"mkdir {tmp_path}/first 2>/dev/null && echo 'Error: Could not connect to Nutanix Gateway' || echo fine"
    asked = await commanded.cluster.ask(lambda _: QueryCommand("listing", text, 10.0))
    assert (asked.cvm, asked.result.stdout) == (commanded.names[1], "fine\n")


async def test_a_look_that_is_cut_off_is_repeated_on_the_next_cvm(commanded: Commanded, tmp_path: Path) -> None:
    text = (
        f"mkdir {tmp_path}/first 2>/dev/null || {{ echo fine; exit; }}; "
        f"while [ ! -e {tmp_path}/go ]; do sleep 0.02; done"
    )
    look = asyncio.create_task(commanded.cluster.ask(lambda _: QueryCommand("listing", text, 10.0)))
    await until((tmp_path / "first").exists)
    commanded.servers[0].cut()
    asked = await look
    assert (asked.cvm, asked.result.stdout) == (commanded.names[1], "fine\n")
    (tmp_path / "go").touch()


async def test_when_no_cvm_answers_the_most_telling_cause_is_told_with_all_of_them(commanded: Commanded) -> None:
    for server in commanded.servers:
        server.menu = MENU
    with pytest.raises(Fault) as nobody:
        await commanded.cluster.ask(lambda _: echo())
    assert nobody.value.code is FaultCode.CVM_SHELL_DISABLED
    assert "see KB-19114" in nobody.value.message
    assert all(name in nobody.value.message for name in commanded.names)


async def test_a_specific_cause_goes_before_unreachable_ones(commanded: Commanded) -> None:
    commanded.servers[1].known_hosts.write_text("")
    for number in (0, 2):
        commanded.servers[number].hang_up_after_login = True
    with pytest.raises(Fault) as nobody:
        await commanded.cluster.ask(lambda _: echo())
    assert nobody.value.code is FaultCode.SSH_HOST_KEY_MISMATCH


async def test_a_look_that_nobody_answers_in_time_says_so(commanded: Commanded) -> None:
    await commanded.cluster.ask(lambda _: echo())
    with pytest.raises(Fault) as nobody:
        await commanded.cluster.ask(lambda _: QueryCommand("slow", "sleep 5", 0.2))
    assert nobody.value.code is FaultCode.COMMAND_TIMEOUT


def at(monotonic_s: float) -> datetime:
    return datetime.fromtimestamp(monotonic_s, UTC)


async def test_it_is_known_which_cvms_can_be_worked_with_and_why_others_cannot(
    commanded: Commanded, pool: Pool, tmp_path: Path
) -> None:
    servers = commanded.servers
    hosts = [servers[0].host(), replace(servers[1].host(), port=1), servers[2].host()]
    cluster = make_cluster(hosts, pool, tmp_path / "profile", [])
    up, down, menu = (host.name for host in hosts)
    assert cluster.states(at) == []
    servers[2].menu = MENU
    await cluster.probe(up)
    for name in (down, menu):
        with pytest.raises(NotSent):
            await cluster.probe(name)
    states = {state.address: state for state in cluster.states(at)}
    assert {name: state.is_up for name, state in states.items()} == {up: True, down: False, menu: False}
    faults = {name: state.fault_code for name, state in states.items() if state.fault is not None}
    assert faults == {down: FaultCode.CVM_UNREACHABLE, menu: FaultCode.CVM_SHELL_DISABLED}
    # To ask again is not to look again, but a live connection is known to be one.
    later = {state.address: state for state in cluster.states(at)}
    assert [later[name].checked_at for name in (down, menu)] == [states[name].checked_at for name in (down, menu)]
    assert later[up].checked_at > states[up].checked_at
    servers[2].menu = None
    await cluster.probe(menu)
    assert {state.address: state.is_up for state in cluster.states(at)} == {up: True, down: False, menu: True}


async def test_a_shell_that_is_allowed_later_on_is_found(commanded: Commanded) -> None:
    commanded.servers[0].menu = MENU
    name = commanded.names[0]
    with pytest.raises(NotSent) as menu:
        await commanded.cluster.probe(name)
    assert menu.value.code is FaultCode.CVM_SHELL_DISABLED
    commanded.servers[0].menu = None
    assert (await commanded.cluster.probe(name)).facts.shell_ok
    # The login shell is looked up at the login, so there had to be a second one.
    assert commanded.servers[0].accepted == 2


async def test_missing_tools_are_named(pool: Pool, tmp_path: Path) -> None:
    async with running_bash_server(tmp_path / "cvm") as server:
        profile = make_profile(tmp_path, tools=("nutanix_guest_tools_cli",))
        cluster = make_cluster([server.host()], pool, profile, [])
        with pytest.raises(NotSent) as missing:
            await cluster.change(server.host().name, "change", "echo changed", timeout_s=LIMIT_S)
    assert missing.value.code is FaultCode.CVM_TOOLS_MISSING
    assert missing.value.message.startswith("ncli not found on ")


async def test_a_change_goes_to_its_cvm_alone(commanded: Commanded) -> None:
    answer = await commanded.cluster.change(commanded.names[1], "change", "echo changed", timeout_s=LIMIT_S)
    assert answer.stdout == "changed\n"
    assert [len(server.executed) for server in commanded.servers] == [0, 2, 0]
    commanded.servers[1].menu = MENU
    commanded.servers[1].cut()
    await until(lambda: not commanded.servers[1].connections)
    with pytest.raises(NotSent):
        await commanded.cluster.change(commanded.names[1], "change", "echo changed", timeout_s=LIMIT_S)
    assert [len(server.executed) for server in commanded.servers] == [0, 3, 0]
    assert "echo changed" not in commanded.servers[1].executed[2]


async def test_a_change_that_is_cut_off_is_unanswered_and_not_sent_again(commanded: Commanded, tmp_path: Path) -> None:
    text = f": >{tmp_path}/begun; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done"
    change = asyncio.create_task(commanded.cluster.change(commanded.names[0], "change", text, timeout_s=LIMIT_S))
    await until((tmp_path / "begun").exists)
    commanded.servers[0].cut()
    with pytest.raises(Unanswered):
        await change
    assert [server.executed.count(text) for server in commanded.servers] == [1, 0, 0]
    (tmp_path / "go").touch()


async def test_a_change_on_a_new_connection_is_sent_after_a_new_probe(commanded: Commanded, pool: Pool) -> None:
    name = commanded.names[0]
    await commanded.cluster.ask(lambda _: echo())
    pool.retire(commanded.servers[0].host())
    assert (await commanded.cluster.change(name, "change", "echo changed", timeout_s=LIMIT_S)).stdout == "changed\n"
    commands = [command for _, command, result in commanded.seen if result == "ok"]
    assert commands == ["probe", "echo", "probe", "change"]


async def test_a_cvm_that_is_no_longer_configured_gets_no_change(commanded: Commanded) -> None:
    with pytest.raises(NotSent):
        await commanded.cluster.change("10.9.9.9", "change", "echo changed", timeout_s=LIMIT_S)


async def test_cancelling_one_who_waits_for_the_probe_does_not_disturb_the_others(commanded: Commanded) -> None:
    tasks = [asyncio.create_task(commanded.cluster.ask(lambda _: echo())) for _ in range(3)]
    await until(lambda: bool(commanded.servers[0].connections))
    tasks[0].cancel()
    assert [(await task).result.stdout for task in tasks[1:]] == ["hello\n", "hello\n"]


async def test_on_a_real_server_the_tools_are_found_behind_the_profile_alone(pool: Pool, tmp_path: Path) -> None:
    profile = make_profile(tmp_path)
    with running_sshd(tmp_path / "cvm") as sshd:
        cluster = make_cluster([sshd.host()], pool, profile, [])
        without = await pool.run(sshd.host(), "command -v ncli", timeout_s=LIMIT_S, max_output_bytes=1000)
        assert without.exit_status != 0
        facts: ProbeFacts = (await cluster.probe(sshd.host().name)).facts
        assert facts.shell_ok
        assert facts.tools >= set(TOOLS)


async def test_on_a_real_server_a_menu_in_place_of_the_shell_is_recognised(pool: Pool, tmp_path: Path) -> None:
    menu = tmp_path / "menu"
    menu.write_text(f"#!/bin/sh\ncat <<'EOF'\n{MENU}EOF\nread choice\n")
    menu.chmod(0o755)
    with running_sshd(tmp_path / "cvm", lines=[f"ForceCommand {menu}"]) as sshd:
        cluster = make_cluster([replace(sshd.host(), sessions=1)], pool, make_profile(tmp_path), [])
        with pytest.raises(NotSent) as disabled:
            await cluster.change(sshd.host().name, "change", "echo changed", timeout_s=LIMIT_S)
    assert disabled.value.code is FaultCode.CVM_SHELL_DISABLED

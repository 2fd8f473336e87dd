"""A CVM's SSH server: a real bash behind it, and OpenSSH's manners when a connection is cut."""

import asyncio
import json
import os
from pathlib import Path

import asyncssh
import pytest

from app.simulator.faults import Shell
from app.simulator.journal import Kind
from app.simulator.site import Site
from app.simulator.spec import Traits, uniform_site
from tests.simulator.conftest import log_in, run, until

pytestmark = pytest.mark.asyncio

FRAME = """trap '' HUP INT TERM PIPE; exec </dev/null
. /etc/profile
out=$(timeout -s KILL 60 {line} 2>&1); echo "marker rc=$?"
printf '%s\\n' "$out"
date +%s
"""


async def test_the_tools_are_on_path_behind_the_profile_alone(site: Site) -> None:
    cvm = site.cvms["c1"][0]
    plain = await run(site, cvm, "ncli vm ls")
    assert plain.exit_status == 127
    sourced = await run(site, cvm, "source /etc/profile; command -v ncli nutanix_guest_tools_cli")
    assert sourced.exit_status == 0
    assert len(str(sourced.stdout).splitlines()) == 2


async def test_a_full_path_of_ncli_works_without_the_profile(site: Site) -> None:
    answer = await run(site, site.cvms["c1"][1], "/home/nutanix/prism/cli/ncli vm list name=web01")
    assert site.vm_named("web01").uuid in str(answer.stdout)


async def test_answers_go_to_stdout_and_log_lines_to_stderr(site: Site) -> None:
    answer = await run(site, site.cvms["c1"][0], ". /etc/profile; nutanix_guest_tools_cli get_master_location")
    assert str(answer.stdout).startswith("Master's handle: ")
    assert "ZOO_INFO" in str(answer.stderr)
    assert "ZOO_INFO" not in str(answer.stdout)


async def test_without_a_sub_command_the_usage_comes_on_stderr(site: Site) -> None:
    answer = await run(site, site.cvms["c1"][0], ". /etc/profile; nutanix_guest_tools_cli")
    assert answer.exit_status == 1
    assert "delete_vm_tools_entity" in str(answer.stderr)
    assert "refresh_vm_tools_entity" not in str(answer.stderr)


async def test_a_framed_change_is_done_and_answered(site: Site) -> None:
    vm_uuid = site.vm_named("web01").uuid
    line = f"nutanix_guest_tools_cli delete_vm_tools_entity {vm_uuid}"
    answer = await run(site, site.cvms["c1"][0], FRAME.format(line=line))
    lines = str(answer.stdout).splitlines()
    assert lines[0] == "marker rc=0"
    assert lines[-2] == "result_vec: kNoError"
    assert site.vm_named("web01").entity is None


async def test_a_name_in_any_script_is_found(site: Site) -> None:
    answer = await run(site, site.cvms["c1"][0], ". /etc/profile; ncli vm list name='会計サーバー'")
    assert site.vm_named("会計サーバー").uuid in str(answer.stdout)


async def test_a_listing_of_megabytes_arrives_whole(tmp_path: Path) -> None:
    traits = Traits(listing_padding_bytes=100_000)
    async with Site.running(uniform_site(vms=50, traits=traits), tmp_path) as site:
        answer = await run(site, site.cvms["c1"][0], ". /etc/profile; ncli vm ls -json=true")
        assert len(str(answer.stdout)) > 5_000_000
        assert len(json.loads(str(answer.stdout))["data"]) == 50


async def test_a_text_whose_connection_is_cut_runs_on_unless_its_pipe_kills_it(site: Site, tmp_path: Path) -> None:
    cvm = site.cvms["c1"][0]
    immune, mortal, gate = tmp_path / "immune", tmp_path / "mortal", tmp_path / "gate"
    wait = f"echo begun; until [ -e {gate} ]; do sleep 0.01; done"
    connection = await log_in(site, cvm)
    for text in (
        f"trap '' HUP INT TERM PIPE; exec </dev/null; {wait}; echo lost; echo done >{immune}",
        f"{wait}; echo lost; echo done >{mortal}",
    ):
        process = await connection.create_process(text)
        assert await process.stdout.readline() == "begun\n"
    cvm.cut_all()
    connection.abort()
    gate.touch()
    await until(lambda: all(record.ended_number is not None for record in site.journal.of(Kind.EXEC)))
    assert immune.exists()
    assert not mortal.exists()


async def test_a_signal_reaches_the_whole_process_group(site: Site, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    async with await log_in(site, site.cvms["c1"][0]) as connection:
        process = await connection.create_process(f"echo begun; sleep 60; echo done >{mark}")
        await process.stdout.readline()
        process.terminate()
        ended = await asyncio.wait_for(process.wait(), 10)
    assert ended.exit_signal is not None
    assert ended.exit_signal[0] == "TERM"
    assert not mark.exists()


async def test_the_end_is_reported_after_all_output(site: Site) -> None:
    answer = await run(site, site.cvms["c1"][0], "head -c 3000000 /dev/zero | tr '\\0' x; exit 7")
    assert answer.exit_status == 7
    assert len(str(answer.stdout)) == 3_000_000


async def test_what_the_client_sends_reaches_stdin(site: Site) -> None:
    async with await log_in(site, site.cvms["c1"][0]) as connection:
        answer = await asyncio.wait_for(connection.run("cat; echo end", input="text\n"), 10)
    assert answer.stdout == "text\nend\n"


async def test_a_site_leaves_no_process_behind(tmp_path: Path) -> None:
    async with Site.running(uniform_site(vms=1), tmp_path) as site:
        connection = await log_in(site, site.cvms["c1"][0])
        process = await connection.create_process("trap '' TERM; echo $$; timeout 600 sleep 599 & wait")
        pid = int(await process.stdout.readline())
        connection.abort()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_more_sessions_than_the_limit_are_refused(site: Site) -> None:
    cvm = site.cvms["c1"][0]
    cvm.faults.session_limit = 2
    async with await log_in(site, cvm) as connection:
        for _ in range(2):
            await connection.create_process("read line")
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.create_process("true")
    assert site.journal.peak_sessions[cvm.name] == 2


async def test_a_refused_login_is_written_down(site: Site) -> None:
    cvm = site.cvms["c1"][0]
    cvm.faults.login_refused = True
    with pytest.raises(asyncssh.PermissionDenied):
        await log_in(site, cvm)
    assert site.journal.logins(cvm.name) == 0
    assert len(site.journal.of(Kind.LOGIN_REFUSED, host=cvm.name)) == 1


async def test_a_wrong_host_key_is_noticed_and_can_be_mended(site: Site) -> None:
    cvm = site.cvms["c1"][0]
    cvm.serve_wrong_host_key()
    with pytest.raises(asyncssh.HostKeyNotVerifiable):
        await log_in(site, cvm)
    cvm.serve_own_host_key()
    async with await log_in(site, cvm):
        assert site.journal.logins(cvm.name) == 1


async def test_a_cvm_that_is_down_refuses_connections_until_it_is_up_again(site: Site) -> None:
    cvm = site.cvms["c1"][0]
    await cvm.down()
    with pytest.raises(ConnectionRefusedError):
        await log_in(site, cvm)
    await cvm.up()
    assert (await run(site, cvm, "echo here")).stdout == "here\n"


async def test_a_menu_answers_whatever_is_sent_with_itself(site: Site) -> None:
    cvm = site.cvms["c1"][0]
    cvm.faults.shell = Shell.MENU
    answer = await run(site, cvm, "source /etc/profile; ncli vm ls")
    assert answer.exit_status == 0
    assert "Bash access is disabled" in str(answer.stdout)


async def test_a_restricted_shell_sources_nothing(site: Site) -> None:
    cvm = site.cvms["c1"][0]
    cvm.faults.shell = Shell.RESTRICTED
    answer = await run(site, cvm, ". /etc/profile; ncli vm ls")
    assert "restricted" in str(answer.stderr)
    assert site.journal.of(Kind.TOOL) == []


async def test_a_gateway_that_is_down_is_down_for_ncli_on_that_cvm_alone(site: Site) -> None:
    first, second, _ = site.cvms["c1"]
    first.faults.gateway_down = True
    refused = await run(site, first, ". /etc/profile; ncli vm ls")
    assert (refused.exit_status, refused.stdout) == (1, "Error: Could not connect to Nutanix Gateway\n")
    assert (await run(site, second, ". /etc/profile; ncli vm ls")).exit_status == 0

"""Commands over the pool, on a server of ours and on a real OpenSSH server."""

import asyncio
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest

from app.ngt.errors import FaultCode
from app.ssh.host import CommandResult, ConnectionReplaced, Host, NotSent, Unanswered
from app.ssh.pool import Pool, Reachable
from tests.limits import LIMIT_S
from tests.ssh.bash_server import running_bash_server
from tests.ssh.conftest import LIMITS, MakePool, Reached, sessions_in_use, until
from tests.ssh.sshd import running_sshd, write_key

pytestmark = pytest.mark.asyncio

MAX_BYTES = 1_000_000


async def run(
    pool: Pool, host: Host, text: str, timeout_s: float = LIMIT_S, max_output_bytes: int = MAX_BYTES
) -> CommandResult:
    return await pool.run(host, text, timeout_s=timeout_s, max_output_bytes=max_output_bytes)


def held_open(folder: Path) -> str:
    """A text that says when it has begun, goes on when it is told to, and dies of nothing."""
    return (
        f"trap '' HUP INT TERM PIPE; exec </dev/null; : >{folder}/begun; "
        f"while [ ! -e {folder}/go ]; do sleep 0.02; done; : >{folder}/done; echo done"
    )


async def test_an_answer_has_both_streams_the_exit_status_and_the_host_key(pool: Pool, reached: Reached) -> None:
    answer = await run(pool, reached.host, "echo out; echo err >&2; exit 3")
    assert (answer.stdout, answer.stderr, answer.exit_status) == ("out\n", "err\n", 3)
    assert answer.host_key.startswith("SHA256:")
    assert answer.duration_s > 0


async def test_fifty_commands_at_once_need_one_login(pool: Pool, reached: Reached) -> None:
    answers = await asyncio.gather(*(run(pool, reached.host, f"echo {number}") for number in range(50)))
    assert [answer.stdout for answer in answers] == [f"{number}\n" for number in range(50)]
    assert reached.server.logins() == 1
    assert reached.relay.connections == 1


async def test_no_more_commands_run_at_a_time_than_the_host_has_sessions(
    pool: Pool, reached: Reached, tmp_path: Path
) -> None:
    busy = tmp_path / "busy"
    busy.mkdir()
    go = tmp_path / "go"
    text = f": >{busy}/$$; ls {busy} | wc -l; while [ ! -e {go} ]; do sleep 0.02; done; rm {busy}/$$"
    host = replace(reached.host, sessions=3)
    tasks = [asyncio.create_task(run(pool, host, text)) for _ in range(12)]
    await until(lambda: len(list(busy.iterdir())) == 3)
    assert sessions_in_use(pool) == 3
    go.touch()
    counts = [int((await task).stdout) for task in tasks]
    assert max(counts) <= 3


@pytest.mark.parametrize("kind", ["asyncssh", "openssh"])
async def test_a_server_that_allows_two_sessions_answers_all_eight(
    kind: str, make_pool: MakePool, tmp_path: Path
) -> None:
    watched = make_pool()

    async def all_eight(host: Host) -> None:
        answers = await asyncio.gather(*(run(watched.pool, host, f"sleep 0.3; echo {n}") for n in range(8)))
        assert [answer.stdout for answer in answers] == [f"{number}\n" for number in range(8)]

    if kind == "asyncssh":
        async with running_bash_server(tmp_path / "server", max_sessions=2) as server:
            await all_eight(server.host(sessions=8))
            assert server.logins() == 1
    else:
        with running_sshd(tmp_path / "server", lines=["MaxSessions 2"]) as sshd:
            await all_eight(sshd.host(sessions=8))
            assert sshd.logins() == 1
    refusals = [event for event in watched.events if event == "a host refused a session"]
    # Each is refused once or twice, and then waits until a session is free instead of asking again and again.
    assert 1 <= len(refusals) <= 12


async def test_a_line_that_is_cut_leaves_the_command_unanswered_and_the_next_one_logs_in_anew(
    make_pool: MakePool, reached: Reached, tmp_path: Path
) -> None:
    watched = make_pool()
    first = await run(watched.pool, reached.host, "echo first")
    cut_off = asyncio.create_task(run(watched.pool, reached.host, held_open(tmp_path)))
    await until((tmp_path / "begun").exists)
    reached.relay.cut()
    with pytest.raises(Unanswered) as lost:
        await cut_off
    assert lost.value.code is FaultCode.ANSWER_LOST
    answer = await run(watched.pool, reached.host, "echo again")
    assert answer.stdout == "again\n"
    assert answer.connection != first.connection
    assert reached.server.logins() == 2
    assert watched.events == ["connected to a host", "a connection was lost", "connected to a host"]
    (tmp_path / "go").touch()
    await until((tmp_path / "done").exists)


async def test_a_server_that_dies_leaves_the_command_unanswered(pool: Pool, reached: Reached, tmp_path: Path) -> None:
    cut_off = asyncio.create_task(run(pool, reached.host, held_open(tmp_path)))
    await until((tmp_path / "begun").exists)
    reached.server.cut()
    with pytest.raises(Unanswered) as lost:
        await cut_off
    assert lost.value.code is FaultCode.ANSWER_LOST
    (tmp_path / "go").touch()
    await until((tmp_path / "done").exists)


async def test_a_silent_line_is_noticed_by_keepalives(make_pool: MakePool, reached: Reached, tmp_path: Path) -> None:
    watched = make_pool(replace(LIMITS, keepalive_interval_s=0.1, keepalive_count=2))
    cut_off = asyncio.create_task(run(watched.pool, reached.host, held_open(tmp_path)))
    await until((tmp_path / "begun").exists)
    reached.relay.silence()
    with pytest.raises(Unanswered) as lost:
        await cut_off
    assert lost.value.code is FaultCode.ANSWER_LOST
    assert "keepalive" in lost.value.message
    (tmp_path / "go").touch()


async def test_a_time_limit_closes_the_channel_and_what_runs_there_goes_on(
    pool: Pool, reached: Reached, tmp_path: Path
) -> None:
    with pytest.raises(Unanswered) as late:
        await run(pool, reached.host, held_open(tmp_path), timeout_s=0.3)
    assert late.value.code is FaultCode.COMMAND_TIMEOUT
    assert (tmp_path / "begun").exists()
    assert (await run(pool, reached.host, "echo next")).stdout == "next\n"
    assert reached.server.logins() == 1
    (tmp_path / "go").touch()
    await until((tmp_path / "done").exists)


async def test_a_cancelled_command_gives_its_session_back_and_goes_on_there(
    pool: Pool, reached: Reached, tmp_path: Path
) -> None:
    host = replace(reached.host, sessions=1)
    cancelled = asyncio.create_task(run(pool, host, held_open(tmp_path)))
    await until((tmp_path / "begun").exists)
    waiting = asyncio.create_task(run(pool, host, "echo waited"))
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert (await waiting).stdout == "waited\n"
    (tmp_path / "go").touch()
    await until((tmp_path / "done").exists)
    assert sessions_in_use(pool) == 0


async def test_cancelling_at_any_moment_leaves_the_pool_usable(pool: Pool, reached: Reached) -> None:
    host = replace(reached.host, sessions=2)
    for turns in range(40):
        tasks = [asyncio.create_task(run(pool, host, "echo x")) for _ in range(4)]
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await until(lambda: sessions_in_use(pool) == 0)
    assert (await run(pool, host, "echo usable")).stdout == "usable\n"
    assert reached.server.logins() == 1


async def test_output_beyond_the_limit_is_refused_while_it_comes(pool: Pool, reached: Reached) -> None:
    much = "head -c 20000000 /dev/zero"
    for text in (much, f"{much} >&2", f"{much} & {much} >&2"):
        with pytest.raises(Unanswered) as large:
            await run(pool, reached.host, text, max_output_bytes=100_000)
        assert large.value.code is FaultCode.OUTPUT_TOO_LARGE
    exact = await run(
        pool, reached.host, "head -c 60000 /dev/zero; head -c 40000 /dev/zero >&2", max_output_bytes=100_000
    )
    assert (len(exact.stdout), len(exact.stderr)) == (60_000, 40_000)
    assert reached.server.logins() == 1


async def test_five_megabytes_on_one_line_arrive_whole(pool: Pool, reached: Reached) -> None:
    text = "head -c 5000000 /dev/zero | tr '\\0' x; echo end"
    answer = await run(pool, reached.host, text, max_output_bytes=6_000_000)
    assert len(answer.stdout) == 5_000_004
    assert answer.stdout.endswith("xend\n")


async def test_a_command_has_no_terminal_and_no_input(pool: Pool, reached: Reached) -> None:
    answer = await run(pool, reached.host, "tty; cat; test -t 1 || echo no terminal")
    assert answer.stdout == "not a tty\nno terminal\n"


async def test_any_script_arrives_and_broken_bytes_are_replaced(pool: Pool, reached: Reached) -> None:
    answer = await run(
        pool, reached.host, "printf 'Grüße 東京 '; sleep 0.01; printf '\\346\\235'; sleep 0.05; printf '\\261 \\377'"
    )
    assert answer.stdout == "Grüße 東京 東 \ufffd"


async def test_a_command_that_a_signal_ended_has_no_exit_status(pool: Pool, reached: Reached) -> None:
    answer = await run(pool, reached.host, "echo before; kill -KILL $$")
    assert (answer.stdout, answer.exit_status) == ("before\n", None)


async def test_an_idle_connection_is_closed_and_made_anew_when_needed(make_pool: MakePool, reached: Reached) -> None:
    pool = make_pool(replace(LIMITS, idle_close_s=0.1)).pool
    await run(pool, reached.host, "sleep 0.3")
    await until(lambda: pool.state()[0].connections == 0)
    assert pool.state()[0].reachable is Reachable.UNKNOWN
    await run(pool, reached.host, "true")
    assert reached.server.logins() == 2


async def test_closing_the_pool_tells_apart_what_was_sent(
    make_pool: MakePool, reached: Reached, tmp_path: Path
) -> None:
    pool = make_pool().pool
    host = replace(reached.host, sessions=1)
    sent = asyncio.create_task(run(pool, host, held_open(tmp_path)))
    await until((tmp_path / "begun").exists)
    waiting = asyncio.create_task(run(pool, host, f": >{tmp_path}/never"))
    await asyncio.sleep(0)
    await pool.close()
    with pytest.raises(Unanswered):
        await sent
    for not_sent in (waiting, run(pool, host, f": >{tmp_path}/never")):
        with pytest.raises(NotSent) as refused:
            await not_sent
        assert refused.value.code is FaultCode.DRAINING
    (tmp_path / "go").touch()
    await until((tmp_path / "done").exists)
    assert not (tmp_path / "never").exists()


async def test_a_text_that_is_bound_to_a_connection_goes_over_no_other(
    pool: Pool, reached: Reached, tmp_path: Path
) -> None:
    first = await run(pool, reached.host, "true")
    pool.retire(reached.host)
    text = f": >{tmp_path}/sent"
    with pytest.raises(ConnectionReplaced):
        await pool.run(reached.host, text, timeout_s=LIMIT_S, max_output_bytes=MAX_BYTES, only_on=first.connection)
    assert not (tmp_path / "sent").exists()
    second = await run(pool, reached.host, "true")
    await pool.run(reached.host, text, timeout_s=LIMIT_S, max_output_bytes=MAX_BYTES, only_on=second.connection)
    assert (tmp_path / "sent").exists()


async def test_a_connection_that_is_retired_ends_after_its_last_command(
    pool: Pool, reached: Reached, tmp_path: Path
) -> None:
    running = asyncio.create_task(run(pool, reached.host, held_open(tmp_path)))
    await until((tmp_path / "begun").exists)
    pool.retire(reached.host)
    assert (await run(pool, reached.host, "echo new")).stdout == "new\n"
    (tmp_path / "go").touch()
    assert (await running).stdout == "done\n"
    assert reached.server.logins() == 2


async def test_a_refused_login_is_tried_once_until_the_key_file_changes(make_pool: MakePool, reached: Reached) -> None:
    watched = make_pool()
    right_key = reached.host.key_file
    assert right_key is not None
    right = right_key.read_bytes()
    right_key.write_bytes(asyncssh.generate_private_key("ssh-ed25519").export_private_key())
    attempts = await asyncio.gather(
        *(run(watched.pool, reached.host, "true") for _ in range(20)), return_exceptions=True
    )
    attempts += await asyncio.gather(run(watched.pool, reached.host, "true"), return_exceptions=True)
    assert {type(attempt) for attempt in attempts} == {NotSent}
    assert {attempt.code for attempt in attempts if isinstance(attempt, NotSent)} == {FaultCode.SSH_AUTH_FAILED}
    assert "so that the account is not locked" in str(attempts[-1])
    assert reached.relay.connections == 1
    assert [(line["event"], line["log_level"]) for line in watched.lines] == [("a login was refused", "warning")]
    right_key.write_bytes(right)
    assert (await run(watched.pool, reached.host, "echo in")).stdout == "in\n"


async def test_another_host_key_than_the_pinned_one_is_refused_before_the_login(
    make_pool: MakePool, reached: Reached
) -> None:
    watched = make_pool()
    pinned = reached.host.known_hosts.read_text()
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().split()[1]
    own = pinned.split()[2]
    revoked = "".join(f"@revoked {line}\n{line}\n" for line in pinned.splitlines())
    for unfit in (pinned.replace(own, other), "", revoked, "a line of nothing that is known\n"):
        reached.host.known_hosts.write_text(unfit)
        with pytest.raises(NotSent) as refused:
            await run(watched.pool, reached.host, "true")
        assert refused.value.code is FaultCode.SSH_HOST_KEY_MISMATCH, unfit
    assert reached.server.logins() == 0
    assert watched.pool.state()[0].host_key_mismatches == 4
    assert watched.events == ["a host key changed"] * 4
    reached.host.known_hosts.write_text(pinned)
    assert (await run(watched.pool, reached.host, "echo in")).stdout == "in\n"


async def test_a_host_that_has_no_key_of_the_pinned_kind_is_a_mismatch(pool: Pool, reached: Reached) -> None:
    other = asyncssh.generate_private_key("ecdsa-sha2-nistp256").export_public_key().decode().split()
    reached.host.known_hosts.write_text(f"[127.0.0.1]:{reached.host.port} {other[0]} {other[1]}\n")
    with pytest.raises(NotSent) as refused:
        await run(pool, reached.host, "true")
    assert refused.value.code is FaultCode.SSH_HOST_KEY_MISMATCH


@pytest.mark.parametrize("kind", ["asyncssh", "openssh"])
async def test_a_host_certificate_of_a_trusted_authority_is_enough(kind: str, pool: Pool, tmp_path: Path) -> None:
    authority = asyncssh.generate_private_key("ssh-ed25519")
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    certificate = authority.generate_host_certificate(host_key, "cvm", principals=["127.0.0.1"])
    trusted = f"@cert-authority * {authority.export_public_key().decode()}"
    if kind == "asyncssh":
        async with running_bash_server(tmp_path / "s", host_key=host_key, certificate=certificate) as server:
            server.known_hosts.write_text(trusted)
            assert (await run(pool, server.host(), "echo in")).stdout == "in\n"
    else:
        write_certificate = tmp_path / "host_key-cert.pub"
        write_certificate.write_bytes(certificate.export_certificate())
        with running_sshd(tmp_path / "s", host_key=host_key, lines=[f"HostCertificate {write_certificate}"]) as sshd:
            sshd.known_hosts.write_text(trusted)
            assert (await run(pool, sshd.host(), "echo in")).stdout == "in\n"


async def test_a_key_of_a_kind_that_the_server_must_be_asked_for_logs_in(pool: Pool, tmp_path: Path) -> None:
    key_file = tmp_path / "server" / "client_key"
    key_file.parent.mkdir()
    write_key(key_file, asyncssh.generate_private_key("ssh-rsa", key_size=3072))
    with running_sshd(tmp_path / "server") as sshd:
        assert (await run(pool, sshd.host(), "echo in")).stdout == "in\n"


async def test_a_command_that_leaves_a_daemon_with_its_output_is_answered(pool: Pool, tmp_path: Path) -> None:
    with running_sshd(tmp_path / "server") as sshd:
        answer = await run(pool, sshd.host(), "echo started; sleep 5 & exit 3")
    assert (answer.stdout, answer.exit_status) == ("started\n", 3)
    assert answer.duration_s < 4


async def test_output_that_was_still_open_when_the_pool_was_closed_is_no_answer(
    make_pool: MakePool, tmp_path: Path
) -> None:
    pool = make_pool(replace(LIMITS, drain_s=30.0)).pool
    with running_sshd(tmp_path / "server") as sshd:
        host = sshd.host()
        exited = asyncio.create_task(run(pool, host, f"echo part; sleep 5 & : >{tmp_path}/exits; exit 0"))
        await until((tmp_path / "exits").exists)
        # Its exit status has come when two later commands are through.
        for _ in range(2):
            await run(pool, host, "sleep 0.1")
        await pool.close()
        with pytest.raises(Unanswered) as lost:
            await exited
    assert lost.value.code is FaultCode.ANSWER_LOST

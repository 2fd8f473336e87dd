"""What can go wrong around the sending of a text, on servers that misbehave: `NotSent` only where that is certain."""

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from app.ngt.errors import FaultCode
from app.ssh.host import Host, NotSent, Unanswered
from app.ssh.pool import Pool, Reachable
from tests.limits import LIMIT_S
from tests.ssh.bash_server import BashServer
from tests.ssh.conftest import LIMITS, MakePool, sessions_in_use, until

MAX_BYTES = 100_000


@pytest_asyncio.fixture
async def silent_port() -> AsyncIterator[int]:
    """A port where somebody listens and never says anything."""

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    listening = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    yield int(listening.sockets[0].getsockname()[1])
    listening.close()


def closed_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


async def not_sent(pool: Pool, host: Host) -> NotSent:
    with pytest.raises(NotSent) as refused:
        await pool.run(host, "true", timeout_s=LIMIT_S, max_output_bytes=MAX_BYTES)
    return refused.value


async def test_a_dead_host_is_dialled_once_and_then_left_alone_for_a_while(
    make_pool: MakePool, bash_server: BashServer
) -> None:
    watched = make_pool(replace(LIMITS, hold_down_first_s=0.3))
    host = replace(bash_server.host(), port=closed_port())
    attempts = await asyncio.gather(*(not_sent(watched.pool, host) for _ in range(10)))
    attempts.append(await not_sent(watched.pool, host))
    assert {attempt.code for attempt in attempts} == {FaultCode.CVM_UNREACHABLE}
    assert "not tried again for another 1 s" in attempts[-1].message
    assert watched.events == ["could not connect to a host"]
    state = watched.pool.state()[0]
    assert state.reachable is Reachable.DOWN
    assert state.fault is not None
    assert "Connection refused" in state.fault.message
    assert "Connection refused" in watched.lines[0]["error"]
    await asyncio.sleep(watched.lines[0]["held_for_s"])
    await not_sent(watched.pool, host)
    assert watched.events == ["could not connect to a host"] * 2
    assert [line["held_for_s"] for line in watched.lines] == [0.3, 0.6]


async def test_a_host_that_says_nothing_is_given_up_after_the_login_limit(
    make_pool: MakePool, bash_server: BashServer, silent_port: int
) -> None:
    watched = make_pool(replace(LIMITS, login_timeout_s=0.2))
    refused = await not_sent(watched.pool, replace(bash_server.host(), port=silent_port))
    assert refused.code is FaultCode.CVM_UNREACHABLE
    assert "no answer in time" in refused.message


async def test_a_host_that_hangs_up_after_the_login_is_not_logged_in_to_again_at_once(
    make_pool: MakePool, bash_server: BashServer
) -> None:
    watched = make_pool()
    bash_server.hang_up_after_login = True
    for _ in range(5):
        assert (await not_sent(watched.pool, bash_server.host())).code is FaultCode.CVM_UNREACHABLE
    assert bash_server.accepted == 1
    assert bash_server.executed == []


async def test_a_host_that_refuses_to_execute_has_executed_nothing(
    make_pool: MakePool, bash_server: BashServer
) -> None:
    bash_server.refuse_exec = True
    refused = await not_sent(make_pool().pool, bash_server.host())
    assert refused.code is FaultCode.CVM_SHELL_DISABLED


async def test_a_channel_that_is_closed_instead_of_an_answer_may_have_executed_the_text(
    make_pool: MakePool, bash_server: BashServer
) -> None:
    bash_server.close_on_exec = True
    with pytest.raises(Unanswered) as lost:
        await make_pool().pool.run(bash_server.host(), "true", timeout_s=LIMIT_S, max_output_bytes=MAX_BYTES)
    assert lost.value.code is FaultCode.ANSWER_LOST
    assert bash_server.executed == ["true"]


async def test_a_channel_that_opens_too_late_is_closed_and_nothing_is_sent_on_it(
    make_pool: MakePool, bash_server: BashServer
) -> None:
    pool = make_pool(replace(LIMITS, channel_wait_s=0.2)).pool
    bash_server.open_when = opened = asyncio.Event()
    host = bash_server.host(sessions=1)
    refused = await not_sent(pool, host)
    assert refused.code is FaultCode.CVM_UNREACHABLE
    assert "within 0.2 s" in refused.message
    # The server still owes that channel, so the next one waits for its session in vain.
    assert sessions_in_use(pool) == 1
    await not_sent(pool, host)
    opened.set()
    await until(lambda: sessions_in_use(pool) == 0)
    assert bash_server.executed == []
    bash_server.open_when = None
    answer = await pool.run(host, "echo in", timeout_s=LIMIT_S, max_output_bytes=MAX_BYTES)
    assert answer.stdout == "in\n"
    assert bash_server.accepted == 1


async def test_cancelling_while_the_channel_opens_sends_nothing(make_pool: MakePool, bash_server: BashServer) -> None:
    pool = make_pool().pool
    bash_server.open_when = opened = asyncio.Event()
    run = asyncio.create_task(pool.run(bash_server.host(), "true", timeout_s=LIMIT_S, max_output_bytes=MAX_BYTES))
    await until(lambda: sessions_in_use(pool) == 1)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    opened.set()
    await until(lambda: sessions_in_use(pool) == 0)
    assert bash_server.executed == []


async def test_a_server_that_never_has_a_session_free_is_not_waited_for_for_ever(
    make_pool: MakePool, bash_server: BashServer
) -> None:
    bash_server.max_sessions = 0
    watched = make_pool(replace(LIMITS, channel_wait_s=0.3))
    refused = await not_sent(watched.pool, bash_server.host())
    assert refused.code is FaultCode.CVM_UNREACHABLE
    assert "a host refused a session" in watched.events
    assert bash_server.executed == []


async def test_a_password_logs_in_where_one_is_configured(
    make_pool: MakePool, bash_server: BashServer, tmp_path: Path
) -> None:
    bash_server.password = "geheim"
    password_file = tmp_path / "password"
    password_file.write_text("geheim\n")
    host = replace(bash_server.host(), key_file=None, password_file=password_file)
    answer = await make_pool().pool.run(host, "echo in", timeout_s=LIMIT_S, max_output_bytes=MAX_BYTES)
    assert answer.stdout == "in\n"


async def test_a_wrong_password_is_tried_once(make_pool: MakePool, bash_server: BashServer, tmp_path: Path) -> None:
    bash_server.password = "geheim"
    password_file = tmp_path / "password"
    password_file.write_text("falsch\n")
    host = replace(bash_server.host(), password_file=password_file)
    pool = make_pool().pool
    for _ in range(3):
        refused = await not_sent(pool, host)
        assert refused.code is FaultCode.SSH_AUTH_FAILED
        assert "falsch" not in refused.message
    assert bash_server.tried_passwords == ["falsch"]


@pytest.mark.parametrize("unfit", ["missing", "encrypted", "no key"])
async def test_a_key_file_that_cannot_be_used_means_no_login_at_all(
    unfit: str, make_pool: MakePool, bash_server: BashServer
) -> None:
    if unfit == "missing":
        bash_server.key_file.unlink()
    elif unfit == "encrypted":
        bash_server.key_file.write_bytes(bash_server.key.export_private_key("pkcs8-pem", passphrase="geheim"))
    else:
        bash_server.key_file.write_text("nothing")
    watched = make_pool()
    refused = await not_sent(watched.pool, bash_server.host())
    assert refused.code is FaultCode.SSH_AUTH_FAILED
    assert "no login was tried" in refused.message
    bash_server.key_file.write_bytes(bash_server.key.export_private_key())
    answer = await watched.pool.run(bash_server.host(), "echo in", timeout_s=LIMIT_S, max_output_bytes=MAX_BYTES)
    assert answer.stdout == "in\n"


async def test_a_missing_known_hosts_file_trusts_nobody(make_pool: MakePool, bash_server: BashServer) -> None:
    bash_server.known_hosts.unlink()
    refused = await not_sent(make_pool().pool, bash_server.host())
    assert refused.code is FaultCode.SSH_HOST_KEY_MISMATCH
    assert bash_server.accepted == 0


async def test_the_keys_and_the_agent_of_whoever_runs_the_service_take_no_part(
    make_pool: MakePool, bash_server: BashServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home" / ".ssh"
    home.mkdir(parents=True)
    (home / "id_ed25519").write_bytes(bash_server.key_file.read_bytes())
    (home / "config").write_text("Host *\n  ProxyCommand false\n")
    monkeypatch.setenv("HOME", str(home.parent))
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    host = replace(bash_server.host(), key_file=None)
    refused = await not_sent(make_pool().pool, host)
    assert refused.code is FaultCode.SSH_AUTH_FAILED
    assert bash_server.accepted == 0

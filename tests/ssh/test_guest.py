"""Reading a guest and restarting its agent, on a server of ours and on a real OpenSSH server."""

from dataclasses import replace
from pathlib import Path

import pytest

from app.ngt.errors import Fault, FaultCode
from app.ngt.tools.certificate import parse_certificate
from app.simulator.certificates import issue, pem_of
from app.ssh.guest import GuestReading, read_guest, restart_agent
from app.ssh.pool import Pool
from tests.limits import LIMIT_S
from tests.ssh.conftest import Reached

NGT_UUID = "d4de685b-791a-4fbc-b916-6d5008bcbe2d"
CERTIFICATE = pem_of(issue(NGT_UUID, not_before=1_700_000_000))


async def read(pool: Pool, reached: Reached, folder: Path) -> GuestReading:
    return await read_guest(
        pool,
        reached.host,
        read_certificate=f"cat {folder}/client-cert.pem",
        read_config=f"cat {folder}/ngt_config.json",
        timeout_s=LIMIT_S,
    )


async def test_both_files_are_read_over_one_login(pool: Pool, reached: Reached, tmp_path: Path) -> None:
    (tmp_path / "client-cert.pem").write_text(CERTIFICATE)
    (tmp_path / "ngt_config.json").write_text(f'{{"ngt_uuid": "{NGT_UUID}"}}')
    reading = await read(pool, reached, tmp_path)
    assert (reading.certificate, reading.ngt_uuid, reading.fault) == (parse_certificate(CERTIFICATE), NGT_UUID, None)
    assert reading.address == reached.host.name
    assert reading.host_key.startswith("SHA256:")
    assert reached.server.logins() == 1


async def test_a_guest_without_the_files_is_reached_all_the_same(pool: Pool, reached: Reached, tmp_path: Path) -> None:
    reading = await read(pool, reached, tmp_path)
    assert (reading.certificate, reading.ngt_uuid) == (None, None)
    assert reading.fault is not None
    assert reading.fault.code is FaultCode.GUEST_CERTIFICATE_MISSING
    assert "No such file" in reading.fault.message
    assert "No such file" in reading.certificate_answer.stderr


@pytest.mark.parametrize("name", ["client-key.pem", "Client-Key.PEM"])
async def test_a_command_that_names_the_private_key_is_not_sent(pool: Pool, reached: Reached, name: str) -> None:
    with pytest.raises(ValueError, match="client-key"):
        await read_guest(pool, reached.host, read_certificate=f"cat {name}", read_config="true", timeout_s=LIMIT_S)
    assert reached.relay.connections == 0


async def test_a_private_key_that_a_command_prints_goes_nowhere(pool: Pool, reached: Reached, tmp_path: Path) -> None:
    (tmp_path / "all.pem").write_text(f"{CERTIFICATE}-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n")
    with pytest.raises(Fault) as refused:
        await read_guest(
            pool, reached.host, read_certificate=f"cat {tmp_path}/*.pem", read_config="true", timeout_s=LIMIT_S
        )
    assert refused.value.code is FaultCode.UNEXPECTED_OUTPUT
    assert "secret" not in refused.value.message


async def test_a_guest_that_cannot_be_reached_is_a_fault_of_the_guest(pool: Pool, reached: Reached) -> None:
    reached.relay.refuse()
    with pytest.raises(Fault) as gone:
        await restart_agent(pool, reached.host, restart_command="true", timeout_s=LIMIT_S)
    assert gone.value.code is FaultCode.GUEST_NOT_REACHED
    assert gone.value.message.startswith(f"guest {reached.host.name}: ")


async def test_a_guest_with_another_host_key_keeps_that_cause(pool: Pool, reached: Reached, tmp_path: Path) -> None:
    empty = tmp_path / "nobody"
    empty.touch()
    with pytest.raises(Fault) as stranger:
        await restart_agent(pool, replace(reached.host, known_hosts=empty), restart_command="true", timeout_s=LIMIT_S)
    assert stranger.value.code is FaultCode.SSH_HOST_KEY_MISMATCH


async def test_a_restart_that_fails_says_why(pool: Pool, reached: Reached) -> None:
    command = "echo 'sudo: a password is required' >&2; exit 1"
    with pytest.raises(Fault) as failed:
        await restart_agent(pool, reached.host, restart_command=command, timeout_s=LIMIT_S)
    assert failed.value.code is FaultCode.AGENT_RESTART_FAILED
    assert "sudo: a password is required" in failed.value.message
    assert (await restart_agent(pool, reached.host, restart_command="true", timeout_s=LIMIT_S)).exit_status == 0


async def test_a_restart_without_an_answer_leaves_the_guest_unreached(pool: Pool, reached: Reached) -> None:
    with pytest.raises(Fault) as slow:
        await restart_agent(pool, reached.host, restart_command="sleep 2", timeout_s=0.2)
    assert slow.value.code is FaultCode.GUEST_NOT_REACHED

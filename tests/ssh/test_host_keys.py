"""Asking a machine for its host keys, and pinning one of them."""

from pathlib import Path

import asyncssh
import pytest

from app.ngt.errors import Fault, FaultCode
from app.ssh.host_keys import pin, scan_host_keys
from app.ssh.pool import Pool
from tests.limits import LIMIT_S
from tests.ssh.conftest import Reached
from tests.ssh.sshd import running_sshd, write_key
from tests.ssh.test_logins import closed_port


async def test_a_scan_needs_no_login_and_what_it_found_can_be_pinned(
    pool: Pool, reached: Reached, tmp_path: Path
) -> None:
    host = reached.host
    (key,) = await scan_host_keys(host.address, host.port, timeout_s=LIMIT_S)
    assert key.algorithm == "ssh-ed25519"
    assert reached.server.logins() == 0
    host.known_hosts.write_text("# nobody yet")
    assert pin(host.known_hosts, key)
    assert not pin(host.known_hosts, key)
    answer = await pool.run(host, "echo in", timeout_s=LIMIT_S, max_output_bytes=1000)
    assert (answer.stdout, answer.host_key) == ("in\n", key.fingerprint)


async def test_all_kinds_of_keys_of_a_real_server_are_found_whichever_it_lacks(tmp_path: Path) -> None:
    keys = {
        "rsa": asyncssh.generate_private_key("ssh-rsa", key_size=3072),
        "ecdsa": asyncssh.generate_private_key("ecdsa-sha2-nistp521"),
    }
    for name, key in keys.items():
        write_key(tmp_path / name, key)
    lines = [f"HostKey {tmp_path}/rsa"]
    with running_sshd(tmp_path / "server", host_key=keys["ecdsa"], lines=lines) as sshd:
        found = await scan_host_keys("127.0.0.1", sshd.port, timeout_s=LIMIT_S)
    assert {key.fingerprint for key in found} == {key.get_fingerprint() for key in keys.values()}


async def test_a_machine_that_does_not_answer_is_a_fault() -> None:
    with pytest.raises(Fault) as gone:
        await scan_host_keys("127.0.0.1", closed_port(), timeout_s=LIMIT_S)
    assert gone.value.code is FaultCode.CVM_UNREACHABLE

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncssh
import pytest

from tests.cli.command import Commands


@asynccontextmanager
async def _server(*keys: asyncssh.SSHKey, host: str = "127.0.0.1") -> AsyncIterator[int]:
    async with await asyncssh.listen(host, 0, server_host_keys=list(keys)) as listening:
        yield listening.get_port()


@pytest.mark.parametrize("form", ["localhost:{}", "[::1]:{}"])
async def test_a_scanned_key_can_be_pinned_by_its_fingerprint_and_is_then_trusted(
    commands: Commands, tmp_path: Path, form: str
) -> None:
    keys = [asyncssh.generate_private_key(name) for name in ("ssh-ed25519", "ecdsa-sha2-nistp256")]
    keys.append(asyncssh.generate_private_key("ssh-rsa", key_size=2048))
    known_hosts = tmp_path / "made" / "known_hosts"
    async with _server(*keys, host="::1" if "[" in form else "localhost") as port:
        address = form.format(port)
        scanned = await commands.run("hosts", "scan", address)
        assert scanned.status == 0
        shown = dict(line.split() for line in scanned.stdout.splitlines())
        assert shown == {key.get_fingerprint(): key.get_algorithm() for key in keys}
        assert f"ngt-renewal hosts trust {address} SHA256:" in scanned.stderr

        chosen = keys[1].get_fingerprint()
        trust = ("hosts", "trust", address, chosen, "--known-hosts", str(known_hosts))
        pinned = await commands.run(*trust)
        assert (pinned.status, pinned.stderr) == (0, "")
        assert pinned.stdout == f"{chosen} of {address} is pinned in {known_hosts}.\n"
        again = await commands.run(*trust)
        assert (again.status, again.stdout) == (0, f"{chosen} of {address} was pinned already in {known_hosts}.\n")
    host = "::1" if "[" in form else "localhost"
    trusted = asyncssh.read_known_hosts(str(known_hosts)).match(host, "", port)[0]
    assert [key.get_fingerprint() for key in trusted] == [chosen]


async def test_a_fingerprint_that_is_not_shown_is_not_pinned(commands: Commands, tmp_path: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    known_hosts = tmp_path / "known_hosts"
    async with _server(key) as port:
        address = f"127.0.0.1:{port}"
        ended = await commands.run("hosts", "trust", address, "SHA256:another", "--known-hosts", str(known_hosts))
    said = f"{address} does not show SHA256:another; it shows {key.get_fingerprint()}. Nothing was pinned.\n"
    assert (ended.status, ended.stdout, ended.stderr) == (1, "", said)
    assert not known_hosts.exists()


async def test_a_file_that_cannot_be_written_is_told(commands: Commands, tmp_path: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    async with _server(key) as port:
        trust = ("hosts", "trust", f"127.0.0.1:{port}", key.get_fingerprint(), "--known-hosts", str(tmp_path))
        ended = await commands.run(*trust)
    said = f"{tmp_path} cannot be written: Is a directory ({tmp_path}). Nothing was pinned.\n"
    assert (ended.status, ended.stdout, ended.stderr) == (1, "", said)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (
            "[::1]:{closed}",
            "::1 port {closed} cannot be asked for its host keys: Connection refused. Check the address",
        ),
        ("10.0.0.1:99999", "'10.0.0.1:99999' has a port outside 1 to 65535.\n"),
        ("no address", "'no address' is not an address such as 10.0.0.31 or 10.0.0.31:2222.\n"),
    ],
)
async def test_a_machine_that_cannot_be_asked_is_told_in_a_sentence(
    commands: Commands, address: str, said: str
) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as closing:
        closed = closing.getsockname()[1]
    ended = await commands.run("hosts", "scan", address.format(closed=closed))
    assert (ended.status, ended.stdout) == (1, "")
    assert ended.stderr.startswith(said.format(closed=closed))
    assert len(ended.stderr.splitlines()) == 1

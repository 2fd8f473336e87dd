"""The files of a login as people have them, and what the client offers."""

import asyncio
import codecs
import pwd
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest

from app.ngt.errors import FaultCode
from app.settings import ClusterSettings, Settings
from app.ssh.host import Host, NotSent
from app.ssh.login_files import KeyRefusedError, find_unusable_login_files, read_keys, read_known_hosts
from app.ssh.pool import Pool
from tests.settings.test_text_files import ENCODERS
from tests.ssh.conftest import Reached

CONFLICT = "<<<<<<< HEAD\n{line}=======\n{other}>>>>>>> theirs\n"


async def answer(pool: Pool, host: Host) -> str:
    return (await pool.run(host, "echo in", timeout_s=60, max_output_bytes=1000)).stdout


@pytest.mark.field("C5")
@pytest.mark.parametrize("encode", ENCODERS.values(), ids=ENCODERS)
async def test_files_saved_on_any_system_log_in(pool: Pool, reached: Reached, encode: Callable[[str], bytes]) -> None:
    host = reached.host
    assert host.key_file is not None
    for file in (host.key_file, host.known_hosts):
        file.write_bytes(encode(file.read_text()))
    assert await answer(pool, host) == "in\n"


@pytest.mark.field("C4")
async def test_good_lines_of_known_hosts_count_and_bad_ones_are_named(pool: Pool, reached: Reached) -> None:
    host = reached.host
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    line = host.known_hosts.read_text()
    host.known_hosts.write_text(CONFLICT.format(line=line, other=f"other {other}") + "@mark h ssh-rsa AAAA\n\nword\n")
    assert read_known_hosts(host.known_hosts).unread == (1, 4, 6, 7, 9)
    assert await answer(pool, host) == "in\n"


@pytest.mark.field("C4")
async def test_a_mismatch_names_the_lines_that_were_not_read(pool: Pool, reached: Reached) -> None:
    host = reached.host
    host.known_hosts.write_text(host.known_hosts.read_text().replace("AAAA", "AAAB"))
    with pytest.raises(NotSent, match="lines of it that are not host keys: 1") as mismatch:
        await answer(pool, host)
    assert mismatch.value.code is FaultCode.SSH_HOST_KEY_MISMATCH


def make_keys(folder: Path) -> None:
    made = (("plain", "PEM", ""), ("encrypted", "PEM", "secret"), ("openssh", "RFC4716", "secret"))
    for name, kind, passphrase in made:
        command = ("ssh-keygen", "-q", "-t", "ecdsa", "-m", kind, "-N", passphrase, "-f", str(folder / name))
        subprocess.run(command, check=True)
    (folder / "empty").write_text("\n")
    (folder / "putty").write_text("PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n")
    (folder / "saved.pub").write_bytes(codecs.BOM_UTF16_LE + (folder / "plain.pub").read_text().encode("utf-16-le"))
    (folder / "text").write_text("not a key\n")
    (folder / "bytes").write_bytes(bytes(range(256)))


@pytest.mark.field("C7")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("empty", "it is empty"),
        ("plain.pub", "it is a public key: name the file of the private key"),
        ("saved.pub", "it is a public key: name the file of the private key"),
        ("putty", "it is a key of PuTTY: convert it with `puttygen {path} -O private-openssh"),
        ("encrypted", "it is encrypted and the service cannot ask for its passphrase"),
        ("openssh", "it is encrypted and the service cannot ask for its passphrase"),
        ("text", "it holds no private key"),
        ("bytes", "it holds no private key"),
    ],
)
def test_a_key_file_of_another_kind_is_named(tmp_path: Path, name: str, said: str) -> None:
    make_keys(tmp_path)
    assert read_keys(tmp_path / "plain")
    with pytest.raises(KeyRefusedError) as refused:
        read_keys(tmp_path / name)
    assert str(refused.value).startswith(said.format(path=tmp_path / name))
    (tmp_path / "known_hosts").write_text("")
    files = {"key_file": tmp_path / name, "known_hosts": tmp_path / "known_hosts"}
    settings = Settings(clusters={"c1": ClusterSettings.model_validate({"cvms": ("10.0.0.31",), **files})})
    sentences = list(find_unusable_login_files(settings))
    assert len(sentences) == 1
    assert f"`clusters.c1.key_file` is refused: {tmp_path / name} cannot be used: " in sentences[0]


@pytest.mark.field("C6")
async def test_a_user_that_is_only_a_number_logs_in(
    pool: Pool, reached: Reached, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(uid: int) -> pwd.struct_passwd:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "HOME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert await answer(pool, reached.host) == "in\n"


async def offer_of(pool: Pool, host: Host) -> list[set[str]]:
    """The lists of algorithms that the client sends to a server: RFC 4253, 7.1."""
    got: asyncio.Future[list[set[str]]] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-Server\r\n")
        await reader.readline()
        await reader.readexactly(4 + 1 + 1 + 16)
        lists = []
        for _ in range(10):
            length = int.from_bytes(await reader.readexactly(4))
            lists.append(set((await reader.readexactly(length)).decode().split(",")))
        got.set_result(lists)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(NotSent):
            await answer(pool, replace(host, port=port))
        return await got


@pytest.mark.field("G6")
async def test_sha_1_and_zlib_are_offered_only_where_a_setting_asks_for_it(pool: Pool, reached: Reached) -> None:
    kex, _, to_server, from_server, *rest = await offer_of(pool, reached.host)
    assert not [name for name in kex if "sha1" in name]
    assert "curve25519-sha256" in kex
    assert not [name for name in to_server | from_server if "cbc" in name or "3des" in name or "arcfour" in name]
    macs, compressions = rest[0] | rest[1], rest[2] | rest[3]
    assert not [name for name in macs if "sha1" in name or "md5" in name]
    assert "hmac-sha2-256" in macs
    assert compressions == {"none"}

    kex, kinds, _, _, macs, *_ = await offer_of(pool, replace(reached.host, legacy_algorithms=True))
    assert {"diffie-hellman-group14-sha1", "diffie-hellman-group1-sha1", "curve25519-sha256"} <= kex
    assert "hmac-sha1" in macs
    assert "ssh-rsa" in kinds

"""A real OpenSSH server on loopback, as root or as an ordinary user, for as long as a test needs it.

Whoever runs the tests logs in, with a key. `make test` sees to it that there is an `sshd`; without one the tests that
need it fail with one sentence.
"""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import asyncssh
import psutil

from app.ssh.host import Host
from tests.limits import LIMIT_S

# Where `tools/need` puts what it may not install.
_UNPACKED = Path(__file__).resolve().parents[2] / ".tools" / "bin"
_ATTEMPTS = 5
# As root, sshd needs this empty folder and cannot be told another.
_PRIVILEGE_SEPARATION = Path("/run/sshd")
# So that nothing stays behind, it is made in a view of the file system that only the server and its commands have.
_OWN_VIEW = (
    "unshare",
    "--mount",
    "sh",
    "-c",
    'mount -t tmpfs none /run && mkdir -m 755 /run/sshd && exec "$@"',
    "sshd",
)


class SshdMissingError(RuntimeError):
    """This machine has no `sshd`."""


@dataclass(slots=True)
class Sshd:
    """A running server. `log` is its own log; `key_file` and `known_hosts` are what a client needs."""

    process: subprocess.Popen[bytes]
    port: int
    username: str
    directory: Path
    key_file: Path
    known_hosts: Path
    log: Path

    def host(self, sessions: int = 4) -> Host:
        return Host("127.0.0.1", self.port, self.username, self.key_file, self.known_hosts, sessions=sessions)

    def logins(self) -> int:
        """How many logins were accepted so far."""
        return self.log.read_text("utf-8", "replace").count("Accepted publickey for ")

    def cut(self) -> None:
        """Kills every connection's processes; the commands that run on them go on."""
        for process in psutil.Process(self.process.pid).children(recursive=True):
            # A command of the connection may end while we look.
            with suppress(psutil.NoSuchProcess):
                if process.name().startswith("sshd"):
                    process.kill()


@contextmanager
def running_sshd(
    directory: Path, *, lines: Sequence[str] = (), host_key: asyncssh.SSHKey | None = None
) -> Iterator[Sshd]:
    """`lines` go into its configuration before all others, so they win. `directory` is made and gets all its files."""
    program = find_sshd()
    directory.mkdir(parents=True, exist_ok=True)
    key_file = directory / "client_key"
    if not key_file.exists():
        write_key(key_file, asyncssh.generate_private_key("ssh-ed25519"))
    own_key = host_key or asyncssh.generate_private_key("ssh-ed25519")
    write_key(directory / "host_key", own_key)
    public = asyncssh.read_private_key(str(key_file)).export_public_key()
    (directory / "authorized_keys").write_bytes(public)
    process, port, log = _start(program, directory, lines)
    try:
        known_hosts = directory / "known_hosts"
        known_hosts.write_text(known_hosts_line(own_key, port))
        yield Sshd(process, port, getpass.getuser(), directory, key_file, known_hosts, log)
    finally:
        _stop(process)


def find_sshd() -> str:
    """The path of `sshd`. Raises `SshdMissingError`."""
    found = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:{_UNPACKED}:/usr/sbin:/usr/local/sbin:/sbin")
    if found is None:
        raise SshdMissingError("these tests need OpenSSH's sshd: run `tools/need sshd=openssh-server`")
    return found


def write_key(path: Path, key: asyncssh.SSHKey) -> None:
    """A private key file that only its owner reads."""
    path.touch(mode=0o600)
    path.write_bytes(key.export_private_key())


def known_hosts_line(key: asyncssh.SSHKey, port: int, marker: str = "") -> str:
    """The line that pins `key` for 127.0.0.1 on that port; `marker` such as `@revoked` goes before it."""
    algorithm, blob = key.export_public_key().decode().split()[:2]
    return f"{marker} [127.0.0.1]:{port} {algorithm} {blob}\n".lstrip()


def _start(program: str, directory: Path, lines: Sequence[str]) -> tuple[subprocess.Popen[bytes], int, Path]:
    log = directory / "sshd.log"
    for _ in range(_ATTEMPTS):
        log.write_text("")
        port = _free_port()
        configuration = directory / "sshd_config"
        configuration.write_text("\n".join([*lines, *_configuration(directory, port), ""]))
        process = subprocess.Popen(
            [*_view(), program, "-D", "-f", str(configuration), "-E", str(log)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        if _listens(process, port):
            return process, port, log
        _stop(process)
    message = f"sshd does not start; its log says: {log.read_text('utf-8', 'replace').strip()}"
    raise RuntimeError(message)


def _view() -> tuple[str, ...]:
    """What goes before the server's command line so that it finds the folder that it needs."""
    if os.geteuid() != 0 or _PRIVILEGE_SEPARATION.exists():
        return ()
    if (
        shutil.which("unshare")
        and subprocess.run([*_OWN_VIEW, "true"], check=False, capture_output=True).returncode == 0
    ):
        return _OWN_VIEW
    # A container may not have views of its own; then the folder is made as the package's start script makes it.
    _PRIVILEGE_SEPARATION.mkdir(mode=0o755)
    return ()


def _configuration(directory: Path, port: int) -> list[str]:
    return [
        "ListenAddress 127.0.0.1",
        f"Port {port}",
        f"HostKey {directory}/host_key",
        f"AuthorizedKeysFile {directory}/authorized_keys",
        "PidFile none",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "PermitRootLogin prohibit-password",
        # The files lie below a folder that others may write to, such as /tmp.
        "StrictModes no",
        # bash reads the `.bashrc` of whoever runs the tests unless it seems to be started by another shell.
        "SetEnv SHLVL=1",
        "UsePAM no",
        "UseDNS no",
        "PrintMotd no",
        "MaxStartups 200",
        "LogLevel VERBOSE",
    ]


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    give_up_s = time.monotonic() + LIMIT_S
    while process.poll() is None and time.monotonic() < give_up_s:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
                if connection.recv(4) == b"SSH-":
                    return True
        except OSError:
            time.sleep(0.01)
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ends the server and its connections, which are all in its process tree."""
    if process.poll() is not None:
        return
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.kill()

"""A small SSH server that runs real bash, and can be told to misbehave in ways that OpenSSH cannot."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh

from app.ssh.host import Host
from tests.ssh.sshd import known_hosts_line, write_key

USER = "nutanix"


@dataclass(slots=True)
class BashServer:
    """What it counts, and how it is to behave from the next request on."""

    directory: Path
    key: asyncssh.SSHKey
    port: int = 0
    accepted: int = 0
    executed: list[str] = field(default_factory=list)
    max_sessions: int = 10
    sessions: int = 0
    password: str | None = None
    tried_passwords: list[str] = field(default_factory=list)
    hang_up_after_login: bool = False
    refuse_exec: bool = False
    close_on_exec: bool = False
    menu: str | None = None
    open_when: asyncio.Event | None = None
    connections: set[asyncssh.SSHServerConnection] = field(default_factory=set)
    processes: set[asyncio.subprocess.Process] = field(default_factory=set)

    @property
    def key_file(self) -> Path:
        return self.directory / "client_key"

    @property
    def known_hosts(self) -> Path:
        return self.directory / "known_hosts"

    def host(self, sessions: int = 4) -> Host:
        return Host("127.0.0.1", self.port, USER, self.key_file, self.known_hosts, sessions=sessions)

    def logins(self) -> int:
        return self.accepted

    def cut(self) -> None:
        """Breaks every connection without a word; the commands that run on them go on."""
        for connection in tuple(self.connections):
            connection.abort()


@asynccontextmanager
async def running_bash_server(
    directory: Path,
    *,
    host_key: asyncssh.SSHKey | None = None,
    certificate: asyncssh.SSHCertificate | None = None,
    max_sessions: int = 10,
) -> AsyncIterator[BashServer]:
    """`directory` is made and gets the client's key and the known_hosts file."""
    directory.mkdir(parents=True, exist_ok=True)
    client_key = asyncssh.generate_private_key("ssh-ed25519")
    own_key = host_key or asyncssh.generate_private_key("ssh-ed25519")
    server = BashServer(directory, client_key, max_sessions=max_sessions)
    write_key(server.key_file, client_key)
    acceptor = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=lambda: _Connection(server),
        server_host_keys=[(own_key, certificate) if certificate else own_key],
        encoding=None,
        gss_host=None,
    )
    server.port = acceptor.get_port()
    server.known_hosts.write_text(known_hosts_line(own_key, server.port))
    try:
        yield server
    finally:
        acceptor.close()
        connections = tuple(server.connections)
        for connection in connections:
            connection.abort()
        for process in tuple(server.processes):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for connection in connections:
            await connection.wait_closed()
        for process in tuple(server.processes):
            await process.wait()


class _Connection(asyncssh.SSHServer):
    def __init__(self, server: BashServer) -> None:
        self._server = server
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._server.connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._connection is not None:
            self._server.connections.discard(self._connection)

    def begin_auth(self, username: str) -> bool:
        del username
        return True

    def public_key_auth_supported(self) -> bool:
        return self._server.password is None

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return username == USER and key.public_data == self._server.key.public_data

    def password_auth_supported(self) -> bool:
        return self._server.password is not None

    def validate_password(self, username: str, password: str) -> bool:
        self._server.tried_passwords.append(password)
        return username == USER and password == self._server.password

    def auth_completed(self) -> None:
        self._server.accepted += 1
        if self._server.hang_up_after_login and self._connection is not None:
            self._connection.abort()

    async def _open_later(self, opened: asyncio.Event) -> asyncssh.SSHServerSession[bytes]:
        await opened.wait()
        return _NoExec(self._server)

    def session_requested(
        self,
    ) -> bool | asyncssh.SSHServerSession[bytes] | Coroutine[None, None, asyncssh.SSHServerSession[bytes]]:
        server = self._server
        if server.open_when is not None:
            return self._open_later(server.open_when)
        if server.refuse_exec or server.close_on_exec:
            return _NoExec(server)
        if server.sessions >= server.max_sessions:
            return False
        server.sessions += 1
        return _Process(server)


class _NoExec(asyncssh.SSHServerSession[bytes]):
    """Says no to the request to execute, or closes the channel without a word, and notes that there was one."""

    def __init__(self, server: BashServer) -> None:
        self._server = server
        self._channel: asyncssh.SSHServerChannel[bytes] | None = None

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        self._channel = chan

    def exec_requested(self, command: str) -> bool:
        self._server.executed.append(command)
        if self._server.close_on_exec and self._channel is not None:
            self._channel.close()
        return False


class _Process(asyncssh.SSHServerProcess[bytes]):
    """A session counts until its channel is closed, whether or not anything was executed on it."""

    def __init__(self, server: BashServer) -> None:
        super().__init__(lambda process: _run(server, process), None, 3, False)
        self._server = server

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._server.sessions -= 1


async def _run(server: BashServer, process: asyncssh.SSHServerProcess[bytes]) -> None:
    text = process.command or ""
    server.executed.append(text)
    if server.menu is not None:
        process.stdout.write(server.menu.encode())
        process.exit(0)
        return
    bash = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        text,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    server.processes.add(bash)
    try:
        assert bash.stdout is not None
        assert bash.stderr is not None
        copies = [
            asyncio.create_task(_copy(bash.stdout, process.stdout)),
            asyncio.create_task(_copy(bash.stderr, process.stderr)),
        ]
        status = await bash.wait()
    finally:
        server.processes.discard(bash)
    if process.channel.is_closing():
        for copy in copies:
            copy.cancel()
    elif status < 0:
        await asyncio.wait(copies)
        process.exit_with_signal("KILL")
    else:
        await asyncio.wait(copies)
        process.exit(status)


async def _copy(source: asyncio.StreamReader, target: asyncssh.SSHWriter[bytes]) -> None:
    try:
        while block := await source.read(65536):
            target.write(block)
            await target.drain()
    except (OSError, asyncssh.Error):
        # Nobody reads any more; what is printed from now on is let go, so that the command can go on.
        while await source.read(65536):
            continue

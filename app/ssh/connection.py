"""One connection to one host: the login, the limited sessions on it, and its end.

The time of a failure, not the name of the error, distinguishes a refused login from an unreachable host: OpenSSH
answers too many keys with a protocol error.
"""

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import asyncssh

from app.ngt.errors import FaultCode
from app.ssh.command_session import CommandSession
from app.ssh.host import Host, PoolLimits
from app.ssh.policy import CommandVerdict, ConnectFailure, FailureKind, Stamp, bound_after_answer, bound_after_refusal

# These follow the kinds of the pinned keys: a server without a key of a pinned kind then shows another key, which is a
# mismatch. Without these kinds OpenSSH would close the connection silently.
_MORE_KEY_KINDS = "+ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,rsa-sha2-512,rsa-sha2-256"

_OPEN_TASKS: set[asyncio.Task[None]] = set()


def stamp_of(host: Host) -> Stamp:
    """The times of the last change of the login's files."""
    return tuple(_modified_ns(path) for path in (host.key_file, host.known_hosts, host.password_file) if path)


def _modified_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


class HostConnection(asyncssh.SSHClient):
    """One connection, alive from `log_in` until `lost`.

    A command takes two steps: `take_session`, and `run`, which releases the session.
    """

    def __init__(
        self, host: Host, limits: PoolLimits, number: int, on_lost: Callable[["HostConnection"], None]
    ) -> None:
        self.host = host
        self.number = number
        self.host_key = ""
        self.in_use = 0
        self.bound = host.sessions
        self.answers = 0
        self.lost: str | None = None
        self.retired = False
        self.login_began = False
        self.limits = limits
        self._on_lost = on_lost
        self._on_connected: Callable[[], None] = lambda: None
        self._ssh: asyncssh.SSHClientConnection | None = None
        self._commands: set[CommandSession] = set()
        self._waiting: deque[asyncio.Future[bool]] = deque()
        self._answers_since_change = 0
        self._idle: asyncio.TimerHandle | None = None

    @property
    def usable(self) -> bool:
        return self._ssh is not None and self.lost is None and not self.retired

    async def log_in(self) -> ConnectFailure | None:
        """Connects and logs in, once. None after success; never raises for the behaviour of a server."""
        try:
            options = _options(self)
        except _LocalError as cause:
            return ConnectFailure(FailureKind.LOCAL, cause.code, str(cause))
        except (OSError, ValueError) as cause:
            # asyncssh needs the name of the local user, which a container without a passwd entry or LOGNAME lacks.
            message = f"SSH to {self.host.name} cannot be set up on this machine ({_reason(cause)})"
            return ConnectFailure(FailureKind.LOCAL, FaultCode.CVM_UNREACHABLE, message)
        limits = self.limits
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(limits.connect_timeout_s) as limit:
                self._on_connected = lambda: limit.reschedule(loop.time() + limits.login_timeout_s)
                self._ssh = await asyncssh.connect(self.host.address, self.host.port, options=options, config=None)
        except (OSError, asyncssh.Error, ValueError) as cause:
            return _connect_failure(self.host, cause, login_began=self.login_began)
        if self.lost is not None:
            return ConnectFailure(FailureKind.CONNECT, FaultCode.CVM_UNREACHABLE, f"{self.host.name}: {self.lost}")
        key = self._ssh.get_server_host_key()
        self.host_key = key.get_fingerprint() if key else ""
        self._close_when_idle()
        return None

    async def take_session(self, by_s: float, *, first: bool = False) -> bool:
        """Waits for a free session until `by_s` of the loop's clock; False when the connection takes no more commands.

        `first` goes before the commands that already wait. Raises TimeoutError. After True, `run` must follow at once.
        """
        if not self.usable:
            return False
        if self.in_use < self.bound and (first or not self._waiting):
            self._occupy_session()
            return True
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if first:
            self._waiting.appendleft(waiter)
        else:
            self._waiting.append(waiter)
        try:
            await asyncio.wait({waiter}, timeout=max(0.0, by_s - asyncio.get_running_loop().time()))
        except asyncio.CancelledError:
            if waiter.done() and waiter.result():
                self._release_session()
            raise
        finally:
            if not waiter.done():
                self._waiting.remove(waiter)
        if not waiter.done():
            raise TimeoutError
        return waiter.result()

    async def run(
        self, text: str, open_by_s: float, timeout_s: float, max_output_bytes: int
    ) -> tuple[CommandVerdict, CommandSession]:
        """Runs the text on the session that was just taken, and releases the session."""
        assert self._ssh is not None
        command = CommandSession(max_output_bytes, self.limits.drain_s)
        self._commands.add(command)
        opening = _keep_until_done(command.open(self._ssh, text))
        try:
            verdict = await command.run(open_by_s, timeout_s)
        finally:
            self._commands.discard(command)
            # A channel that is still opening occupies a session of the server until it is closed.
            if command.sent or opening.done():
                self._release_session()
            else:
                opening.add_done_callback(lambda _: self._release_session())
        if verdict is CommandVerdict.ANSWERED:
            self.answers += 1
            self._allow_more_sessions()
        return verdict, command

    def narrow(self) -> None:
        """After a refused channel: limits the sessions to the number that the server has just allowed."""
        self.bound = bound_after_refusal(self.in_use)
        self._answers_since_change = 0

    def retire(self) -> None:
        """Takes no further command; the connection closes when its last command has ended."""
        self.retired = True
        self._refuse_waiting()
        if self.in_use == 0:
            self.close()

    def close(self) -> None:
        """Closes at once. Commands that were sent and not answered become unanswered."""
        self.retired = True
        for command in tuple(self._commands):
            command.abandon()
        self._refuse_waiting()
        if self._idle is not None:
            self._idle.cancel()
        if self._ssh is not None and self.lost is None:
            self._ssh.close()

    async def wait_closed(self) -> None:
        if self._ssh is not None:
            await self._ssh.wait_closed()

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        self._on_connected()

    def begin_auth(self, username: str) -> None:
        self.login_began = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = _reason(exc) if exc else "the connection was closed"
        if self._idle is not None:
            self._idle.cancel()
        self._refuse_waiting()
        self._on_lost(self)

    def _occupy_session(self) -> None:
        self.in_use += 1
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _release_session(self) -> None:
        self.in_use -= 1
        if self.retired and self.in_use == 0:
            self.close()
        self._serve_waiting()
        if self.in_use == 0:
            self._close_when_idle()

    def _serve_waiting(self) -> None:
        while self._waiting and self.in_use < self.bound:
            self._occupy_session()
            self._waiting.popleft().set_result(True)

    def _refuse_waiting(self) -> None:
        while self._waiting:
            self._waiting.popleft().set_result(False)

    def _allow_more_sessions(self) -> None:
        self._answers_since_change += 1
        wider = bound_after_answer(self.bound, self.host.sessions, self._answers_since_change)
        if wider != self.bound:
            self.bound = wider
            self._answers_since_change = 0
            self._serve_waiting()

    def _close_when_idle(self) -> None:
        if self.usable:
            self._idle = asyncio.get_running_loop().call_later(self.limits.idle_close_s, self.close)


def _keep_until_done(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    task = asyncio.get_running_loop().create_task(work)
    # The loop keeps only weak references to tasks.
    _OPEN_TASKS.add(task)
    task.add_done_callback(_OPEN_TASKS.discard)
    return task


class _LocalError(Exception):
    """This machine prevents the login."""

    def __init__(self, code: FaultCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def _options(connection: HostConnection) -> asyncssh.SSHClientConnectionOptions:
    """The machine's own SSH configuration, agent and default keys are not used."""
    host, limits = connection.host, connection.limits
    return asyncssh.SSHClientConnectionOptions(
        config=None,
        client_factory=lambda: connection,
        username=host.username,
        known_hosts=_known_hosts(host),
        server_host_key_algs=_MORE_KEY_KINDS,
        # An empty list would make asyncssh look for the user's default keys; None does not.
        client_keys=_client_keys(host) or None,
        password=_password(host),
        preferred_auth=[*(["publickey"] if host.key_file else []), *(["password"] if host.password_file else [])],
        kbdint_auth=False,
        host_based_auth=False,
        gss_host=None,
        agent_path=None,
        x509_trusted_certs=None,
        x509_trusted_cert_paths=[],
        request_pty=False,
        send_env=None,
        # The time limits are those of `log_in`.
        connect_timeout=None,
        login_timeout=0,
        keepalive_interval=limits.keepalive_interval_s,
        keepalive_count_max=limits.keepalive_count,
    )


@contextmanager
def _local_failure(code: FaultCode, problem: str, consequence: str = "") -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, asyncssh.Error) as cause:
        raise _LocalError(code, f"{problem} ({_reason(cause)}){consequence}") from cause


def _known_hosts(host: Host) -> asyncssh.SSHKnownHosts:
    problem = f"{host.name}: the known_hosts file {host.known_hosts} cannot be used"
    with _local_failure(FaultCode.SSH_HOST_KEY_MISMATCH, problem):
        stat = host.known_hosts.stat()
        return _read_known_hosts(host.known_hosts, (stat.st_ino, stat.st_mtime_ns, stat.st_size))


@lru_cache(maxsize=64)
def _read_known_hosts(path: Path, _version: tuple[int, int, int]) -> asyncssh.SSHKnownHosts:
    """Read once for each version of the file: with the keys of many guests it takes longer than a login."""
    return asyncssh.import_known_hosts(path.read_text("utf-8"))


def _client_keys(host: Host) -> list[asyncssh.SSHKeyPair]:
    if host.key_file is None:
        return []
    problem = f"{host.name}: the key file {host.key_file} cannot be used"
    with _local_failure(FaultCode.SSH_AUTH_FAILED, problem, "; no login was tried"):
        return list(asyncssh.load_keypairs(str(host.key_file)))


def _password(host: Host) -> str | None:
    if host.password_file is None:
        return None
    problem = f"{host.name}: the password file cannot be read"
    with _local_failure(FaultCode.SSH_AUTH_FAILED, problem, "; no login was tried"):
        return host.password_file.read_text("utf-8").rstrip("\r\n")


def _connect_failure(host: Host, cause: Exception, *, login_began: bool) -> ConnectFailure:
    reason = _reason(cause)
    if isinstance(cause, asyncssh.HostKeyNotVerifiable):
        message = f"{host.name} showed a host key that {host.known_hosts} does not have for it ({reason})"
        return ConnectFailure(FailureKind.HOST_KEY, FaultCode.SSH_HOST_KEY_MISMATCH, message)
    if login_began and isinstance(cause, asyncssh.DisconnectError) and not isinstance(cause, asyncssh.ConnectionLost):
        message = f"{host.name} refused the login of {host.username!r} ({reason})"
        return ConnectFailure(FailureKind.LOGIN, FaultCode.SSH_AUTH_FAILED, message)
    step = "log in to" if login_began else "connect to"
    return ConnectFailure(FailureKind.CONNECT, FaultCode.CVM_UNREACHABLE, f"could not {step} {host.name} ({reason})")


def _reason(cause: Exception) -> str:
    if isinstance(cause, TimeoutError) and not cause.args:
        return "no answer in time"
    if isinstance(cause, OSError) and not isinstance(cause, socket.gaierror) and cause.errno:
        # Each event loop has its own message for the same error.
        return os.strerror(cause.errno)
    return str(cause) or type(cause).__name__

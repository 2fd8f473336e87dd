"""One connection to one host: the login, the bounded sessions on it, and its end.

A login that was refused is told apart from a host that cannot be reached by when it failed, not by the error's name:
OpenSSH answers too many keys with a protocol error.
"""

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Coroutine
from functools import lru_cache
from pathlib import Path
from typing import Any

import asyncssh

from app.ngt.errors import FaultCode
from app.ssh.command_session import CommandSession
from app.ssh.host import Host, PoolLimits
from app.ssh.policy import CommandVerdict, ConnectFailure, FailureKind, Stamp, bound_after_answer, bound_after_refusal

# The kinds of the pinned keys are asked for first and these after them: a server that has none of the pinned kind then
# shows another key, which is a mismatch. Without these OpenSSH would hang up without a word.
_ALSO_ASKED_FOR = "+ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,rsa-sha2-512,rsa-sha2-256"

_OPEN_TASKS: set[asyncio.Task[None]] = set()


def stamp_of(host: Host) -> Stamp:
    """When the files of the host's login were last changed."""
    return tuple(_modified_ns(path) for path in (host.key_file, host.known_hosts, host.password_file) if path)


def _modified_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


class HostConnection(asyncssh.SSHClient):
    """One connection, alive from `log_in` until `lost`.

    `take_session` and `run` are the two steps of a command; the session is given back by `run` itself.
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
        self.refusals = 0
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
        """Connects and logs in, once. None when it is done, else why not; never raises for what a server does."""
        try:
            options = _options(self)
        except _LocalError as cause:
            return ConnectFailure(FailureKind.LOCAL, cause.code, str(cause))
        except (OSError, ValueError) as cause:
            # asyncssh wants a name for the local user, which a container without a passwd entry or LOGNAME has not.
            message = f"SSH to {self.host.name} cannot be set up on this machine ({_sentence(cause)})"
            return ConnectFailure(FailureKind.LOCAL, FaultCode.CVM_UNREACHABLE, message)
        limits = self.limits
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(limits.connect_timeout_s) as limit:
                self._on_connected = lambda: limit.reschedule(loop.time() + limits.login_timeout_s)
                self._ssh = await asyncssh.connect(self.host.address, self.host.port, options=options, config=None)
        except (OSError, asyncssh.Error, ValueError) as cause:
            return _failure(self.host, cause, login_began=self.login_began)
        if self.lost is not None:
            return ConnectFailure(FailureKind.CONNECT, FaultCode.CVM_UNREACHABLE, f"{self.host.name}: {self.lost}")
        key = self._ssh.get_server_host_key()
        self.host_key = key.get_fingerprint() if key else ""
        self._watch_idleness()
        return None

    async def take_session(self, by_s: float, *, first: bool = False) -> bool:
        """Waits for a free session until `by_s` of the loop's clock; False when the connection takes no more commands.

        `first` goes before those who wait already. Raises TimeoutError. After True, `run` must follow at once.
        """
        if not self.usable:
            return False
        if self.in_use < self.bound and (first or not self._waiting):
            self._take()
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
                self._give_back()
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
        """Runs the text on the session that was just taken, and gives the session back."""
        assert self._ssh is not None
        command = CommandSession(max_output_bytes, self.limits.drain_s)
        self._commands.add(command)
        opening = _in_background(command.open(self._ssh, text))
        try:
            verdict = await command.run(open_by_s, timeout_s)
        finally:
            self._commands.discard(command)
            # A channel that is still being opened takes up a session of the server until it is closed again.
            if command.sent or opening.done():
                self._give_back()
            else:
                opening.add_done_callback(lambda _: self._give_back())
        if verdict is CommandVerdict.ANSWERED:
            self.answers += 1
            self._widen()
        return verdict, command

    def narrow(self) -> None:
        """After a refused channel: no more sessions than the server has just shown to allow."""
        self.refusals += 1
        self.bound = bound_after_refusal(self.in_use)
        self._answers_since_change = 0

    def retire(self) -> None:
        """Takes no further command; the connection is closed when the last running one has ended."""
        self.retired = True
        self._dismiss_waiting()
        if self.in_use == 0:
            self.close()

    def close(self) -> None:
        """Closes at once. Commands that were sent and not answered become unanswered."""
        self.retired = True
        for command in tuple(self._commands):
            command.abandon()
        self._dismiss_waiting()
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
        self.lost = _sentence(exc) if exc else "the connection was closed"
        if self._idle is not None:
            self._idle.cancel()
        self._dismiss_waiting()
        self._on_lost(self)

    def _take(self) -> None:
        self.in_use += 1
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _give_back(self) -> None:
        self.in_use -= 1
        if self.retired and self.in_use == 0:
            self.close()
        self._admit()
        if self.in_use == 0:
            self._watch_idleness()

    def _admit(self) -> None:
        while self._waiting and self.in_use < self.bound:
            self._take()
            self._waiting.popleft().set_result(True)

    def _dismiss_waiting(self) -> None:
        while self._waiting:
            self._waiting.popleft().set_result(False)

    def _widen(self) -> None:
        self._answers_since_change += 1
        wider = bound_after_answer(self.bound, self.host.sessions, self._answers_since_change)
        if wider != self.bound:
            self.bound = wider
            self._answers_since_change = 0
            self._admit()

    def _watch_idleness(self) -> None:
        if self.usable:
            self._idle = asyncio.get_running_loop().call_later(self.limits.idle_close_s, self.close)


def _in_background(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    task = asyncio.get_running_loop().create_task(work)
    # The loop itself holds tasks weakly.
    _OPEN_TASKS.add(task)
    task.add_done_callback(_OPEN_TASKS.discard)
    return task


class _LocalError(Exception):
    """A login that cannot be tried, for a reason on this machine."""

    def __init__(self, code: FaultCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def _options(connection: HostConnection) -> asyncssh.SSHClientConnectionOptions:
    """Nothing of the machine's own SSH configuration, agent or default keys takes part."""
    host, limits = connection.host, connection.limits
    return asyncssh.SSHClientConnectionOptions(
        config=None,
        client_factory=lambda: connection,
        username=host.username,
        known_hosts=_known_hosts(host),
        server_host_key_algs=_ALSO_ASKED_FOR,
        # An empty list would make asyncssh look for the user's default keys; None does not.
        client_keys=_client_keys(host) or None,
        password=_password(host),
        preferred_auth=[method for method, given in _methods(host) if given],
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


def _methods(host: Host) -> tuple[tuple[str, bool], ...]:
    return (("publickey", host.key_file is not None), ("password", host.password_file is not None))


def _known_hosts(host: Host) -> asyncssh.SSHKnownHosts:
    try:
        stat = host.known_hosts.stat()
        return _read_known_hosts(host.known_hosts, (stat.st_ino, stat.st_mtime_ns, stat.st_size))
    except (OSError, ValueError) as cause:
        message = f"{host.name}: the known_hosts file {host.known_hosts} cannot be used ({_sentence(cause)})"
        raise _LocalError(FaultCode.SSH_HOST_KEY_MISMATCH, message) from cause


@lru_cache(maxsize=64)
def _read_known_hosts(path: Path, _version: tuple[int, int, int]) -> asyncssh.SSHKnownHosts:
    """Read once for each version of the file: with the keys of many guests it takes longer than a login."""
    return asyncssh.import_known_hosts(path.read_text("utf-8"))


def _client_keys(host: Host) -> list[asyncssh.SSHKeyPair]:
    if host.key_file is None:
        return []
    try:
        return list(asyncssh.load_keypairs(str(host.key_file)))
    except (OSError, ValueError, asyncssh.Error) as cause:
        message = f"{host.name}: the key file {host.key_file} cannot be used ({_sentence(cause)}); no login was tried"
        raise _LocalError(FaultCode.SSH_AUTH_FAILED, message) from cause


def _password(host: Host) -> str | None:
    if host.password_file is None:
        return None
    try:
        return host.password_file.read_text("utf-8").rstrip("\r\n")
    except (OSError, ValueError) as cause:
        message = f"{host.name}: the password file cannot be read ({_sentence(cause)}); no login was tried"
        raise _LocalError(FaultCode.SSH_AUTH_FAILED, message) from cause


def _failure(host: Host, cause: Exception, *, login_began: bool) -> ConnectFailure:
    reason = _sentence(cause)
    if isinstance(cause, asyncssh.HostKeyNotVerifiable):
        message = f"{host.name} showed a host key that {host.known_hosts} does not have for it ({reason})"
        return ConnectFailure(FailureKind.HOST_KEY, FaultCode.SSH_HOST_KEY_MISMATCH, message)
    if login_began and isinstance(cause, asyncssh.DisconnectError) and not isinstance(cause, asyncssh.ConnectionLost):
        message = f"{host.name} refused the login of {host.username!r} ({reason})"
        return ConnectFailure(FailureKind.LOGIN, FaultCode.SSH_AUTH_FAILED, message)
    step = "log in to" if login_began else "connect to"
    return ConnectFailure(FailureKind.CONNECT, FaultCode.CVM_UNREACHABLE, f"could not {step} {host.name} ({reason})")


def _sentence(cause: Exception) -> str:
    if isinstance(cause, TimeoutError) and not cause.args:
        return "no answer in time"
    if isinstance(cause, OSError) and not isinstance(cause, socket.gaierror) and cause.errno:
        # Event loops word the same error differently.
        return os.strerror(cause.errno)
    return str(cause) or type(cause).__name__

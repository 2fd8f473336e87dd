"""One connection per host for the whole process, and every command over it.

A command is `NotSent` while it is certain that nothing of it was executed, and `Unanswered` from the moment on at which
it may have been. The pool never sends a text twice, never sends a signal, and never logs in again after a refusal.
"""

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import NoReturn

from app.ngt.errors import Fault, FaultCode
from app.ssh.command import Command
from app.ssh.connection import HostConnection, stamp_of
from app.ssh.host import (
    GUEST_LIMITS,
    SSH_PORT,
    CommandResult,
    ConnectionReplaced,
    Host,
    NotSent,
    PoolLimits,
    Unanswered,
    host_name,
)
from app.ssh.policy import (
    CommandVerdict,
    ConnectFailure,
    FailureKind,
    HoldDown,
    back_off,
    pause_after_refusal_s,
    still_holds,
)

__all__ = [
    "GUEST_LIMITS",
    "SSH_PORT",
    "CommandResult",
    "ConnectionReplaced",
    "EventKind",
    "Host",
    "HostState",
    "NotSent",
    "Pool",
    "PoolEvent",
    "PoolLimits",
    "Reachable",
    "Unanswered",
    "host_name",
]

_CONNECTIONS_PER_RUN = 2
_CLOSE_WAIT_S = 5.0


class EventKind(StrEnum):
    """What happened to the connection of a host."""

    CONNECTED = "connected"
    CONNECT_FAILED = "connect_failed"
    LOGIN_REFUSED = "login_refused"
    HOST_KEY_MISMATCH = "host_key_mismatch"
    LOST = "lost"
    CHANNEL_REFUSED = "channel_refused"


@dataclass(frozen=True, slots=True)
class PoolEvent:
    """Something for logs and counters. `detail` is a sentence; it holds no secret and no command."""

    kind: EventKind
    host: Host
    detail: str


class Reachable(StrEnum):
    """UNKNOWN until the first connection was tried, and after an idle one was closed."""

    UP = "up"
    DOWN = "down"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class HostState:
    """One host as metrics show it. The counts are since the start of the process.

    `checked_s`: this machine's monotonic clock when it was last known to be so; a live connection is known to be one.
    `fault`: why it is left alone.
    """

    host: Host
    reachable: Reachable
    connections: int
    sessions_in_use: int
    held_for_s: float
    last_error: str | None
    logins: int
    logins_refused: int
    host_key_mismatches: int
    checked_s: float
    fault: Fault | None


@dataclass(slots=True)
class _HostEntry:
    """What the pool remembers of one host."""

    host: Host
    connection: HostConnection | None = None
    dialling: asyncio.Task[ConnectFailure | None] | None = None
    hold: HoldDown | None = None
    held_since_s: float = 0.0
    last_error: str | None = None
    logins: int = 0
    logins_refused: int = 0
    host_key_mismatches: int = 0


_EVENT_OF_FAILURE = {
    FailureKind.LOCAL: EventKind.CONNECT_FAILED,
    FailureKind.CONNECT: EventKind.CONNECT_FAILED,
    FailureKind.HOST_KEY: EventKind.HOST_KEY_MISMATCH,
    FailureKind.LOGIN: EventKind.LOGIN_REFUSED,
}


def _ignore(_event: PoolEvent) -> None:
    """The observer of a pool that nobody watches."""


class Pool:
    """The connections of one event loop. `observer` is called in that loop and must not block or raise."""

    def __init__(self, limits: PoolLimits, observer: Callable[[PoolEvent], None] = _ignore) -> None:
        self._limits = limits
        self._observer = observer
        self._standings: dict[Host, _HostEntry] = {}
        self._connections: set[HostConnection] = set()
        self._numbers = itertools.count(1)
        self._closed = False

    async def run(
        self, host: Host, text: str, *, timeout_s: float, max_output_bytes: int, only_on: int | None = None
    ) -> CommandResult:
        """Sends the text once, as it is, to the login shell of `host`, and answers what it printed.

        `timeout_s` counts from sending; waiting for a connection or a session has the pool's own limits. The output of
        both streams together may have `max_output_bytes`. With `only_on` the text goes over the connection of that
        number or not at all (`ConnectionReplaced`). Any exit status is an answer.

        Raises `NotSent` or `Unanswered`. When cancelled, the channel is closed and what runs there goes on.
        """
        standing = self._standings.setdefault(host, _HostEntry(host))
        for _ in range(_CONNECTIONS_PER_RUN):
            connection = await self._connection(standing)
            if only_on is not None and connection.number != only_on:
                raise ConnectionReplaced(FaultCode.CVM_UNREACHABLE, f"the connection to {host.name} was replaced")
            answer = await self._run_on(connection, text, timeout_s, max_output_bytes)
            if answer is not None:
                standing.hold = None
                return answer
        raise NotSent(FaultCode.CVM_UNREACHABLE, f"{host.name} closed the connection before the command was sent")

    def retire(self, host: Host) -> None:
        """The next command logs in anew; running ones end on the old connection."""
        standing = self._standings.get(host)
        if standing is not None and standing.connection is not None:
            connection, standing.connection = standing.connection, None
            connection.retire()

    def state(self) -> tuple[HostState, ...]:
        """All hosts that were ever asked for, in that order."""
        return tuple(self._state_of(standing) for standing in self._standings.values())

    async def close(self) -> None:
        """Closes all connections. Commands that wait become `NotSent`, those that were sent `Unanswered`."""
        self._closed = True
        tasks = [s.dialling for s in self._standings.values() if s.dialling is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CLOSE_WAIT_S)
        connections = tuple(self._connections)
        for connection in connections:
            connection.close()
        if connections:
            waits = [asyncio.create_task(connection.wait_closed()) for connection in connections]
            await asyncio.wait(waits, timeout=_CLOSE_WAIT_S)

    async def _run_on(
        self, connection: HostConnection, text: str, timeout_s: float, max_output_bytes: int
    ) -> CommandResult | None:
        """None when the connection ended before the text was sent."""
        loop = asyncio.get_running_loop()
        name = connection.host.name
        by_s = loop.time() + self._limits.channel_wait_s
        for refusals in itertools.count(1):
            try:
                if not await connection.take_session(by_s, first=refusals > 1):
                    return None
            except TimeoutError:
                message = f"{name} had no session free within {self._limits.channel_wait_s:g} s"
                raise NotSent(FaultCode.CVM_UNREACHABLE, message) from None
            verdict, command = await connection.run(text, by_s, timeout_s, max_output_bytes)
            if verdict is CommandVerdict.ANSWERED:
                return _answer(connection, command)
            if verdict is not CommandVerdict.NOT_SENT:
                _raise_for(verdict, connection, timeout_s, max_output_bytes)
            # asyncssh tells the channels of a connection's end one turn of the loop before it tells us.
            await asyncio.sleep(0)
            if connection.lost is not None:
                return None
            pause_s = pause_after_refusal_s(refusals)
            if loop.time() + pause_s >= by_s:
                message = f"{name} opened no session within {self._limits.channel_wait_s:g} s ({command.refusal})"
                raise NotSent(FaultCode.CVM_UNREACHABLE, message)
            connection.narrow()
            self._observer(PoolEvent(EventKind.CHANNEL_REFUSED, connection.host, command.refusal))
            await asyncio.sleep(pause_s)
        raise AssertionError("the count does not end")

    async def _connection(self, standing: _HostEntry) -> HostConnection:
        """The one live connection, made if there is none; all who ask meanwhile wait for the same login."""
        if self._closed:
            raise NotSent(FaultCode.DRAINING, "the service is stopping")
        if standing.connection is not None and standing.connection.usable:
            return standing.connection
        if standing.dialling is None:
            self._raise_held(standing)
            standing.dialling = asyncio.get_running_loop().create_task(self._dial(standing))
        dialling = standing.dialling
        await asyncio.wait({dialling})
        if dialling.cancelled():
            raise NotSent(FaultCode.DRAINING, "the service is stopping")
        failure = dialling.result()
        if failure is not None:
            raise NotSent(failure.code, failure.message)
        if standing.connection is None:
            raise NotSent(FaultCode.CVM_UNREACHABLE, f"{standing.host.name} closed the connection after the login")
        return standing.connection

    async def _dial(self, standing: _HostEntry) -> ConnectFailure | None:
        stamp = stamp_of(standing.host)
        connection = HostConnection(standing.host, self._limits, next(self._numbers), self._on_lost)
        try:
            failure = await connection.log_in()
        finally:
            standing.dialling = None
        if failure is not None:
            now_s = time.monotonic()
            standing.hold = back_off(failure, standing.hold, now_s, stamp, self._limits)
            standing.held_since_s = now_s
            standing.last_error = failure.message
            standing.logins_refused += failure.kind is FailureKind.LOGIN
            standing.host_key_mismatches += failure.kind is FailureKind.HOST_KEY
            self._observer(PoolEvent(_EVENT_OF_FAILURE[failure.kind], standing.host, failure.message))
            return failure
        standing.logins += 1
        standing.connection = connection
        self._connections.add(connection)
        self._observer(PoolEvent(EventKind.CONNECTED, standing.host, f"host key {connection.host_key}"))
        return None

    def _on_lost(self, connection: HostConnection) -> None:
        self._connections.discard(connection)
        standing = self._standings[connection.host]
        if standing.connection is not connection:
            return
        standing.connection = None
        if connection.retired:
            return
        standing.last_error = connection.lost
        if connection.answers == 0:
            # A server that lets in and hangs up at once would otherwise be logged in to for every command.
            message = f"{connection.host.name} closed the connection before it had answered anything"
            failure = ConnectFailure(FailureKind.CONNECT, FaultCode.CVM_UNREACHABLE, message)
            stamp = stamp_of(connection.host)
            now_s = time.monotonic()
            standing.hold = back_off(failure, standing.hold, now_s, stamp, self._limits)
            standing.held_since_s = now_s
        self._observer(PoolEvent(EventKind.LOST, connection.host, connection.lost or ""))

    def _raise_held(self, standing: _HostEntry) -> None:
        hold = standing.hold
        now_s = time.monotonic()
        if hold is not None and still_holds(hold, now_s, stamp_of(standing.host)):
            rest = f"not tried again for another {max(1, round(hold.until_s - now_s))} s"
            if hold.failure.kind is FailureKind.LOGIN:
                rest += ", unless the key or the settings change, so that the account is not locked"
            raise NotSent(hold.failure.code, f"{hold.failure.message}; {rest}")

    def _state_of(self, standing: _HostEntry) -> HostState:
        connection = standing.connection
        now_s = time.monotonic()
        held_for_s = max(0.0, standing.hold.until_s - now_s) if standing.hold else 0.0
        up = connection is not None and connection.usable
        reachable = Reachable.UP if up else Reachable.DOWN if standing.hold else Reachable.UNKNOWN
        return HostState(
            host=standing.host,
            reachable=reachable,
            connections=int(up),
            sessions_in_use=connection.in_use if connection else 0,
            held_for_s=held_for_s,
            last_error=standing.last_error,
            logins=standing.logins,
            logins_refused=standing.logins_refused,
            host_key_mismatches=standing.host_key_mismatches,
            checked_s=standing.held_since_s if reachable is Reachable.DOWN else now_s,
            fault=Fault(standing.hold.failure.code, standing.hold.failure.message) if standing.hold else None,
        )


def _answer(connection: HostConnection, command: Command) -> CommandResult:
    return CommandResult(
        stdout=command.stdout,
        stderr=command.stderr,
        exit_status=command.exit_status,
        duration_s=command.duration_s,
        host_key=connection.host_key,
        connection=connection.number,
    )


def _raise_for(
    verdict: CommandVerdict, connection: HostConnection, timeout_s: float, max_output_bytes: int
) -> NoReturn:
    name = connection.host.name
    match verdict:
        case CommandVerdict.EXEC_REFUSED:
            message = f"{name} let us in but refuses to run a command"
            raise NotSent(FaultCode.CVM_SHELL_DISABLED, message)
        case CommandVerdict.TIME_LIMIT:
            raise Unanswered(FaultCode.COMMAND_TIMEOUT, f"a command on {name} gave no answer within {timeout_s:g} s")
        case CommandVerdict.TOO_LARGE:
            message = f"a command on {name} printed more than {max_output_bytes} bytes"
            raise Unanswered(FaultCode.OUTPUT_TOO_LARGE, message)
        case _:
            reason = connection.lost or "the channel was closed without an exit status"
            raise Unanswered(FaultCode.ANSWER_LOST, f"a command on {name} was cut off before its answer came: {reason}")

"""One connection per host for the whole process, shared by all commands.

A command is `NotSent` while it is certain that it was not executed, and `Unanswered` as soon as it may have been. The
pool never sends a text twice, never sends a signal, and never logs in again after a refusal.
"""

import asyncio
import itertools
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import NoReturn

import structlog

from app.ngt.errors import Fault, FaultCode
from app.ssh.command_session import CommandSession
from app.ssh.connection import HostConnection, stamp_of
from app.ssh.host import CommandResult, ConnectionReplaced, Host, NotSent, PoolLimits, Unanswered
from app.ssh.policy import (
    CommandVerdict,
    ConnectFailure,
    FailureKind,
    HoldDown,
    Stamp,
    back_off,
    pause_after_refusal_s,
    still_holds,
)

log = structlog.get_logger(__name__)

_CONNECTIONS_PER_RUN = 2
_CLOSE_WAIT_S = 5.0


class Reachable(StrEnum):
    """UNKNOWN until the first connection, and after an idle connection was closed."""

    UP = "up"
    DOWN = "down"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class HostState:
    """One host in the metrics. `host_key_mismatches` counts since the start of the process.

    `checked_s`: this machine's monotonic clock at the last check; a live connection is checked now. `fault`: the reason
    why the host is held back.
    """

    host: Host
    reachable: Reachable
    connections: int
    host_key_mismatches: int
    checked_s: float
    fault: Fault | None


@dataclass(slots=True)
class _HostEntry:
    """The pool's record of one host."""

    host: Host
    connection: HostConnection | None = None
    dialling: asyncio.Task[ConnectFailure | None] | None = None
    hold: HoldDown | None = None
    held_since_s: float = 0.0
    host_key_mismatches: int = 0


_LOGGED_FAILURES = {
    FailureKind.LOCAL: "cannot log in to a host",
    FailureKind.CONNECT: "could not connect to a host",
    FailureKind.HOST_KEY: "a host key changed",
    FailureKind.LOGIN: "a login was refused",
}


class Pool:
    """The connections of one event loop."""

    def __init__(self, limits: PoolLimits) -> None:
        self._limits = limits
        self._hosts: dict[Host, _HostEntry] = {}
        self._connections: set[HostConnection] = set()
        self._numbers = itertools.count(1)
        self._closed = False

    async def run(
        self, host: Host, text: str, *, timeout_s: float, max_output_bytes: int, only_on: int | None = None
    ) -> CommandResult:
        """Sends the text once, unchanged, to the login shell of `host`, and returns its output.

        `timeout_s` counts from sending; the wait for a connection or a session has the pool's own limits. Both streams
        together may have `max_output_bytes`. With `only_on` the text goes over the connection of that number or not at
        all (`ConnectionReplaced`). Any exit status is an answer.

        Raises `NotSent` or `Unanswered`. A cancellation closes the channel, and the command on the host continues.
        """
        entry = self._hosts.setdefault(host, _HostEntry(host))
        for _ in range(_CONNECTIONS_PER_RUN):
            connection = await self._connection(entry)
            if only_on is not None and connection.number != only_on:
                raise ConnectionReplaced(FaultCode.CVM_UNREACHABLE, f"the connection to {host.name} was replaced")
            answer = await self._run_on(connection, text, timeout_s, max_output_bytes)
            if answer is not None:
                entry.hold = None
                return answer
        raise NotSent(FaultCode.CVM_UNREACHABLE, f"{host.name} closed the connection before the command was sent")

    def retire(self, host: Host) -> None:
        """The next command logs in again; running commands end on the old connection."""
        entry = self._hosts.get(host)
        if entry is not None and entry.connection is not None:
            connection, entry.connection = entry.connection, None
            connection.retire()

    def state(self) -> tuple[HostState, ...]:
        """All hosts that were ever used, in order of first use."""
        return tuple(self._state_of(entry) for entry in self._hosts.values())

    async def close(self) -> None:
        """Closes all connections. Waiting commands become `NotSent`, sent ones `Unanswered`."""
        self._closed = True
        tasks = [entry.dialling for entry in self._hosts.values() if entry.dialling is not None]
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
            # asyncssh reports the end of a connection to its channels one turn of the loop before it reports it here.
            await asyncio.sleep(0)
            if connection.lost is not None:
                return None
            pause_s = pause_after_refusal_s(refusals)
            if loop.time() + pause_s >= by_s:
                message = f"{name} opened no session within {self._limits.channel_wait_s:g} s ({command.refusal})"
                raise NotSent(FaultCode.CVM_UNREACHABLE, message)
            connection.narrow()
            log.info("a host refused a session", host=name, reason=command.refusal)
            await asyncio.sleep(pause_s)
        raise AssertionError("the count does not end")

    async def _connection(self, entry: _HostEntry) -> HostConnection:
        """The one live connection, made if there is none; concurrent callers wait for the same login."""
        if self._closed:
            raise NotSent(FaultCode.DRAINING, "the service is stopping")
        if entry.connection is not None and entry.connection.usable:
            return entry.connection
        if entry.dialling is None:
            self._raise_held(entry)
            entry.dialling = asyncio.get_running_loop().create_task(self._dial(entry))
        dialling = entry.dialling
        await asyncio.wait({dialling})
        if dialling.cancelled():
            raise NotSent(FaultCode.DRAINING, "the service is stopping")
        failure = dialling.result()
        if failure is not None:
            raise NotSent(failure.code, failure.message)
        if entry.connection is None:
            raise NotSent(FaultCode.CVM_UNREACHABLE, f"{entry.host.name} closed the connection after the login")
        return entry.connection

    async def _dial(self, entry: _HostEntry) -> ConnectFailure | None:
        stamp = stamp_of(entry.host)
        connection = HostConnection(entry.host, self._limits, next(self._numbers), self._on_lost)
        try:
            failure = await connection.log_in()
        finally:
            entry.dialling = None
        if failure is not None:
            entry.host_key_mismatches += failure.kind is FailureKind.HOST_KEY
            self._hold_back(entry, failure, stamp)
            return failure
        entry.connection = connection
        self._connections.add(connection)
        log.debug("connected to a host", host=entry.host.name, host_key=connection.host_key)
        return None

    def _on_lost(self, connection: HostConnection) -> None:
        self._connections.discard(connection)
        entry = self._hosts[connection.host]
        if entry.connection is not connection:
            return
        entry.connection = None
        if connection.retired:
            return
        if connection.answers == 0:
            # Otherwise every command would log in to a server that hangs up directly after the login.
            message = f"{connection.host.name} closed the connection before it had answered anything"
            failure = ConnectFailure(FailureKind.CONNECT, FaultCode.CVM_UNREACHABLE, message)
            self._hold_back(entry, failure, stamp_of(connection.host))
        else:
            log.info("a connection was lost", host=connection.host.name, reason=connection.lost)

    def _hold_back(self, entry: _HostEntry, failure: ConnectFailure, stamp: Stamp) -> None:
        now_s = time.monotonic()
        entry.hold = back_off(failure, entry.hold, now_s, stamp, self._limits)
        entry.held_since_s = now_s
        held_for_s = round(entry.hold.until_s - now_s, 3)
        # Guests are switched off all the time; a refused login or another host key needs a person.
        tell = log.info if failure.kind is FailureKind.CONNECT else log.warning
        tell(_LOGGED_FAILURES[failure.kind], host=entry.host.name, error=failure.message, held_for_s=held_for_s)

    def _raise_held(self, entry: _HostEntry) -> None:
        hold = entry.hold
        now_s = time.monotonic()
        if hold is not None and still_holds(hold, now_s, stamp_of(entry.host)):
            rest = f"not tried again for another {max(1, round(hold.until_s - now_s))} s"
            if hold.failure.kind is FailureKind.LOGIN:
                rest += ", unless the key or the settings change, so that the account is not locked"
            raise NotSent(hold.failure.code, f"{hold.failure.message}; {rest}")

    def _state_of(self, entry: _HostEntry) -> HostState:
        connection = entry.connection
        now_s = time.monotonic()
        up = connection is not None and connection.usable
        reachable = Reachable.UP if up else Reachable.DOWN if entry.hold else Reachable.UNKNOWN
        return HostState(
            host=entry.host,
            reachable=reachable,
            connections=int(up),
            host_key_mismatches=entry.host_key_mismatches,
            checked_s=entry.held_since_s if reachable is Reachable.DOWN else now_s,
            fault=Fault(entry.hold.failure.code, entry.hold.failure.message) if entry.hold else None,
        )


def _answer(connection: HostConnection, command: CommandSession) -> CommandResult:
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
            message = f"{name} accepts the login but refuses to run a command"
            raise NotSent(FaultCode.CVM_SHELL_DISABLED, message)
        case CommandVerdict.TIME_LIMIT:
            raise Unanswered(FaultCode.COMMAND_TIMEOUT, f"a command on {name} gave no answer within {timeout_s:g} s")
        case CommandVerdict.TOO_LARGE:
            message = f"a command on {name} printed more than {max_output_bytes} bytes"
            raise Unanswered(FaultCode.OUTPUT_TOO_LARGE, message)
        case _:
            reason = connection.lost or "the channel was closed without an exit status"
            raise Unanswered(FaultCode.ANSWER_LOST, f"a command on {name} was cut off before its answer came: {reason}")

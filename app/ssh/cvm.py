"""The CVMs of one cluster: any CVM may answer a query, and a change goes to exactly the CVM that its caller names.

No other command is sent on a connection before a probe found a real shell with both tools on it.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from app.ngt.errors import Fault, FaultCode
from app.ngt.tools.command_lines import Tools
from app.ngt.tools.ncli_format import is_gateway_down
from app.ngt.tools.query_commands import ProbeFacts, QueryCommand, probe, read_probe
from app.ngt.vocabulary import CvmState
from app.ssh.host import CommandResult, ConnectionReplaced, Host, NotSent, Unanswered
from app.ssh.pool import HostState, Pool, Reachable

_PROBE_MAX_BYTES = 1024 * 1024
# The causes that a person must fix come before those that may pass.
_WORST_FIRST = (
    FaultCode.SSH_HOST_KEY_MISMATCH,
    FaultCode.SSH_AUTH_FAILED,
    FaultCode.CVM_SHELL_DISABLED,
    FaultCode.CVM_TOOLS_MISSING,
    FaultCode.NOT_VERIFIABLE,
    FaultCode.GATEWAY_DOWN,
    FaultCode.OUTPUT_TOO_LARGE,
    FaultCode.COMMAND_TIMEOUT,
)

BuildQuery = Callable[[ProbeFacts], QueryCommand]
"""Builds the command for the sub-commands that a CVM's CLI has."""

CommandObserver = Callable[[str, str, str, float], None]
"""Called with CVM, command, result and seconds after each command."""


@dataclass(frozen=True, slots=True)
class ProvedConnection:
    """A connection on which a probe found a real shell and the tools. `connection` is its number in the pool."""

    connection: int
    facts: ProbeFacts


@dataclass(frozen=True, slots=True)
class CvmAnswer:
    """A CVM's answer to a query. `answered_s`: this machine's monotonic clock at its last byte."""

    cvm: str
    command: QueryCommand
    result: CommandResult
    facts: ProbeFacts
    answered_s: float


def unobserved(_cvm: str, _command: str, _result: str, _seconds: float) -> None:
    """Observes nothing."""


class CvmGroup:
    """The CVMs of one cluster, in the order in which they are tried. `name` is the cluster's in the configuration."""

    def __init__(
        self,
        name: str,
        hosts: Iterable[Host],
        pool: Pool,
        tools: Tools,
        *,
        max_output_bytes: int,
        observer: CommandObserver = unobserved,
    ) -> None:
        self.name = name
        self.hosts = {host.name: host for host in hosts}
        self._pool = pool
        self._tools = tools
        self._max_output_bytes = max_output_bytes
        self._observer = observer
        self._proved: dict[Host, ProvedConnection] = {}
        # The time and the fault of a probe that found no usable shell or no tools.
        self._unfit: dict[Host, tuple[float, Fault]] = {}
        self._probing: dict[Host, asyncio.Task[ProvedConnection]] = {}
        self._last_good: str | None = None

    async def ask(self, build: BuildQuery, *, prefer: str | None = None) -> CvmAnswer:
        """The answer of the first CVM that gives one: after any failure the next CVM is asked.

        Raises a Fault that names the cause of each CVM.
        """
        causes: list[tuple[str, Fault]] = []
        for cvm in self._order(prefer):
            try:
                asked = await self._ask_one(cvm, build)
            except Fault as cause:
                causes.append((cvm, cause))
                continue
            self._last_good = cvm
            return asked
        raise _no_cvm_answered(self.name, causes)

    async def change(self, cvm: str, name: str, text: str, *, timeout_s: float) -> CommandResult:
        """Sends a change once, to exactly this CVM, on a proved connection. Raises NotSent, Unanswered."""
        host = self.hosts.get(cvm)
        if host is None:
            raise NotSent(FaultCode.CVM_UNREACHABLE, f"{cvm} is not a CVM of {self.name} any more")
        return (await self._run_proved(host, lambda _: QueryCommand(name, text, timeout_s)))[1]

    async def probe(self, cvm: str) -> ProvedConnection:
        """Probes the CVM again. Raises a Fault with the cause: unreachable, host key, login, shell or tools."""
        host = self.hosts[cvm]
        self._proved.pop(host, None)
        return await self._prove(host)

    def states(self, time_at: Callable[[float], datetime]) -> list[CvmState]:
        """The CVMs whose state is known; `time_at` converts this machine's monotonic clock."""
        states = {state.host: state for state in self._pool.state()}
        found = ((cvm, states.get(host), self._unfit.get(host)) for cvm, host in self.hosts.items())
        return [_state_of(cvm, state, unfit, time_at) for cvm, state, unfit in found if _is_known(state) or unfit]

    def _order(self, prefer: str | None) -> list[str]:
        first = [cvm for cvm in (prefer, self._last_good) if cvm in self.hosts]
        return list(dict.fromkeys([*filter(None, first), *self.hosts]))

    async def _ask_one(self, cvm: str, build: BuildQuery) -> CvmAnswer:
        command, result, facts = await self._run_proved(self.hosts[cvm], build)
        if is_gateway_down(result.stdout) or is_gateway_down(result.stderr):
            raise Fault(FaultCode.GATEWAY_DOWN, f"ncli on {cvm} could not connect to the Nutanix gateway")
        return CvmAnswer(cvm, command, result, facts, time.monotonic())

    async def _run_proved(self, host: Host, build: BuildQuery) -> tuple[QueryCommand, CommandResult, ProbeFacts]:
        """Nothing was sent when the connection was replaced, so the text goes over the new one, after a probe."""
        for last_try in (False, True):
            proved = await self._prove(host)
            command = build(proved.facts)
            try:
                return command, await self._run(host, command, proved), proved.facts
            except ConnectionReplaced:
                self._forget(host, proved)
                if last_try:
                    raise
        raise AssertionError("the last try raises")

    async def _prove(self, host: Host) -> ProvedConnection:
        """The proof of the present connection; concurrent callers wait for the same probe."""
        known = self._proved.get(host)
        if known is not None:
            return known
        task = self._probing.get(host)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._probe(host))
            self._probing[host] = task
            task.add_done_callback(lambda done: self._probed(host, done))
        return await asyncio.shield(task)

    def _probed(self, host: Host, task: asyncio.Task[ProvedConnection]) -> None:
        self._probing.pop(host, None)
        if not task.cancelled():
            # Every waiter may have been cancelled: reading the exception here keeps it out of the error log.
            task.exception()

    async def _probe(self, host: Host) -> ProvedConnection:
        command = probe(self._tools)
        try:
            answer = await self._run(host, command, None)
        except Unanswered as lost:
            # A probe changes nothing, so it is safe to say that it was not sent.
            raise NotSent(lost.code, lost.message) from lost
        facts = read_probe(answer.stdout)
        if not facts.shell_ok:
            # sshd looks up the login shell once per login, so another shell needs another login.
            self._pool.retire(host)
            message = f"bash access is disabled on this CVM ({host.name}); see KB-19114"
            raise self._remember_unfit(host, NotSent(FaultCode.CVM_SHELL_DISABLED, message))
        missing = [program for program in self._tools.programs() if program not in facts.tools]
        if missing:
            message = f"{', '.join(missing)} not found on {host.name}"
            raise self._remember_unfit(host, NotSent(FaultCode.CVM_TOOLS_MISSING, message))
        self._unfit.pop(host, None)
        proved = ProvedConnection(answer.connection, facts)
        self._proved[host] = proved
        return proved

    def _remember_unfit(self, host: Host, fault: NotSent) -> NotSent:
        self._unfit[host] = (time.monotonic(), fault)
        return fault

    def _forget(self, host: Host, proved: ProvedConnection) -> None:
        if self._proved.get(host) is proved:
            del self._proved[host]

    async def _run(self, host: Host, command: QueryCommand, proved: ProvedConnection | None) -> CommandResult:
        begun_s = time.monotonic()
        result = "error"
        try:
            answer = await self._pool.run(
                host,
                command.text,
                timeout_s=command.timeout_s,
                max_output_bytes=self._max_output_bytes if proved is not None else _PROBE_MAX_BYTES,
                only_on=proved.connection if proved is not None else None,
            )
            result = "ok" if answer.exit_status == 0 else "exit"
            return answer
        except Fault as fault:
            result = fault.code.value
            raise
        finally:
            self._observer(host.name, command.name, result, time.monotonic() - begun_s)


def _is_known(state: HostState | None) -> bool:
    return state is not None and state.reachable is not Reachable.UNKNOWN


def _state_of(
    cvm: str, state: HostState | None, unfit: tuple[float, Fault] | None, time_at: Callable[[float], datetime]
) -> CvmState:
    if state is not None and state.reachable is Reachable.DOWN and state.fault is not None:
        unfit = (state.checked_s, state.fault)
    if unfit is not None:
        checked_s, fault = unfit
        return CvmState(cvm, False, time_at(checked_s), fault.code, fault.message)
    assert state is not None
    return CvmState(cvm, True, time_at(state.checked_s))


def _no_cvm_answered(cluster: str, causes: list[tuple[str, Fault]]) -> Fault:
    codes = {cause.code for _, cause in causes}
    code = next((code for code in _WORST_FIRST if code in codes), FaultCode.CVM_UNREACHABLE)
    if code in {FaultCode.COMMAND_TIMEOUT, FaultCode.GATEWAY_DOWN} and len(codes) > 1:
        code = FaultCode.CVM_UNREACHABLE
    said = "; ".join(f"{cvm}: {cause.message}" for cvm, cause in causes)
    return Fault(code, f"no CVM of {cluster} answered: {said}")

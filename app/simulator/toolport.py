"""The tools as programs: small shell scripts that send their arguments to a loopback port and print the answer.

They are on PATH only after the profile of a CVM, need no Python, and work behind any SSH server. A request is
NUL-terminated words (exec number, host, tool, count, arguments), an answer one line `status stderr-length
stdout-length` and then the bytes. A call has its effect even when the tool was killed meanwhile, as on a cluster.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

from app.simulator.faults import Does, HostFaults, ToolFault, ToolFaults
from app.simulator.journal import Journal, Kind
from app.simulator.model import SimulatedCluster
from app.simulator.tools import TOOLS, ToolCommand, ToolOutput, run

_SCRIPT = r"""#!/bin/bash
LC_ALL=C
exec 3<>/dev/tcp/127.0.0.1/@port@ || exit 255
printf '%s\0' "$NGT_SIMULATOR_EXEC" "$NGT_SIMULATOR_HOST" @tool@ "$#" "$@" >&3
read -r -u 3 status errors answer || exit 255
if ((errors)); then read -r -N "$errors" -u 3 text; printf '%s' "$text" >&2; fi
if ((answer > 65536)); then cat <&3; elif ((answer)); then read -r -N "$answer" -u 3 text; printf '%s' "$text"; fi
exit "$status"
"""

_PROFILE = """export NGT_SIMULATOR_HOST="@host@"
export PATH="@tools@:$PATH"
"""

_FORCED_COMMAND = r"""#!/bin/bash
exec /bin/bash -c "${SSH_ORIGINAL_COMMAND//\/etc\/profile/@profile@}"
"""


class ToolPort:
    """The loopback port of all tools of a site.

    `cut` breaks the connection that brought the text of an exec number.
    """

    def __init__(
        self,
        directory: Path,
        *,
        journal: Journal,
        faults: ToolFaults,
        latency_s: dict[str, float],
        cut: Callable[[int], None],
    ) -> None:
        self.directory = directory
        self.journal = journal
        self.faults = faults
        self.latency_s = latency_s
        self._cut = cut
        self._cvms: dict[str, tuple[SimulatedCluster, int, HostFaults]] = {}
        self._server: asyncio.Server | None = None
        self._calls: set[asyncio.Task[None]] = set()

    @property
    def tools_directory(self) -> Path:
        return self.directory / "tools"

    def profile_for(self, host: str) -> Path:
        """The file that takes the place of `/etc/profile` on that CVM."""
        return self.directory / f"profile.{host}"

    def forced_command_for(self, host: str) -> Path:
        """A program for the `ForceCommand` of a real `sshd`: it runs the text with that CVM's profile."""
        return self.directory / f"shell.{host}"

    def add_cvm(self, host: str, cluster: SimulatedCluster, number: int, faults: HostFaults) -> None:
        """Writes the profile of one CVM, the `number`th of `cluster`."""
        self._cvms[host] = (cluster, number, faults)
        profile = self.profile_for(host)
        profile.write_text(_PROFILE.replace("@host@", host).replace("@tools@", str(self.tools_directory)))
        _write_program(
            self.forced_command_for(host), _FORCED_COMMAND.replace("@profile@", str(profile).replace("/", r"\/"))
        )

    async def start(self) -> None:
        """Listens, and writes the tools."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.tools_directory.mkdir(parents=True, exist_ok=True)
        for tool in TOOLS:
            _write_program(self.tools_directory / tool, _SCRIPT.replace("@port@", str(port)).replace("@tool@", tool))

    async def stop(self) -> None:
        """Stops listening, and cancels the running calls."""
        if self._server is not None:
            self._server.close()
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        try:
            answer = await self._serve(reader)
            if answer is not None:
                stdout, stderr = answer.stdout.encode(), answer.stderr.encode()
                writer.write(b"%d %d %d\n" % (answer.status, len(stderr), len(stdout)) + stderr + stdout)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            # A tool that was killed does not wait for its answer.
            pass
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader) -> ToolOutput | None:
        exec_text, host, tool, count = [await _word(reader) for _ in range(4)]
        arguments = tuple([await _word(reader) for _ in range(int(count))])
        if host not in self._cvms:
            return ToolOutput(stderr=f"{tool}: no such CVM: {host}\n", status=255)
        cluster, number, host_faults = self._cvms[host]
        call = ToolCommand(tool, arguments, cluster, number)
        record = self.journal.begin(
            Kind.TOOL,
            call.text,
            cluster=cluster.name,
            host=host,
            vm_uuids=call.vm_uuids,
            sub_command=call.sub_command,
            exec_number=int(exec_text) if exec_text else None,
        )
        answer: ToolOutput | None = None
        try:
            fault = self.faults.take(sub_command=call.sub_command, vm_uuids=call.vm_uuids, host=host)
            answer = await self._perform(call, fault, reader, host_faults, record.exec_number)
        finally:
            self.journal.end(record, _summary(answer))
        return answer

    async def _perform(
        self,
        call: ToolCommand,
        fault: ToolFault | None,
        reader: asyncio.StreamReader,
        host_faults: HostFaults,
        exec_number: int | None,
    ) -> ToolOutput | None:
        await asyncio.sleep(self.latency_s.get(call.tool, 0))
        does = fault.does if fault is not None else None
        if does is Does.HANG:
            await reader.read()
            return None
        if does in {Does.DROP_BEFORE, Does.DROP_THEN_EFFECT}:
            self._cut_exec(exec_number)
        if does is Does.DROP_BEFORE:
            return None
        if fault is not None and does in {Does.SLOW, Does.DROP_THEN_EFFECT}:
            await asyncio.sleep(fault.seconds)
        answer = run(call, fault=fault, gateway_down=host_faults.gateway_down)
        if does is Does.HANG_AFTER_EFFECT:
            await reader.read()
            return None
        if does is Does.DROP_AFTER:
            self._cut_exec(exec_number)
        return answer

    def _cut_exec(self, exec_number: int | None) -> None:
        if exec_number is not None:
            self._cut(exec_number)


def _summary(answer: ToolOutput | None) -> str:
    if answer is None:
        return "no answer"
    return answer.stdout.strip()[-200:] or f"exit status {answer.status}"


async def _word(reader: asyncio.StreamReader) -> str:
    return (await reader.readuntil(b"\0"))[:-1].decode(errors="replace")


def _write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)

"""A CVM: runs each text that is sent to it with a real bash, and treats it as OpenSSH does without a terminal.

A text whose connection is cut goes on: its pipes are closed and nobody signals it. Its end is reported when its output
has been sent. The tools are on PATH only behind the profile.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import cast

import asyncssh

from app.simulator.faults import Shell
from app.simulator.host import ServerConnection
from app.simulator.journal import Journal, Kind, Record

MENU = """
Nutanix Controller VM
Bash access is disabled on this CVM.
  1) acli
  2) ncli
  3) exit
Select an option:
"""

_STDIN, _STDOUT, _STDERR = 0, 1, 2
_PLAIN_PATH = "/usr/local/bin:/usr/bin:/bin"


_MARK = "NGT_SIMULATOR_SHELLS"
"""The environment variable by which everything that a shell started is found again."""


class Shells:
    """The shells that run on the CVMs of a site. `directory` is the home of their user."""

    def __init__(self, directory: Path, *, journal: Journal, profile_for: Callable[[str], Path], tools: Path) -> None:
        self.directory = directory
        self.journal = journal
        self.profile_for = profile_for
        self.tools = tools
        self.running: dict[int, _Session] = {}

    def open_session(self, connection: ServerConnection) -> asyncssh.SSHServerSession[bytes]:
        """Make the session of a channel that was just opened to a CVM."""
        return _Session(self, connection)

    def cut(self, exec_number: int) -> None:
        """Cut the connection that brought the text of that number."""
        session = self.running.get(exec_number)
        if session is not None:
            session.connection.cut()

    async def kill_all(self) -> None:
        """Kill what still runs, with everything that it started."""
        for session in tuple(self.running.values()):
            await session.started()
        for pid in _marked_processes(f"{_MARK}={self.directory}"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while self.running:
            await next(iter(self.running.values())).ended.wait()

    async def spawn(self, shell: "_Shell", record: Record, connection: ServerConnection) -> None:
        """Start the shell that runs the text of `record`."""
        host = connection.host.name
        if connection.host.faults.shell is Shell.RESTRICTED:
            argv = ["rbash", "-r", "-c", record.text]
        else:
            argv = ["bash", "-c", self._text_to_run(record.text, host)]
        await asyncio.get_running_loop().subprocess_exec(
            lambda: shell,
            *argv,
            executable="/bin/bash",
            cwd=self.directory,
            env={
                "HOME": str(self.directory),
                "USER": connection.host.username,
                "LANG": "C.UTF-8",
                "PATH": _PLAIN_PATH,
                "NGT_SIMULATOR_HOST": host,
                "NGT_SIMULATOR_EXEC": str(record.number),
                _MARK: str(self.directory),
            },
            start_new_session=True,
        )

    def _text_to_run(self, text: str, host: str) -> str:
        # The text stays as it is but for this CVM's own profile and tools, where it names a CVM's.
        own_profile = text.replace("/etc/profile", str(self.profile_for(host)))
        return own_profile.replace("/home/nutanix/prism/cli/", f"{self.tools}/")


class _Session(asyncssh.SSHServerSession[bytes]):
    """One channel to a CVM."""

    def __init__(self, shells: Shells, connection: ServerConnection) -> None:
        self.shells = shells
        self.connection = connection
        self.ended = asyncio.Event()
        self.channel: asyncssh.SSHServerChannel[bytes] | None = None
        self._shell = _Shell(self)
        self._spawning: asyncio.Task[None] | None = None
        self._record: Record | None = None

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        """Take the channel."""
        self.channel = chan

    def exec_requested(self, command: str) -> bool:
        """Take the text."""
        host = self.connection.host
        self._record = host.journal.begin(Kind.EXEC, command, cluster=host.cluster, host=host.name)
        return True

    def session_started(self) -> None:
        """Run the text."""
        assert self._record is not None
        assert self.channel is not None
        if self.connection.host.faults.shell is Shell.MENU:
            self.channel.write(MENU.encode())
            self.channel.exit(0)
            self.shells.journal.end(self._record, "menu")
            return
        self.shells.running[self._record.number] = self
        self._spawning = asyncio.create_task(self._spawn(self._record))

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        """Hand on what the client sends."""
        del datatype
        self._shell.write(data)

    def eof_received(self) -> bool:
        """End the shell's input; the channel stays open for its output."""
        self._shell.end_input()
        return True

    def signal_received(self, signal: str) -> None:
        """Signal the whole process group, as OpenSSH does."""
        self._shell.signal_group(signal)

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the shell's pipes and let it run."""
        del exc
        self.channel = None
        self.connection.session_closed()
        self._shell.close_pipes()

    def pause_writing(self) -> None:
        """Read no more from the shell while the client reads nothing."""
        for pipe in self._shell.outputs():
            pipe.pause_reading()

    def resume_writing(self) -> None:
        """Read from the shell again."""
        for pipe in self._shell.outputs():
            pipe.resume_reading()

    async def started(self) -> None:
        """Wait until the shell runs."""
        if self._spawning is not None:
            await self._spawning

    def shell_ended(self, status: int) -> None:
        """Write down that the shell has ended, though its output may still be on its way."""
        assert self._record is not None
        self.shells.running.pop(self._record.number, None)
        self.shells.journal.end(self._record, str(status))
        self.ended.set()

    def output_drained(self, status: int) -> None:
        """Report the shell's end to the client."""
        if self.channel is None or self.channel.is_closing():
            return
        if status < 0:
            self.channel.exit_with_signal(signal.Signals(-status).name.removeprefix("SIG"))
        else:
            self.channel.exit(status)

    async def _spawn(self, record: Record) -> None:
        await self.shells.spawn(self._shell, record, self.connection)


class _Shell(asyncio.SubprocessProtocol):
    """The process of one session."""

    def __init__(self, session: _Session) -> None:
        self._session = session
        self._transport: asyncio.SubprocessTransport | None = None
        self._open_outputs = {_STDOUT, _STDERR}
        self._status: int | None = None
        self._early_input = bytearray()
        self._input_ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the process, and hand on what came before it was there."""
        # Not asked with isinstance, as uvloop's transports are of no class of asyncio's.
        self._transport = cast("asyncio.SubprocessTransport", transport)
        self.write(bytes(self._early_input))
        if self._input_ended:
            self.end_input()
        if self._session.channel is None:
            self.close_pipes()

    def write(self, data: bytes) -> None:
        """Write to the shell's stdin."""
        stdin = self._stdin()
        if stdin is not None:
            stdin.write(data)
        elif self._transport is None:
            self._early_input += data

    def end_input(self) -> None:
        """Close the shell's stdin."""
        self._input_ended = True
        stdin = self._stdin()
        if stdin is not None:
            stdin.close()

    def signal_group(self, name: str) -> None:
        """Signal the shell's process group."""
        if self._transport is not None and self._status is None:
            os.killpg(self._transport.get_pid(), signal.Signals[f"SIG{name}"])

    def outputs(self) -> list[asyncio.ReadTransport]:
        """Give the pipes that the shell writes to and that are still open."""
        if self._transport is None:
            return []
        pipes = [self._transport.get_pipe_transport(fd) for fd in self._open_outputs]
        return [cast("asyncio.ReadTransport", pipe) for pipe in pipes if pipe is not None]

    def close_pipes(self) -> None:
        """Close the pipes, so that the shell's next write to one fails."""
        for pipe in self.outputs():
            pipe.close()
        self.end_input()

    def pipe_data_received(self, fd: int, data: bytes | str) -> None:
        """Send the shell's output to the client."""
        assert isinstance(data, bytes)
        channel = self._session.channel
        if channel is not None and not channel.is_closing():
            channel.write(data, asyncssh.EXTENDED_DATA_STDERR if fd == _STDERR else None)

    def process_exited(self) -> None:
        """Take note of the end."""
        assert self._transport is not None
        self._status = self._transport.get_returncode() or 0
        self._session.shell_ended(self._status)
        self._finish_when_drained()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """Take note of the end of one output."""
        del exc
        self._open_outputs.discard(fd)
        self._finish_when_drained()

    def _finish_when_drained(self) -> None:
        if self._status is not None and not self._open_outputs and self._transport is not None:
            self._session.output_drained(self._status)
            self._transport.close()

    def _stdin(self) -> asyncio.WriteTransport | None:
        if self._transport is None:
            return None
        return cast("asyncio.WriteTransport | None", self._transport.get_pipe_transport(_STDIN))


def _marked_processes(mark: str) -> list[int]:
    """Give the processes whose environment holds `mark`, however far from their shell they have gone."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found

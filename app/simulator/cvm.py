"""A CVM runs each text that it receives with a real bash, as OpenSSH does without a terminal.

After its connection is cut a text continues without a signal, and its pipes are closed. Its end is reported after its
output was sent. The tools are on PATH only after the profile was read.
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
"""The environment variable that marks every descendant of a shell."""


class Shells:
    """The shells that run on the CVMs of a site. `directory` is the home of their user."""

    def __init__(self, directory: Path, *, journal: Journal, profile_for: Callable[[str], Path], tools: Path) -> None:
        self.directory = directory
        self.journal = journal
        self.profile_for = profile_for
        self.tools = tools
        self.running: dict[int, _Session] = {}

    def open_session(self, connection: ServerConnection) -> asyncssh.SSHServerSession[bytes]:
        return _Session(self, connection)

    def cut(self, exec_number: int) -> None:
        """Cuts the connection that brought the text of that number."""
        session = self.running.get(exec_number)
        if session is not None:
            session.connection.cut()

    async def kill_all(self) -> None:
        """Kills the running shells and all their descendants."""
        for session in tuple(self.running.values()):
            await session.started()
        for pid in _marked_processes(f"{_MARK}={self.directory}"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while self.running:
            await next(iter(self.running.values())).ended.wait()

    async def spawn(self, shell: "_Shell", record: Record, connection: ServerConnection) -> None:
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
        # The paths of a real CVM's profile and tools become those of this CVM.
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
        self.channel = chan

    def exec_requested(self, command: str) -> bool:
        host = self.connection.host
        self._record = host.journal.begin(Kind.EXEC, command, cluster=host.cluster, host=host.name)
        return True

    def session_started(self) -> None:
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
        self._shell.write(data)

    def eof_received(self) -> bool:
        """Ends the input of the shell; the channel stays open for its output."""
        self._shell.end_input()
        return True

    def signal_received(self, signal: str) -> None:
        """Signals the whole process group, as OpenSSH does."""
        self._shell.signal_group(signal)

    def connection_lost(self, exc: Exception | None) -> None:
        """Closes the pipes of the shell, which continues."""
        self.channel = None
        self.connection.session_closed()
        self._shell.close_pipes()

    def pause_writing(self) -> None:
        for pipe in self._shell.outputs():
            pipe.pause_reading()

    def resume_writing(self) -> None:
        for pipe in self._shell.outputs():
            pipe.resume_reading()

    async def started(self) -> None:
        if self._spawning is not None:
            await self._spawning

    def shell_ended(self, status: int) -> None:
        """Records the end of the shell; its output may still be in the pipes."""
        assert self._record is not None
        self.shells.running.pop(self._record.number, None)
        self.shells.journal.end(self._record, str(status))
        self.ended.set()

    def output_drained(self, status: int) -> None:
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
        # A cast, because the transports of uvloop are not instances of asyncio's classes.
        self._transport = cast("asyncio.SubprocessTransport", transport)
        self.write(bytes(self._early_input))
        if self._input_ended:
            self.end_input()
        if self._session.channel is None:
            self.close_pipes()

    def write(self, data: bytes) -> None:
        stdin = self._stdin()
        if stdin is not None:
            stdin.write(data)
        elif self._transport is None:
            self._early_input += data

    def end_input(self) -> None:
        self._input_ended = True
        stdin = self._stdin()
        if stdin is not None:
            stdin.close()

    def signal_group(self, name: str) -> None:
        if self._transport is not None and self._status is None:
            os.killpg(self._transport.get_pid(), signal.Signals[f"SIG{name}"])

    def outputs(self) -> list[asyncio.ReadTransport]:
        """The open pipes that the shell writes to."""
        if self._transport is None:
            return []
        pipes = [self._transport.get_pipe_transport(fd) for fd in self._open_outputs]
        return [cast("asyncio.ReadTransport", pipe) for pipe in pipes if pipe is not None]

    def close_pipes(self) -> None:
        """Closes the pipes, so that the next write of the shell fails."""
        for pipe in self.outputs():
            pipe.close()
        self.end_input()

    def pipe_data_received(self, fd: int, data: bytes | str) -> None:
        assert isinstance(data, bytes)
        channel = self._session.channel
        if channel is not None and not channel.is_closing():
            channel.write(data, asyncssh.EXTENDED_DATA_STDERR if fd == _STDERR else None)

    def process_exited(self) -> None:
        assert self._transport is not None
        self._status = self._transport.get_returncode() or 0
        self._session.shell_ended(self._status)
        self._finish_when_drained()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
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
    """The processes whose environment holds `mark`, also those that left their session."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found

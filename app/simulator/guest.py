"""A guest's own SSH server: restarts the agent and reads its files, by the commands of Linux and of Windows.

It recognises the commands and does not run them. A request for the private key is recorded as a violation.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

import asyncssh

from app.simulator.certificates import pem_of
from app.simulator.host import ServerConnection
from app.simulator.journal import Journal, Kind
from app.simulator.model import SimulatedCluster, SimulatedVm
from app.simulator.spec import Os

LINUX_CONFIG = "/usr/local/nutanix/ngt/config"
WINDOWS_CONFIG = "C:\\Program Files\\Nutanix\\config"
_NGT_VERSION = "2.0.1"


@dataclass(frozen=True, slots=True)
class GuestAnswer:
    """The output and the exit status of a command in a guest."""

    stdout: str = ""
    stderr: str = ""
    status: int = 0


@dataclass(slots=True)
class Guest:
    """The inside of one VM."""

    vm: SimulatedVm
    cluster: SimulatedCluster
    journal: Journal

    def open_session(self, connection: ServerConnection) -> asyncssh.SSHServerSession[bytes]:
        return _GuestSession(self, connection)

    def run(self, command: str) -> GuestAnswer:
        self.cluster.settle(self.vm.uuid)
        for pattern, act in _COMMANDS[self.vm.os]:
            if pattern.search(command):
                return act(self)
        return _NOT_FOUND[self.vm.os](command)

    def restart_agent(self) -> GuestAnswer:
        self.cluster.restart_agent(self.vm.uuid)
        return GuestAnswer()

    def read_certificate(self) -> GuestAnswer:
        if self.vm.installed is None:
            return self._no_such_file("client-cert.pem")
        return self._file(pem_of(self.vm.installed))

    def read_config(self) -> GuestAnswer:
        """Prints `ngt_config.json`, which names the entity that the files were installed from."""
        if self.vm.installed is None:
            return self._no_such_file("ngt_config.json")
        config = {
            "cluster_ip": "192.168.3.100",
            "ngt_uuid": self.vm.installed.ngt_uuid,
            "ngt_version": _NGT_VERSION,
            "port": 2074,
        }
        return self._file(json.dumps(config))

    def refuse_key(self) -> GuestAnswer:
        self.journal.note(Kind.VIOLATION, "asked for client-key.pem", cluster=self.cluster.name, host=self.vm.uuid)
        return GuestAnswer(stderr="Permission denied\n", status=1)

    def _file(self, text: str) -> GuestAnswer:
        return GuestAnswer(text.replace("\n", "\r\n") if self.vm.os is Os.WINDOWS else text)

    def _no_such_file(self, name: str) -> GuestAnswer:
        if self.vm.os is Os.WINDOWS:
            return GuestAnswer(stderr="The system cannot find the file specified.\r\n", status=1)
        return GuestAnswer(stderr=f"cat: {LINUX_CONFIG}/{name}: No such file or directory\n", status=1)


_LINUX_FILE = r"\bcat\s+['\"]?/usr/local/nutanix/(?:ngt/)?config/"
_WINDOWS_FILE = r"\b(?:type|Get-Content|gc|cat)\b.*C:[\\/]+Program Files[\\/]+Nutanix[\\/]+config[\\/]+"
_WINDOWS_SERVICE = r"(?:Restart-Service\b.*|net\s+start\s+)['\"]+Nutanix Guest Tools Agent"

_COMMANDS: dict[Os, list[tuple[re.Pattern[str], Callable[[Guest], GuestAnswer]]]] = {
    Os.LINUX: [
        (re.compile(r"client-key\.pem"), Guest.refuse_key),
        (re.compile(r"\bsystemctl\s+restart\s+ngt_guest_agent\b"), Guest.restart_agent),
        (re.compile(r"\bservice\s+ngt_guest_agent\s+restart\b"), Guest.restart_agent),
        (re.compile(_LINUX_FILE + r"client-cert\.pem"), Guest.read_certificate),
        (re.compile(_LINUX_FILE + r"ngt_config\.json"), Guest.read_config),
    ],
    Os.WINDOWS: [
        (re.compile(r"client-key\.pem"), Guest.refuse_key),
        (re.compile(_WINDOWS_SERVICE, re.IGNORECASE), Guest.restart_agent),
        (re.compile(_WINDOWS_FILE + r"client-cert\.pem", re.IGNORECASE), Guest.read_certificate),
        (re.compile(_WINDOWS_FILE + r"ngt_config\.json", re.IGNORECASE), Guest.read_config),
    ],
}

_NOT_FOUND: dict[Os, Callable[[str], GuestAnswer]] = {
    Os.LINUX: lambda command: GuestAnswer(
        stderr=f"bash: line 1: {' '.join(command.split()[:1])}: command not found\n", status=127
    ),
    Os.WINDOWS: lambda command: GuestAnswer(
        stderr=f"'{' '.join(command.split()[:1])}' is not recognized as an internal or external command,\r\n"
        "operable program or batch file.\r\n",
        status=1,
    ),
}


class _GuestSession(asyncssh.SSHServerSession[bytes]):
    """One channel to a guest."""

    def __init__(self, guest: Guest, connection: ServerConnection) -> None:
        self._guest = guest
        self._connection = connection
        self._channel: asyncssh.SSHServerChannel[bytes] | None = None
        self._command = ""

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        self._channel = chan

    def exec_requested(self, command: str) -> bool:
        self._command = command
        return True

    def session_started(self) -> None:
        assert self._channel is not None
        host, vm = self._connection.host, self._guest.vm
        record = host.journal.begin(
            Kind.GUEST, self._command, cluster=host.cluster, host=host.name, vm_uuids=(vm.uuid,)
        )
        if host.faults.hangs:
            return
        answer = self._guest.run(self._command)
        host.journal.end(record, str(answer.status))
        self._channel.write(answer.stdout.encode())
        self._channel.write(answer.stderr.encode(), asyncssh.EXTENDED_DATA_STDERR)
        self._channel.exit(answer.status)

    def eof_received(self) -> bool:
        """Leaves the channel open for the answer."""
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.session_closed()

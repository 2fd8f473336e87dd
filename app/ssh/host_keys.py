"""Host keys before there is trust: reads the keys of a machine, and pins one that was named by its fingerprint.

It never logs in. The fingerprint must come over another channel.
"""

import asyncio
import os
import socket
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from app.ngt.errors import Fault, FaultCode
from app.ssh.host import SSH_PORT

_ALGORITHMS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "rsa-sha2-512")


@dataclass(frozen=True, slots=True)
class HostKey:
    """One host key of a machine. `line` is its line for a `known_hosts` file."""

    algorithm: str
    fingerprint: str
    line: str


async def scan_host_keys(address: str, port: int, *, timeout_s: float) -> tuple[HostKey, ...]:
    """All host keys that the machine shows, without a login. Raises Fault `cvm-unreachable`."""
    keys: dict[str, HostKey] = {}
    cause = "it showed no host key"
    for algorithm in _ALGORITHMS:
        try:
            async with asyncio.timeout(timeout_s):
                key = await asyncssh.get_server_host_key(address, port, server_host_key_algs=[algorithm], config=None)
        except (asyncssh.Error, ConnectionResetError) as without:
            # OpenSSH closes the connection when it has no key of the kind, before asyncssh can report it.
            cause = str(without)
            continue
        except (OSError, ValueError) as unreachable:
            cause = _sentence(unreachable, timeout_s)
            break
        if key is not None:
            fingerprint = key.get_fingerprint()
            keys[fingerprint] = HostKey(key.get_algorithm(), fingerprint, _line(address, port, key))
    if not keys:
        raise Fault(FaultCode.CVM_UNREACHABLE, f"{address} port {port} cannot be asked for its host keys: {cause}.")
    return tuple(keys.values())


def pin(known_hosts: Path, key: HostKey) -> bool:
    """Adds the key's line to the file, and creates the file; False when the file already has it. Raises OSError."""
    present = known_hosts.read_text(encoding="utf-8") if known_hosts.exists() else ""
    if key.line in present.splitlines():
        return False
    joint = "" if not present or present.endswith("\n") else "\n"
    known_hosts.parent.mkdir(parents=True, exist_ok=True)
    with known_hosts.open("a", encoding="utf-8") as file:
        file.write(f"{joint}{key.line}\n")
    return True


def _sentence(cause: Exception, timeout_s: float) -> str:
    match cause:
        case socket.gaierror():
            return str(cause.strerror)
        case OSError(errno=int(number)) if number:
            return os.strerror(number)
        case _:
            return str(cause) or f"no answer within {timeout_s:g} s"


def _line(address: str, port: int, key: asyncssh.SSHKey) -> str:
    host = address if port == SSH_PORT else f"[{address}]:{port}"
    algorithm_and_key = " ".join(key.export_public_key("openssh").decode("ascii").split()[:2])
    return f"{host} {algorithm_and_key}"

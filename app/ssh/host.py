"""The values of the SSH pool: hosts, limits, results, and the two faults of a command without an answer.

Such a command was either certainly not executed (`NotSent`) or may have been (`Unanswered`). The first may be repeated
and the second may not.
"""

from dataclasses import dataclass
from pathlib import Path

from app.ngt.errors import Fault

SSH_PORT = 22


@dataclass(frozen=True, slots=True)
class Host:
    """The address and the login of a machine. Equal hosts share one connection.

    `known_hosts` is required: no host is trusted by default. `sessions` is the number of concurrent commands on the one
    connection, at least 1.
    """

    address: str
    port: int
    username: str
    key_file: Path | None
    known_hosts: Path
    password_file: Path | None = None
    sessions: int = 4

    @property
    def name(self) -> str:
        """`address`, or `address:port` when the port is not 22; an IPv6 address with a port is in brackets."""
        return host_name(self.address, self.port)


def host_name(address: str, port: int) -> str:
    """The name of a host in configuration, logs and metrics."""
    if port == SSH_PORT:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """The time limits of the pool, in seconds.

    A silent server is given up after `keepalive_interval_s` times `keepalive_count`. `channel_wait_s` limits the wait
    for a free session, of this service or of the server. After a failed connection the host is left alone for
    `hold_down_first_s`, twice as long after each further failure, at most `hold_down_most_s`; after a refused login for
    `refused_login_hold_s`, because hardened clusters lock an account after three refusals. `drain_s` is the silence
    after an exit that ends a command whose output a daemon keeps open.
    """

    connect_timeout_s: float = 10.0
    login_timeout_s: float = 15.0
    keepalive_interval_s: float = 15.0
    keepalive_count: int = 3
    channel_wait_s: float = 60.0
    idle_close_s: float = 300.0
    refused_login_hold_s: float = 900.0
    hold_down_first_s: float = 5.0
    hold_down_most_s: float = 60.0
    drain_s: float = 5.0


GUEST_LIMITS = PoolLimits(idle_close_s=5.0)
"""The limits for guests: there may be hundreds, so their connections close soon after use."""


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The output of a command, and its exit.

    Bytes that are not UTF-8 become U+FFFD. `exit_status` is None when a signal ended the command. `duration_s` counts
    from sending. `host_key` is the SHA256 fingerprint of the host's key; `connection` is the number of the connection,
    unique in this pool.
    """

    stdout: str
    stderr: str
    exit_status: int | None
    duration_s: float
    host_key: str
    connection: int = 0


class NotSent(Fault):
    """Certainly nothing of the text was executed."""


class ConnectionReplaced(NotSent):
    """The connection that the text was bound to has ended; nothing was sent on another one."""


class Unanswered(Fault):
    """The text may have been executed, in part or later; its answer is missing or incomplete."""

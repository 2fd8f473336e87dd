"""What the pool is asked for and what it answers: hosts, limits, answers and the two ways to get none.

A command without an answer was either certainly not executed (`NotSent`) or may have been (`Unanswered`).
Nothing in between exists, because the first may be repeated and the second may not.
"""

from dataclasses import dataclass
from pathlib import Path

from app.ngt.errors import Fault

SSH_PORT = 22


@dataclass(frozen=True, slots=True)
class Host:
    """Where and as whom to log in. Equal hosts share one connection.

    `known_hosts` is always needed: no host is trusted by default. `sessions` is how many commands run at a time on the
    one connection, 1 or more.
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
        """`address`, or `address:port` when the port is not 22; an IPv6 address with a port stands in brackets."""
        return host_name(self.address, self.port)


def host_name(address: str, port: int) -> str:
    """How a host is called in configuration, logs and metrics."""
    if port == SSH_PORT:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """How long the pool waits for what, in seconds.

    `keepalive_interval_s` times `keepalive_count` is how long a silent server is believed. `channel_wait_s` bounds the
    wait for a free session, whether this service or the server is short of them. A host that could not be reached is
    left alone for `hold_down_first_s`, twice as long after each further failure, at most `hold_down_most_s`. After a
    refused login nobody logs in there for `refused_login_hold_s`: hardened clusters lock an account after three.
    `drain_s` is how long a command that has exited may stay silent before its open output is given up, as a daemon
    that it started can hold that output for ever.
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
"""For guests: there may be hundreds, each asked seldom, so their connections are closed soon after use."""


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What a command printed and how it ended.

    Bytes that are not UTF-8 became U+FFFD. `exit_status` is None when a signal ended the command. `duration_s` counts
    from sending. `host_key` is the SHA256 fingerprint of the host's key; `connection` is the number of the connection
    it came over, which no other connection of this pool has.
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
    """The connection that the text was bound to is gone; nothing was sent on another one."""


class Unanswered(Fault):
    """The text may have been executed, be it in part or later on; there is no complete answer."""

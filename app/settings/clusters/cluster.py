"""`[clusters.<name>]`: a cluster's CVMs, its rules, and the SSH access to its guests."""

import ipaddress
import re
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from app.ngt.renewal.request import Mode, RestartAgent
from app.settings.auto_renew import AutoRenew
from app.settings.clusters.commands import CommandSettings
from app.settings.clusters.guests import GuestSettings
from app.settings.table import Table
from app.settings.value_types import LAST_PORT, NOT_EMPTY, Seconds

_SSH_PORT = 22
_ADDRESS = re.compile(
    r"\[(?P<ipv6>[0-9a-fA-F:.]+)\](?::(?P<ipv6_port>\d{1,5}))?|(?P<host>[A-Za-z0-9][\w.-]*)(?::(?P<port>\d{1,5}))?"
)


class ClusterSettings(Table):
    """`cvms` are tried in order. `verify_timeout_s` None: depends on who restarts the agents."""

    cvms: Annotated[tuple[str, ...], NOT_EMPTY]
    username: Annotated[str, Field(min_length=1)] = "nutanix"
    key_file: Path
    known_hosts: Path
    mode: Mode = Mode.RECREATE
    restart_agent: RestartAgent = RestartAgent.SSH
    accept_unverified: bool = False
    max_running: Annotated[int, Field(ge=1, le=100)] = 3
    # OpenSSH allows ten sessions on a connection, and counts a closed one for a moment longer.
    sessions_per_connection: Annotated[int, Field(ge=1, le=10)] = 4
    prove_first: bool = True
    verify_timeout_s: Seconds | None = None
    commands: CommandSettings = CommandSettings()
    guests: tuple[GuestSettings, ...] = ()
    auto_renew: AutoRenew = AutoRenew()

    @field_validator("cvms")
    @classmethod
    def _validate_cvms(cls, cvms: tuple[str, ...]) -> tuple[str, ...]:
        for cvm in cvms:
            split_address(cvm)
        return cvms

    @property
    def one_until_proved(self) -> bool:
        """Renewals run one at a time until one is proved; with `accept_unverified` none may ever be."""
        return self.prove_first and not self.accept_unverified

    def guest_for(self, vm_name: str, addresses: tuple[str, ...]) -> tuple[GuestSettings, str] | None:
        """The first `guests` table that matches the VM's name and one of its addresses, and that address."""
        for guest in self.guests:
            if guest.match.fits(vm_name) and (address := guest.address_of(addresses)) is not None:
                return guest, address
        return None


def split_address(cvm: str) -> tuple[str, int]:
    """Host and port of `host`, `host:port`, an IPv6 address or `[IPv6]:port`; the default port is 22.

    Raises ValueError for anything else.
    """
    try:
        return str(ipaddress.IPv6Address(cvm)), _SSH_PORT
    except ValueError:
        match = _ADDRESS.fullmatch(cvm)
    if match is None:
        raise ValueError(f"{cvm!r} is not an address such as 10.0.0.31 or 10.0.0.31:2222")
    port = int(match["ipv6_port"] or match["port"] or _SSH_PORT)
    if not 1 <= port <= LAST_PORT:
        raise ValueError(f"{cvm!r} has a port outside 1 to {LAST_PORT}")
    return (str(ipaddress.IPv6Address(match["ipv6"])) if match["ipv6"] else match["host"].lower()), port

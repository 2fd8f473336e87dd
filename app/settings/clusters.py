"""A cluster as an operator describes it: its CVMs, its tools' command lines, and the SSH access to its guests."""

import fnmatch
import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, IPvAnyNetwork, ValidationInfo, field_validator, model_validator

from app.settings.auto_renew import AutoRenew
from app.settings.limits import Seconds, Table, at_least_one

SSH_PORT = 22
_LAST_PORT = 65535
_ADDRESS = re.compile(
    r"\[(?P<ipv6>[0-9a-fA-F:.]+)\](?::(?P<ipv6_port>\d{1,5}))?|(?P<host>[A-Za-z0-9][\w.-]*)(?::(?P<port>\d{1,5}))?"
)
_PLACEHOLDER = re.compile(r"\{([\w\s-]*)\}")

# The placeholders that each command line needs; it may have no others.
_PLACEHOLDERS: dict[str, frozenset[str]] = {
    "delete": frozenset({"vm_uuid"}),
    "create": frozenset({"vm_uuid"}),
    "mount": frozenset({"vm_uuid"}),
    "refresh": frozenset({"vm_uuid"}),
    "enable_application": frozenset({"vm_uuid", "application"}),
    "disable_application": frozenset({"vm_uuid", "application"}),
}

_GUEST_COMMANDS = {
    "linux": {
        "restart_command": "sudo systemctl restart ngt_guest_agent",
        "read_certificate": "sudo cat /usr/local/nutanix/ngt/config/client-cert.pem",
        "read_config": "sudo cat /usr/local/nutanix/ngt/config/ngt_config.json",
    },
    # These work whether the guest's OpenSSH server starts cmd.exe or PowerShell: both know `type`.
    "windows": {
        "restart_command": "powershell -NoProfile -NonInteractive -Command "
        "\"Restart-Service -Name 'Nutanix Guest Tools Agent' -ErrorAction Stop\"",
        "read_certificate": r'type "C:\Program Files\Nutanix\config\client-cert.pem"',
        "read_config": r'type "C:\Program Files\Nutanix\config\ngt_config.json"',
    },
}


def _one_line(command: str) -> str:
    if not command.strip() or not command.isprintable():
        raise ValueError("it must be one line of printable text")
    return command


class CommandSettings(Table):
    """`[clusters.<name>.commands]`: command lines of single tools, never the frame around them.

    `{vm_uuid}` and `{application}` are the only placeholders. Absent: what `app.ngt.tools.commands.Tools` says.
    """

    profile: str = "/etc/profile"
    delete: str | None = None
    create: str | None = None
    mount: str | None = None
    refresh: str | None = None
    query: str | None = None
    list_vms: str | None = None
    list_vms_text: str | None = None
    enable_application: str | None = None
    disable_application: str | None = None

    @field_validator("*")
    @classmethod
    def _acts_on_one_vm(cls, line: str | None, info: ValidationInfo) -> str | None:
        if line is None:
            return None
        _one_line(line)
        needed = _PLACEHOLDERS.get(info.field_name or "", frozenset())
        found = set(_PLACEHOLDER.findall(line))
        if unknown := sorted(found - needed):
            raise ValueError(f"{{{unknown[0]}}} is no placeholder of this command")
        if missing := sorted(needed - found):
            raise ValueError(f"it must contain {{{missing[0]}}}, or it could act on more than was asked for")
        return line

    @field_validator("profile")
    @classmethod
    def _is_a_path(cls, profile: str) -> str:
        if not re.fullmatch(r"/[\w./-]+", profile):
            raise ValueError("it must be the absolute path of a file on the CVM")
        return profile

    def overrides(self) -> dict[str, str]:
        """What is given, by the names of the fields of `app.ngt.tools.commands.Tools`."""
        return self.model_dump(exclude_none=True)


class GuestMatch(Table):
    """Which VMs a `guests` table is for, by shell patterns of their names (none: all), and what runs there.

    `os` picks the default commands; they are those of Linux when it is not given.
    """

    names: tuple[str, ...] = ()
    os: Literal["linux", "windows"] | None = None

    def fits(self, vm_name: str) -> bool:
        """Upper and lower case differ, as they do in the names of VMs."""
        return not self.names or any(fnmatch.fnmatchcase(vm_name, pattern) for pattern in self.names)


class GuestSettings(Table):
    """`[[clusters.<name>.guests]]`: SSH access to guests. Only a VM's addresses within `addresses` are connected to."""

    match: GuestMatch = GuestMatch()
    addresses: Annotated[tuple[IPvAnyNetwork, ...], AfterValidator(at_least_one)]
    port: Annotated[int, Field(ge=1, le=_LAST_PORT)] = SSH_PORT
    username: Annotated[str, Field(min_length=1)]
    key_file: Path
    known_hosts: Path
    restart_command: str
    read_certificate: str
    read_config: str

    @model_validator(mode="before")
    @classmethod
    def _default_commands(cls, table: object) -> object:
        if not isinstance(table, dict):
            return table
        match = table.get("match")
        system = match.os if isinstance(match, GuestMatch) else match.get("os") if isinstance(match, dict) else None
        commands = _GUEST_COMMANDS["windows" if system == "windows" else "linux"]
        return {**commands, **table}

    @field_validator("restart_command", "read_certificate", "read_config")
    @classmethod
    def _leaves_the_private_key_alone(cls, command: str) -> str:
        if "client-key" in command.lower():
            raise ValueError("no command may name client-key.pem: the private key is never read")
        return _one_line(command)

    def address_of(self, addresses: tuple[str, ...]) -> str | None:
        """The first of a VM's addresses that may be connected to."""
        return next((address for address in addresses if self._may_connect_to(address)), None)

    def _may_connect_to(self, address: str) -> bool:
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        if ip.is_link_local or ip.is_unspecified or ip.is_multicast:
            return False
        # A wide network such as 0.0.0.0/0 does not mean this host itself.
        networks = (network for network in self.addresses if not ip.is_loopback or network.is_loopback)
        return any(ip in network for network in networks)


class ClusterSettings(Table):
    """`[clusters.<name>]`. `cvms` are tried in order. `verify_timeout_s` None: by how the agents are restarted."""

    cvms: Annotated[tuple[str, ...], AfterValidator(at_least_one)]
    username: Annotated[str, Field(min_length=1)] = "nutanix"
    key_file: Path
    known_hosts: Path
    mode: Literal["recreate", "refresh"] = "recreate"
    restart_agent: Literal["ssh", "manual"] = "ssh"
    accept_unverified: bool = False
    max_running: Annotated[int, Field(ge=1, le=100)] = 3
    # OpenSSH allows ten sessions on a connection, and counts a closed one for a moment longer.
    sessions_per_connection: Annotated[int, Field(ge=1, le=10)] = 4
    # Only one renewal at a time until one was proven.
    prove_first: bool = True
    verify_timeout_s: Seconds | None = None
    commands: CommandSettings = CommandSettings()
    guests: tuple[GuestSettings, ...] = ()
    auto_renew: AutoRenew = AutoRenew()

    @field_validator("cvms")
    @classmethod
    def _are_addresses(cls, cvms: tuple[str, ...]) -> tuple[str, ...]:
        for cvm in cvms:
            split_address(cvm)
        return cvms


def guest_for(cluster: ClusterSettings, vm_name: str, addresses: tuple[str, ...]) -> tuple[GuestSettings, str] | None:
    """SSH access to a VM's guest: the first `guests` table for its name and one of its addresses, and that address.

    Never a link-local address (the agent's own 169.254/16), and loopback only where a table lists it explicitly.
    """
    for guest in cluster.guests:
        if guest.match.fits(vm_name) and (address := guest.address_of(addresses)) is not None:
            return guest, address
    return None


def split_address(cvm: str) -> tuple[str, int]:
    """Host and port of `host`, `host:port`, an IPv6 address or `[IPv6]:port`; port 22 unless given.

    Raises ValueError for anything else.
    """
    try:
        return str(ipaddress.IPv6Address(cvm)), SSH_PORT
    except ValueError:
        match = _ADDRESS.fullmatch(cvm)
    if match is None:
        raise ValueError(f"{cvm!r} is no address such as 10.0.0.31 or 10.0.0.31:2222")
    port = int(match["ipv6_port"] or match["port"] or SSH_PORT)
    if not 1 <= port <= _LAST_PORT:
        raise ValueError(f"{cvm!r} has a port outside 1 to {_LAST_PORT}")
    return (str(ipaddress.IPv6Address(match["ipv6"])) if match["ipv6"] else match["host"].lower()), port

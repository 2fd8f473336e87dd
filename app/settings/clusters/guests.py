"""`[[clusters.<name>.guests]]`: SSH access to guests, and the commands that run there."""

import fnmatch
import ipaddress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, IPvAnyNetwork, field_validator, model_validator

from app.settings.table import Table
from app.settings.value_types import NOT_EMPTY, Port, validate_one_line

_COMMANDS = {
    "linux": {
        "restart_command": "sudo systemctl restart ngt_guest_agent",
        "read_certificate": "sudo cat /usr/local/nutanix/ngt/config/client-cert.pem",
        "read_config": "sudo cat /usr/local/nutanix/ngt/config/ngt_config.json",
    },
    # These work in cmd.exe and in PowerShell, whichever the guest's OpenSSH server starts: both know `type`.
    "windows": {
        "restart_command": "powershell -NoProfile -NonInteractive -Command "
        "\"Restart-Service -Name 'Nutanix Guest Tools Agent' -ErrorAction Stop\"",
        "read_certificate": r'type "C:\Program Files\Nutanix\config\client-cert.pem"',
        "read_config": r'type "C:\Program Files\Nutanix\config\ngt_config.json"',
    },
}


class GuestMatch(Table):
    """Shell patterns of VM names (none: all VMs). `os` selects the default commands; None: those of Linux."""

    names: tuple[str, ...] = ()
    os: Literal["linux", "windows"] | None = None

    def fits(self, vm_name: str) -> bool:
        """Case-sensitive, like the names of VMs."""
        return not self.names or any(fnmatch.fnmatchcase(vm_name, pattern) for pattern in self.names)


class GuestSettings(Table):
    """Only a VM's addresses within `addresses` are connected to."""

    match: GuestMatch = GuestMatch()
    addresses: Annotated[tuple[IPvAnyNetwork, ...], NOT_EMPTY]
    port: Port = 22
    username: Annotated[str, Field(min_length=1)]
    key_file: Path
    known_hosts: Path
    restart_command: str
    read_certificate: str
    read_config: str

    @model_validator(mode="before")
    @classmethod
    def _add_default_commands(cls, table: object) -> object:
        if not isinstance(table, dict):
            return table
        match = table.get("match")
        system = match.os if isinstance(match, GuestMatch) else match.get("os") if isinstance(match, dict) else None
        return {**_COMMANDS["windows" if system == "windows" else "linux"], **table}

    @field_validator("restart_command", "read_certificate", "read_config")
    @classmethod
    def _refuse_private_key(cls, command: str) -> str:
        if "client-key" in command.lower():
            raise ValueError("no command may name client-key.pem: the private key is never read")
        return validate_one_line(command)

    def address_of(self, addresses: tuple[str, ...]) -> str | None:
        """The first of a VM's addresses that may be connected to.

        Link-local addresses (such as the agent's own 169.254/16) are excluded, and loopback unless it is listed.
        """
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
        # A wide network such as 0.0.0.0/0 does not include this host.
        networks = (network for network in self.addresses if not ip.is_loopback or network.is_loopback)
        return any(ip in network for network in networks)

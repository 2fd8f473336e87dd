"""The rules of a renewal and the hosts that a cluster's settings give."""

from pathlib import Path

from app.ngt.renewal.request import Rules
from app.ngt.tools.command_lines import Tools
from app.settings import ClusterSettings, GuestSettings, Limits, split_address
from app.ssh.host import Host

_VERIFY_TIMEOUTS = ("verify_timeout_ssh_s", "verify_timeout_manual_s")


def renewal_rules(settings: ClusterSettings, limits: Limits, tools: Tools) -> Rules:
    """A renewal's limits have the same names as the limits of the configuration."""
    timeouts = {} if settings.verify_timeout_s is None else dict.fromkeys(_VERIFY_TIMEOUTS, settings.verify_timeout_s)
    return Rules(
        mode=settings.mode,
        restart_agent=settings.restart_agent,
        accept_unverified=settings.accept_unverified,
        tools=tools,
        **limits.model_dump(include=set(Rules.__slots__)) | timeouts,
    )


def cvm_host(settings: ClusterSettings, cvm: str) -> Host:
    address, port = split_address(cvm)
    sessions = settings.sessions_per_connection
    return Host(address, port, settings.username, settings.key_file, Path(settings.known_hosts), sessions=sessions)


def guest_host(guest: GuestSettings, address: str) -> Host:
    return Host(address, guest.port, guest.username, guest.key_file, guest.known_hosts, sessions=2)

"""The request of a renewal, and the rules that the configuration sets for the cluster."""

from dataclasses import dataclass
from enum import StrEnum

from app.ngt.tools.command_lines import Tools


class Mode(StrEnum):
    """The way in which the cluster is made to issue a new certificate."""

    RECREATE = "recreate"
    REFRESH = "refresh"


class RestartAgent(StrEnum):
    """The restart of the agent in the guest: by this service over SSH, or by a person."""

    SSH = "ssh"
    MANUAL = "manual"


class WhenPoweredOff(StrEnum):
    """The treatment of a VM that is powered off."""

    REFUSE = "refuse"
    PROCEED = "proceed"


@dataclass(frozen=True, slots=True)
class RenewalRequest:
    """A None is decided by the cluster's configuration. `clusters` are the ones that may be searched."""

    mode: Mode | None = None
    force: bool = False
    skip_if_valid_days: int | None = None
    cluster: str | None = None
    clusters: tuple[str, ...] = ()
    restart_agent: RestartAgent | None = None
    when_powered_off: WhenPoweredOff = WhenPoweredOff.REFUSE
    create_if_absent: bool = False
    accept_unverified: bool | None = None
    validate_only: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """The configuration of one cluster, as a renewal needs it."""

    mode: Mode = Mode.RECREATE
    restart_agent: RestartAgent = RestartAgent.SSH
    accept_unverified: bool = False
    tools: Tools = Tools()  # noqa: RUF009 - frozen, so one instance may serve all
    verify_timeout_ssh_s: float = 1800
    verify_timeout_manual_s: float = 604800
    start_window_s: float = 30
    change_margin_s: float = 30
    settle_s: float = 60
    clock_max_age_s: float = 60
    delete_timeout_s: int = 60
    create_timeout_s: int = 60
    mount_timeout_s: int = 60
    refresh_timeout_s: int = 120
    retry_first_s: float = 5
    retry_last_s: float = 300
    unreachable_retries: int = 3
    guest_read_delays_s: tuple[float, ...] = (5, 30, 60, 120, 300, 600)
    renewed_recently_s: float = 86400

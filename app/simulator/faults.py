"""The faults that a test can order: of a tool's call, by VM and sub-command, and of a host.

The first fault that fits a call happens, as many times as it was ordered.
"""

from dataclasses import dataclass, field
from enum import StrEnum


class Does(StrEnum):
    """The behaviour of a faulty call."""

    REFUSE = "refuse"
    ANSWER = "answer"
    GARBAGE = "garbage"
    NO_ANSWER = "no answer"
    HANG = "hang"
    HANG_AFTER_EFFECT = "hang after effect"
    SLOW = "slow"
    DROP_BEFORE = "drop before the effect"
    DROP_AFTER = "drop after the effect"
    DROP_THEN_EFFECT = "drop, then the effect"


class Shell(StrEnum):
    """The login shell of a CVM."""

    BASH = "bash"
    RESTRICTED = "restricted"
    MENU = "menu"


@dataclass(slots=True, kw_only=True)
class ToolFault:
    """One fault of a tool's call.

    It fits calls of `sub_command`, for `vm_uuid`, on `host`; an empty one fits all. `times` None means always. REFUSE
    changes nothing and answers `words`; ANSWER does the work and answers `words`, on one line with `one_line`.
    `seconds` is the delay of SLOW before the effect, and of DROP_THEN_EFFECT between the cut and the effect. NO_ANSWER
    does the work and prints only the log lines.
    """

    does: Does
    sub_command: str = ""
    vm_uuid: str = ""
    host: str = ""
    times: int | None = 1
    words: tuple[str, ...] = ("kInternalError",)
    one_line: bool = False
    seconds: float = 0

    def fits(self, *, sub_command: str, vm_uuids: tuple[str, ...], host: str) -> bool:
        return (
            self.sub_command in ("", sub_command)
            and self.host in ("", host)
            and (not self.vm_uuid or self.vm_uuid in vm_uuids)
            and self.times != 0
        )


@dataclass(slots=True)
class ToolFaults:
    """The faults that were ordered and have not happened yet."""

    ordered: list[ToolFault] = field(default_factory=list)

    def order(self, fault: ToolFault) -> None:
        self.ordered.append(fault)

    def clear(self) -> None:
        self.ordered.clear()

    def take(self, *, sub_command: str, vm_uuids: tuple[str, ...], host: str) -> ToolFault | None:
        """The fault that happens to this call; counts it."""
        for fault in self.ordered:
            if fault.fits(sub_command=sub_command, vm_uuids=vm_uuids, host=host):
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None


@dataclass(slots=True)
class HostFaults:
    """The faults of one CVM or guest. `session_limit` is OpenSSH's MaxSessions; `hangs` is for guests."""

    login_refused: bool = False
    session_limit: int = 10
    shell: Shell = Shell.BASH
    gateway_down: bool = False
    hangs: bool = False

"""What can be ordered to go wrong: faults of a tool's call, by VM and sub-command, and faults of a host.

A fault lasts for as many calls as it was ordered for; the first that fits a call is the one that happens.
"""

from dataclasses import dataclass, field
from enum import StrEnum


class Does(StrEnum):
    """What a faulty call does instead of what it should."""

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
    """What a CVM runs a text with."""

    BASH = "bash"
    RESTRICTED = "restricted"
    MENU = "menu"


@dataclass(slots=True, kw_only=True)
class ToolFault:
    """One fault of a tool's call.

    It fits calls of `sub_command`, for `vm_uuid`, on `host`; an empty one fits all. `times` is how often it happens;
    None is for ever. REFUSE changes nothing and answers `words`; ANSWER does the work and answers `words`; both put
    them on one line where `one_line` says so. `seconds` is what SLOW adds before the effect, and how long after the
    cut DROP_THEN_EFFECT has its effect. NO_ANSWER does the work and prints the log lines alone.
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
        """Tell whether it happens to such a call."""
        return (
            self.sub_command in ("", sub_command)
            and self.host in ("", host)
            and (not self.vm_uuid or self.vm_uuid in vm_uuids)
            and self.times != 0
        )


@dataclass(slots=True)
class ToolFaults:
    """The faults that are ordered and not yet used up."""

    ordered: list[ToolFault] = field(default_factory=list)

    def order(self, fault: ToolFault) -> None:
        """Let `fault` happen to the next calls that it fits."""
        self.ordered.append(fault)

    def clear(self) -> None:
        """Let nothing go wrong any more."""
        self.ordered.clear()

    def take(self, *, sub_command: str, vm_uuids: tuple[str, ...], host: str) -> ToolFault | None:
        """Give the fault that happens to this call, and count it."""
        for fault in self.ordered:
            if fault.fits(sub_command=sub_command, vm_uuids=vm_uuids, host=host):
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None


@dataclass(slots=True)
class HostFaults:
    """How one CVM or guest misbehaves. `session_limit` is OpenSSH's MaxSessions; `hangs` is a guest's."""

    login_refused: bool = False
    session_limit: int = 10
    shell: Shell = Shell.BASH
    gateway_down: bool = False
    hangs: bool = False

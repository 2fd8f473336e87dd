"""The decisions of the pool, as plain functions: no clock, no I/O, no async.

Times are in seconds of any monotonic clock.
"""

from dataclasses import dataclass
from enum import Enum, StrEnum

from app.ngt.backoff import backoff
from app.ngt.errors import FaultCode
from app.ssh.host import PoolLimits

Stamp = tuple[int, ...]
"""Modification times of the files of a login, in nanoseconds; 0 for a missing file."""

_ANSWERS_PER_WIDENING = 16
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0


class FailureKind(StrEnum):
    """The step at which a connection failed."""

    LOCAL = "local"
    CONNECT = "connect"
    HOST_KEY = "host_key"
    LOGIN = "login"


@dataclass(frozen=True, slots=True)
class ConnectFailure:
    """A failed connection; `message` is one sentence that names the host."""

    kind: FailureKind
    code: FaultCode
    message: str


@dataclass(frozen=True, slots=True)
class HoldDown:
    """The host is left alone until `until_s`, or until a file of its login changes."""

    failure: ConnectFailure
    failures: int
    until_s: float
    stamp: Stamp


def back_off(
    failure: ConnectFailure, before: HoldDown | None, now_s: float, stamp: Stamp, limits: PoolLimits
) -> HoldDown:
    """The hold after a failure and the `before` hold."""
    failures = 1 + (before.failures if before else 0)
    return HoldDown(failure, failures, now_s + _hold_s(failure.kind, failures, limits), stamp)


def _hold_s(kind: FailureKind, failures: int, limits: PoolLimits) -> float:
    match kind:
        case FailureKind.LOCAL:
            return 0.0
        case FailureKind.CONNECT | FailureKind.HOST_KEY:
            return backoff(limits.hold_down_first_s, limits.hold_down_most_s, failures - 1)
        case FailureKind.LOGIN:
            return limits.refused_login_hold_s


def still_holds(hold: HoldDown | None, now_s: float, stamp: Stamp) -> bool:
    return hold is not None and now_s < hold.until_s and stamp == hold.stamp


def bound_after_refusal(others_in_use: int) -> int:
    """The number of sessions after the server refused one more than `others_in_use`."""
    return max(1, others_in_use)


def bound_after_answer(bound: int, sessions: int, answers_since_change: int) -> int:
    """Widens slowly: the refusal may have been temporary, because a server counts a closed session for a while."""
    return min(bound + 1, sessions) if answers_since_change >= _ANSWERS_PER_WIDENING else bound


def pause_after_refusal_s(refusals: int) -> float:
    """The wait after the `refusals`-th refusal in a row, 1 or more."""
    return backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S, refusals - 1)


@dataclass(slots=True)
class CommandState:
    """The state of a command at the end of the wait.

    `sent` is true from the moment at which the request to execute may have left. `exec_refused` means that the server
    refused that request. `exited` is true after the exit status or the ending signal. `output_complete` is true after
    the server closed its output, or was silent for long after the exit.
    """

    sent: bool = False
    exec_refused: bool = False
    too_large: bool = False
    timed_out: bool = False
    exited: bool = False
    output_complete: bool = False


class CommandVerdict(Enum):
    """The meaning of a `CommandState`."""

    ANSWERED = "answered"
    NOT_SENT = "not sent"
    EXEC_REFUSED = "exec refused"
    TOO_LARGE = "too large"
    TIME_LIMIT = "time limit"
    LOST = "lost"


def classify(state: CommandState) -> CommandVerdict:
    """The first condition that is true decides; a command that may have been executed is never NOT_SENT."""
    if not state.sent:
        return CommandVerdict.NOT_SENT
    if state.exec_refused:
        return CommandVerdict.EXEC_REFUSED
    if state.too_large:
        return CommandVerdict.TOO_LARGE
    if state.exited and state.output_complete:
        return CommandVerdict.ANSWERED
    return CommandVerdict.TIME_LIMIT if state.timed_out else CommandVerdict.LOST

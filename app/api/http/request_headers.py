"""The request headers that change what an operation does, read by hand so that each fault has its own code."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fastapi import Request

from app.api.http.problems import invalid
from app.ngt.errors import Fault, FaultCode

LONGEST_WAIT_S = 20
LONGEST_HEADER = 4096
"""Characters of a header of which the service reads any part, all its lines together."""

_MAX_INT32 = 2**31 - 1

# Visible ASCII without the quotation mark, which has its meaning around the key.
_KEY = re.compile(r"[!#-~]{1,255}")
_KEY_HEADERS = ("idempotency-key", "ntnx-request-id")
_WAIT = re.compile(r"wait\s*=\s*\"?(\d{1,9})\"?\s*(?:;.*)?", re.IGNORECASE)
_QUALITY = re.compile(r"\s*q\s*=\s*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\s*", re.IGNORECASE)
_EVENT_ID = re.compile(r"[0-9]{1,10}")


@dataclass(frozen=True, slots=True)
class WaitPreference:
    """The seconds that a request waits; 0: it does not. `applied`: the header that confirms a `Prefer`."""

    seconds: int
    applied: Mapping[str, str]


def read_idempotency_key(request: Request) -> str | None:
    """`Idempotency-Key`, quoted or bare, or its alias `NTNX-Request-Id`. Raises Fault `idempotency-key-invalid`."""
    given = {_unquoted(text) for name in _KEY_HEADERS for text in request.headers.getlist(name)}
    if not given:
        return None
    if len(given) > 1:
        raise Fault(FaultCode.IDEMPOTENCY_KEY_INVALID, "The request has two different idempotency keys.")
    key = given.pop()
    if not _KEY.fullmatch(key):
        raise Fault(FaultCode.IDEMPOTENCY_KEY_INVALID, "The idempotency key is not 1 to 255 visible ASCII characters.")
    return key


def check_headers(request: Request) -> None:
    """Raises Fault `validation-failed` for a header that is longer than any good one."""
    for name in ("prefer", "if-none-match"):
        if sum(map(len, request.headers.getlist(name))) > LONGEST_HEADER:
            raise invalid(f"The header is longer than {LONGEST_HEADER} characters.", "header", name)


def read_wait(request: Request, asked_s: int | None) -> WaitPreference:
    """`asked_s` of the query, else what `Prefer` says."""
    if asked_s is not None:
        return WaitPreference(asked_s, {})
    preferred_s = read_preferred_wait_s(request)
    return (
        WaitPreference(0, {})
        if preferred_s is None
        else WaitPreference(preferred_s, {"Preference-Applied": f"wait={preferred_s}"})
    )


def read_preferred_wait_s(request: Request) -> int | None:
    """Seconds of `Prefer: wait=N` (RFC 7240), at most `LONGEST_WAIT_S`; a preference that is not understood is none."""
    for preference in ",".join(request.headers.getlist("prefer")).split(","):
        if match := _WAIT.fullmatch(preference.strip()):
            return min(int(match[1]), LONGEST_WAIT_S)
    return None


def read_last_event_id(request: Request) -> int | None:
    """The last event that the client of a stream has seen. Raises Fault `validation-failed`."""
    given = request.headers.get("last-event-id", "").strip()
    if not given:
        return None
    if not _EVENT_ID.fullmatch(given):
        raise invalid("It is not the id of an event.", "header", "Last-Event-ID")
    # No event has a greater one.
    return min(int(given), _MAX_INT32)


def names_tag(if_none_match: Sequence[str], current: str) -> bool:
    """True when `If-None-Match` names the ETag, compared weakly (RFC 9110): compressing proxies make it weak."""
    tags = {tag.strip().removeprefix("W/") for tag in ",".join(if_none_match).split(",")}
    return current in tags or "*" in tags


def preferred_media_type(request: Request, *offered: str) -> str:
    """The media type that `Accept` prefers; of two with the same quality, the one that it names more exactly.

    The first one is the default.
    """
    given = ",".join(request.headers.getlist("accept")) or "*/*"
    ranges = [_media_range(text) for text in given.split(",")]
    return max(offered, key=lambda media_type: _quality(media_type, ranges))


def _media_range(text: str) -> tuple[str, float]:
    name, *parameters = text.split(";")
    qualities = [float(match[1]) for parameter in parameters if (match := _QUALITY.fullmatch(parameter))]
    return name.strip().lower(), qualities[0] if qualities else 1.0


def _quality(media_type: str, ranges: Sequence[tuple[str, float]]) -> tuple[float, int]:
    """The quality of the most exact range that the media type falls in, and how exact that is."""
    qualities = dict(ranges)
    forms = ("*/*", media_type.partition("/")[0] + "/*", media_type)
    exactness = max((number for number, form in enumerate(forms) if form in qualities), default=-1)
    quality = qualities[forms[exactness]] if exactness >= 0 else 0.0
    return (quality, exactness) if quality else (0.0, -1)


def _unquoted(text: str) -> str:
    text = text.strip()
    quoted = len(text) > 1 and text[0] == text[-1] == '"'
    return text[1:-1] if quoted else text

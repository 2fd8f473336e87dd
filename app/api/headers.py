"""The request headers that change what an operation does, read by hand so that each fault has its own code."""

import re

from fastapi import Request

from app.api.problems import invalid
from app.ngt.errors import Fault, FaultCode

LONGEST_WAIT_S = 20
LONGEST_HEADER = 4096
"""Characters of a header of which the service reads any part, all its lines together."""

# Visible ASCII without the quotation mark, which has its meaning around the key.
_KEY = re.compile(r"[!#-~]{1,255}")
_KEY_HEADERS = ("idempotency-key", "ntnx-request-id")
_WAIT = re.compile(r"wait\s*=\s*\"?(\d{1,9})\"?\s*(?:;.*)?", re.IGNORECASE)


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


def read_preferred_wait_s(request: Request) -> int | None:
    """Seconds of `Prefer: wait=N` (RFC 7240), at most `LONGEST_WAIT_S`; a preference that is not understood is none."""
    for preference in ",".join(request.headers.getlist("prefer")).split(","):
        if match := _WAIT.fullmatch(preference.strip()):
            return min(int(match[1]), LONGEST_WAIT_S)
    return None


def _unquoted(text: str) -> str:
    text = text.strip()
    quoted = len(text) > 1 and text[0] == text[-1] == '"'
    return text[1:-1] if quoted else text

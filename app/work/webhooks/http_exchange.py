"""One HTTP exchange with a foreign host: bounded in time and size, explained in sentences.

No sentence repeats the text of the other side, because it may echo our credentials.
"""

import asyncio
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import httpx

# Nothing that is read of an answer is longer, and none of it is worth waiting longer for.
_MAX_ANSWER_BYTES = 64 * 1024
_BODY_TIMEOUT_S = 3
_REPEATS = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
_MEANING = {
    400: "it refused what was sent",
    401: "it refused the credentials",
    403: "it does not allow these credentials to do that",
    404: "there is nothing at this address, or no such record",
    405: "it takes no such request at this address",
    408: "it did not wait for the whole request",
    410: "it wants no more events",
    413: "what was sent was too large for it",
    429: "it asks for fewer requests",
    503: "it cannot take it now",
}


@dataclass(frozen=True, slots=True)
class Exchanged:
    """The response: the status, the requested pause, and the first 64 kB of the body."""

    status: int
    is_json: bool
    retry_after_s: float | None
    body: bytes

    @property
    def is_success(self) -> bool:
        return HTTPStatus(200) <= self.status < HTTPStatus(300)

    def json(self) -> dict[str, Any]:
        """The object in the body; empty when there is none."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def meaning(self) -> str:
        """The meaning of the status, as a clause for a person."""
        if 300 <= self.status < 400:  # noqa: PLR2004 - All redirects.
            return f"it answered {self.status}, a redirect, and those are never followed"
        meaning = _MEANING.get(self.status, "it failed itself" if self.status >= HTTPStatus(500) else "it refused")
        return f"it answered {self.status}: {meaning}"


async def exchange(
    client: httpx.AsyncClient, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
) -> Exchanged:
    """Send one request, follow no redirect. Raises httpx.HTTPError while there is no answer."""
    async with client.stream(method, url, headers=dict(headers), content=body) as response:
        is_json = "json" in response.headers.get("Content-Type", "").lower()
        return Exchanged(response.status_code, is_json, _retry_after_s(response), await _first_bytes(response))


def explain(wrong: httpx.HTTPError) -> str:
    """The failure before an answer, as a clause without any sent value."""
    cause: BaseException | None = wrong
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate was refused: {cause.verify_message.rstrip('.')}"
        if isinstance(cause, ssl.SSLError):
            # A word of OpenSSL, such as WRONG_VERSION_NUMBER where nobody speaks TLS.
            reason = (cause.reason or "no reason given").replace("_", " ").lower()
            return f"TLS with it failed: {reason}"
        cause = cause.__cause__ or cause.__context__
    match wrong:
        case httpx.ConnectTimeout() | httpx.ConnectError():
            return "it could not be connected to"
        case httpx.TimeoutException():
            return "it did not answer in time"
        case _:
            return "the connection ended before there was an answer"


async def _first_bytes(response: httpx.Response) -> bytes:
    """The status counts, also when the rest of the answer never comes."""
    found = b""
    try:
        async with asyncio.timeout(_BODY_TIMEOUT_S):
            async for chunk in response.aiter_raw():
                found += chunk
                if len(found) > _MAX_ANSWER_BYTES:
                    break
    except (TimeoutError, httpx.HTTPError):
        pass
    return found[:_MAX_ANSWER_BYTES]


def _retry_after_s(response: httpx.Response) -> float | None:
    """Seconds, or a date; only where the status asks for another attempt."""
    text = response.headers.get("Retry-After", "").strip()
    if response.status_code not in _REPEATS or not text:
        return None
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())

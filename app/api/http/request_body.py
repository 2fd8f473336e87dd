"""The check of a request's body: its size, its media type and its JSON."""

import json
from collections import Counter
from typing import Any

from fastapi import Request
from starlette.types import Message

from app.api.http.problems import invalid
from app.ngt.errors import Fault, FaultCode
from app.ngt.masking import mask


async def with_checked_body(request: Request, max_bytes: int, *, takes_body: bool) -> Request:
    """The same request, its body read and found to be a JSON object, or to be empty."""
    body = await _read_body(request, max_bytes)
    if body:
        _check_media_type(request)
        sent = _read_json(body)
        if sent is None:
            # Clients generated for Go and Java send this for a missing body.
            body, sent = b"", {}
        if not isinstance(sent, dict):
            raise invalid("The body must be a JSON object.", "body")
        if sent and not takes_body:
            raise invalid("This operation takes no body.", "body")

    receive, unread = request.receive, True

    async def replay() -> Message:
        nonlocal unread
        if unread:
            unread = False
            return {"type": "http.request", "body": body, "more_body": False}
        # After the body, the only message is that the client went away.
        return await receive()

    return Request(request.scope, replay)


async def _read_body(request: Request, max_bytes: int) -> bytes:
    """At most `max_bytes`, counted as they come: `Content-Length` may be absent, and may lie."""
    too_large = Fault(FaultCode.BODY_TOO_LARGE, f"The body is larger than {max_bytes} bytes.")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise too_large
    return bytes(body)


def _check_media_type(request: Request) -> None:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json")):
        return
    said = f"The body's media type is {media_type!r}." if media_type else "The body has no `Content-Type`."
    raise Fault(FaultCode.UNSUPPORTED_MEDIA_TYPE, said)


def _read_json(body: bytes) -> object:
    try:
        return json.loads(body, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except json.JSONDecodeError as wrong:
        where = f"line {wrong.lineno}, column {wrong.colno}"
        raise Fault(FaultCode.MALFORMED_JSON, f"The body is not JSON: {wrong.msg} at {where}.") from None
    except UnicodeDecodeError:
        raise Fault(FaultCode.MALFORMED_JSON, "The body is not JSON: it is not in UTF-8.") from None
    except (ValueError, RecursionError) as wrong:
        raise Fault(FaultCode.MALFORMED_JSON, f"The body is not JSON that can be read: {wrong}.") from None


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of two members with one name only one would count, and nobody could say which was meant."""
    twice = next((name for name, times in Counter(name for name, _ in members).items() if times > 1), None)
    if twice is not None:
        raise ValueError(f"the member {mask(twice)!r} stands twice")
    return dict(members)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")

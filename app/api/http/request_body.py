"""The check of a request's body: its size, its media type and its JSON; and the base of all models of bodies."""

import codecs
import json
import re
from collections import Counter
from email.message import Message as Headers
from typing import Any

from fastapi import Request
from pydantic import BaseModel, ConfigDict, model_validator
from starlette.types import Message

from app.api.http.problems import invalid
from app.ngt.errors import Fault, FaultCode
from app.ngt.masking import mask

# Clients generated for Go and Java send `null` for a body that is left out; these are the names that they send.
_SENDS_NULL_FOR_NOTHING = ("OpenAPI-Generator/", "Java-http-client/")

# Windows PowerShell 5.1, for example, sends ISO-8859-1 unless the header says UTF-8.
_CHARSETS = frozenset(
    {"utf-8", "ascii", "iso8859-1", "iso8859-15", "cp1252", "utf-16", "utf-16-be", "utf-16-le", "utf-32"}
)
_JSON_TYPE = re.compile(r"application/(?:json|.*\+json)")
_JSON_IN_UTF_8 = "Content-Type: application/json; charset=utf-8"


class RequestBody(BaseModel):
    """A body in which a null or an empty text counts as omitted: low-code tools cannot leave a member out.

    Unknown members are refused: a typo in a ticket must not be ignored.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _omit_what_says_nothing(cls, sent: object) -> object:
        if not isinstance(sent, dict):
            return sent
        return {name: value for name, value in sent.items() if name not in cls.model_fields or value not in (None, "")}


async def with_checked_body(request: Request, max_bytes: int, *, takes_body: bool) -> Request:
    """The same request, its body read and found to be a JSON object, or to be empty."""
    body = await _read_body(request, max_bytes)
    if body:
        body = _in_utf8(body, _read_charset(request))
        sent = _read_json(body)
        if sent is None and request.headers.get("user-agent", "").startswith(_SENDS_NULL_FOR_NOTHING):
            body, sent = b"", {}
        if not isinstance(sent, dict):
            raise invalid("The body is not a JSON object. Send an object, or no body for the defaults.", "body")
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


def _read_charset(request: Request) -> str:
    """The codec that `Content-Type` names for the body; UTF-8 by default, as JSON has it."""
    given = request.headers.get("content-type", "")
    headers = Headers()
    headers["Content-Type"] = given
    media_type = given.partition(";")[0].strip().lower()
    if media_type != "application/json" and not (
        media_type.startswith("application/") and media_type.endswith("+json")
    ):
        said = f"The body's media type is {media_type!r}." if media_type else "The body has no `Content-Type`."
        raise Fault(FaultCode.UNSUPPORTED_MEDIA_TYPE, said)
    charset = headers.get_content_charset("utf-8")
    try:
        codec = codecs.lookup(charset).name
    except LookupError:
        codec = ""
    if codec not in _CHARSETS:
        raise Fault(FaultCode.UNSUPPORTED_MEDIA_TYPE, f"The body's charset is {charset!r}. Send UTF-8.")
    return codec


def _in_utf8(body: bytes, charset: str) -> bytes:
    """The same text in UTF-8. A body that begins as UTF-16 or UTF-32 does is in it, whatever the header says."""
    detected = json.detect_encoding(body)
    codec = charset if detected == "utf-8" else detected
    try:
        return body.decode(codec).encode()
    except UnicodeDecodeError:
        said = f"The body is not in {codec.upper()}, which is its charset. Send UTF-8, as in `{_JSON_IN_UTF_8}`."
        raise Fault(FaultCode.MALFORMED_JSON, said) from None


def _read_json(body: bytes) -> object:
    try:
        return json.loads(body, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except json.JSONDecodeError as wrong:
        where = f"line {wrong.lineno}, column {wrong.colno}"
        raise Fault(FaultCode.MALFORMED_JSON, f"The body is not JSON: {wrong.msg} at {where}.") from None
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

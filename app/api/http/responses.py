"""Responses as JSON, with unknown members omitted, their ETag, and the paths in them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar
from urllib.parse import urlsplit

from fastapi import Response
from pydantic import MISSING, BaseModel

from app.store.records.jobs import JobRecord
from app.store.records.scans import ScanRecord

_JSON = "application/json"

# Behind a reverse proxy the paths that callers see may have the prefix of `public_url`.
_prefix: ContextVar[str] = ContextVar("prefix", default="")

T = TypeVar("T")


def json_answer(body: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(body.model_dump_json(), status, headers, _JSON)


def etag(record: JobRecord | ScanRecord) -> str:
    return f'"{record.version}"'


def or_missing(value: T | None) -> T | MISSING:
    """An unknown value is omitted."""
    return MISSING if value is None else value


def prefix_of(public_url: str | None) -> str:
    return urlsplit(public_url or "").path.rstrip("/")


@contextmanager
def public_prefix(prefix: str) -> Iterator[None]:
    """All public paths that are written within have the prefix."""
    token = _prefix.set(prefix)
    try:
        yield
    finally:
        _prefix.reset(token)


def public_path(path: str) -> str:
    """The path in an answer: each link, `Location` and `Link` goes through here."""
    return _prefix.get() + path

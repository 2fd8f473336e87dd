"""Responses as JSON, with unknown members omitted, and their ETag."""

from collections.abc import Mapping
from typing import TypeVar

from fastapi import Response
from pydantic import MISSING, BaseModel

from app.store.records.jobs import JobRecord
from app.store.records.scans import ScanRecord

_JSON = "application/json"

T = TypeVar("T")


def json_answer(body: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(body.model_dump_json(), status, headers, _JSON)


def etag(record: JobRecord | ScanRecord) -> str:
    return f'"{record.version}"'


def or_missing(value: T | None) -> T | MISSING:
    """An unknown value is omitted."""
    return MISSING if value is None else value

"""The opaque cursor of a list: the place of the last row of a page, in base64url; and the link to the next page."""

import base64
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from urllib.parse import urlencode
from uuid import UUID

from fastapi import Request

from app.api.http.problems import invalid
from app.store.postgres.pages import PageCursor
from app.store.records.jobs import JobRecord
from app.store.records.scans import ScanRecord
from app.store.records.webhooks import DeliveryRecord

Row = TypeVar("Row", JobRecord, DeliveryRecord, ScanRecord)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def encode(place: str) -> str:
    """The text as a cursor has it."""
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def decode(cursor: str) -> str:
    """The text of an encoded cursor. Raises ValueError for anything else."""
    return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()


def to_microseconds(time: datetime) -> int:
    """Whole microseconds since 1970: as exact as the database's times."""
    return (time - _EPOCH) // _MICROSECOND


def from_microseconds(count: int) -> datetime:
    """Raises OverflowError where there is no such time."""
    return _EPOCH + count * _MICROSECOND


def write_cursor(last: JobRecord | DeliveryRecord | ScanRecord) -> str:
    return encode(f"{to_microseconds(last.created_at):x}.{last.id.hex}")


def read_cursor(cursor: str) -> PageCursor:
    """Raises InvalidRequest for anything that `write_cursor` did not write."""
    try:
        microseconds, _, row_id = decode(cursor).partition(".")
        return PageCursor(from_microseconds(int(microseconds, 16)), UUID(row_id))
    except (ValueError, OverflowError):
        raise invalid("This is not a cursor of a page.", "query", "cursor") from None


def cut_page(found: Sequence[Row], limit: int) -> tuple[Sequence[Row], str | None]:
    """The page, and the cursor of the next one. Ask the store for one row more: it says whether there is a next one."""
    page = found[:limit]
    return page, write_cursor(page[-1]) if len(found) > limit else None


def link_to_next(request: Request, next_cursor: str | None) -> dict[str, str]:
    """The header `Link` of a page; none for the last one."""
    if next_cursor is None:
        return {}
    query = urlencode({**request.query_params, "cursor": next_cursor})
    return {"Link": f'<{request.url.path}?{query}>; rel="next"'}

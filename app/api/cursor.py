"""The opaque cursor of a list of jobs: the place of the last job of a page, in base64url."""

import base64
from datetime import UTC, datetime, timedelta
from uuid import UUID

from app.api.problems import invalid
from app.store.job_search import JobCursor
from app.store.records import JobRecord

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def write_cursor(last: JobRecord) -> str:
    place = f"{(last.created_at - _EPOCH) // _MICROSECOND:x}.{last.id.hex}"
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def read_cursor(text: str) -> JobCursor:
    """Raises InvalidRequest for anything that `write_cursor` did not write."""
    try:
        place = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode("ascii")
        microseconds, _, job_id = place.partition(".")
        return JobCursor(_EPOCH + int(microseconds, 16) * _MICROSECOND, UUID(job_id))
    except (ValueError, OverflowError):
        raise invalid("This is no cursor of a page.", "query", "cursor") from None

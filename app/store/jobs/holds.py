"""The hold of a job that is due, by a pause or by its cluster."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.ngt.renewal.holds import JobHold, hold_of_pause

# A pause whose time is over holds nobody, although its row may stand a moment longer.
PAUSE_STANDS = "(pause.until IS NULL OR pause.until > clock_timestamp())"
_FIND_PAUSE = text(f"SELECT reason, until FROM pause WHERE {PAUSE_STANDS}")  # noqa: S608 - a constant


async def find_hold(connection: AsyncConnection) -> JobHold | None:
    """The hold of a new job while the whole service is paused."""
    row = (await connection.execute(_FIND_PAUSE)).one_or_none()
    return None if row is None else hold_of_pause(row.reason, row.until)

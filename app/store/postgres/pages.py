"""Pages of rows, newest first."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, Table, select, tuple_


@dataclass(frozen=True, slots=True)
class PageCursor:
    """The last row of a page; the next page begins below it."""

    created_at: datetime
    id: UUID


def newest_first(table: Table, limit: int, after: PageCursor | None) -> Select[Any]:
    """At most `limit` rows of the table from below `after`."""
    place = table.c.created_at, table.c.id
    page = select(table).order_by(*(column.desc() for column in place)).limit(limit)
    return page if after is None else page.where(tuple_(*place) < tuple_(after.created_at, after.id))

"""Pages of rows, newest first."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class PageCursor:
    """The last row of a page, of jobs or of deliveries; the next page begins below it."""

    created_at: datetime
    id: UUID

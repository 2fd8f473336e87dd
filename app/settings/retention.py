"""`[retention]`: how many days finished records are kept. Open jobs and pending deliveries are always kept."""

from typing import Annotated

from pydantic import Field

from app.settings.table import Table

_Days = Annotated[int, Field(ge=1, le=36500)]


class Retention(Table):
    """A job is kept at least as long as its `Idempotency-Key`."""

    jobs_days: _Days = 90
    idempotency_days: _Days = 7
    deliveries_days: _Days = 14
    scans_days: _Days = 14

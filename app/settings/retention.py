"""How long what is finished is kept, in days. Open jobs, and deliveries still to be made, stay whatever their age."""

from typing import Annotated

from pydantic import Field

from app.settings.limits import Table

Days = Annotated[int, Field(ge=1, le=36500)]


class Retention(Table):
    """`[retention]`. A job stays at least as long as a request can be repeated that led to it."""

    jobs_days: Days = 90
    idempotency_days: Days = 7
    deliveries_days: Days = 14
    scans_days: Days = 14

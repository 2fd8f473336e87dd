"""What callers may ask of the service, all together and each of them."""

from typing import Annotated

from pydantic import Field

from app.settings.limits import Table


class Callers(Table):
    """`[callers]`."""

    # More renewals than this that have not begun, and new ones are refused until some have.
    max_queued_jobs: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000

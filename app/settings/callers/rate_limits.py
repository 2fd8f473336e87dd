"""`[callers]`: limits on the requests of all callers, and of each one."""

from typing import Annotated

from pydantic import Field, IPvAnyNetwork

from app.settings.table import Table
from app.settings.value_types import COMMA_SEPARATED


class Callers(Table):
    """Each process counts for itself, except for `max_queued_jobs`. 0 switches a limit per minute off."""

    # New renewals are refused while so many are queued.
    max_queued_jobs: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    # Waiting requests: long polls and event streams alike.
    waiters_per_caller: Annotated[int, Field(ge=1, le=100_000)] = 100
    waiters: Annotated[int, Field(ge=1, le=100_000)] = 1000

    # 100 requests a second are more than a wave of renewals needs.
    requests_per_minute: Annotated[int, Field(ge=0, le=1_000_000)] = 6000
    # Of one address, and for one API key.
    failed_logins_per_minute: Annotated[int, Field(ge=0, le=1_000_000)] = 10
    # Their `X-Forwarded-For` and `X-Forwarded-Proto` are trusted.
    trusted_proxies: Annotated[tuple[IPvAnyNetwork, ...], COMMA_SEPARATED] = ()

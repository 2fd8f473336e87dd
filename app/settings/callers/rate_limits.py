"""What callers may ask of the service, all together and each of them."""

from typing import Annotated

from pydantic import BeforeValidator, Field, IPvAnyNetwork

from app.settings.limits import Table


def at_commas(given: object) -> object:
    """An environment variable holds a list as `one,two`."""
    return tuple(given.split(",")) if isinstance(given, str) else given


class Callers(Table):
    """`[callers]`."""

    # More renewals than this that have not begun, and new ones are refused until some have.
    max_queued_jobs: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    # Requests that wait at a time, long polls and event streams alike, in each process of the service.
    waiters_per_caller: Annotated[int, Field(ge=1, le=100_000)] = 100
    waiters: Annotated[int, Field(ge=1, le=100_000)] = 1000

    # A script that runs wild must not take the service from the others; 100 requests a second are more than a wave of
    # renewals needs. 0 switches a limit off. Each process counts by itself.
    requests_per_minute: Annotated[int, Field(ge=0, le=1_000_000)] = 6000
    # Of one address, and for one API key.
    failed_logins_per_minute: Annotated[int, Field(ge=0, le=1_000_000)] = 10
    # What these say in `X-Forwarded-For` and `X-Forwarded-Proto` is believed.
    trusted_proxies: Annotated[tuple[IPvAnyNetwork, ...], BeforeValidator(at_commas)] = ()

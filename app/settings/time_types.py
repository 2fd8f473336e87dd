"""How times are written in each table of the configuration: a time zone by its name, a cron line of five fields."""

from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator

from app.ngt.windows import fault_of_cron


def a_time_zone(given: str) -> str:
    """The name of a time zone, as it was given; ValueError when there is none of that name."""
    try:
        ZoneInfo(given)
    except (LookupError, ValueError, OSError):
        raise ValueError('there is no such time zone; use a name such as "UTC" or "Europe/Berlin"') from None
    return given


def a_cron_line(given: str) -> str:
    """The five fields with a blank between them; ValueError with what is wrong about them."""
    if (fault := fault_of_cron(given)) is not None:
        raise ValueError(fault)
    return " ".join(given.split())


TimeZoneName = Annotated[str, AfterValidator(a_time_zone)]
CronLine = Annotated[str, AfterValidator(a_cron_line)]

"""When people are told that certificates end: single events for the first of them, and one digest a day per cluster."""

import re
from datetime import time
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, field_validator

from app.ngt.vocabulary import CERTIFICATE_LIFETIME_DAYS
from app.settings.limits import Table
from app.settings.time_types import TimeZoneName

_OFF = "off"
_TIME_OF_DAY = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]")
_MOST_NUMBERS = 20


def _days_that_make_sense(given: tuple[int, ...]) -> tuple[int, ...]:
    twice = sorted({days for days in given if given.count(days) > 1})
    if twice:
        raise ValueError(f"{twice[0]} stands twice")
    if len(given) > _MOST_NUMBERS:
        raise ValueError(f"at most {_MOST_NUMBERS} numbers of days can be given")
    for days in given:
        if days < 1:
            raise ValueError(f"{days} is no day before the end; that a certificate has expired is told anyway")
        if days >= CERTIFICATE_LIFETIME_DAYS:
            raise ValueError(
                f"a certificate lives {CERTIFICATE_LIFETIME_DAYS} days: {days} days before its end it is not there yet"
            )
    return given


def _a_time_of_day_or_off(given: str) -> str:
    if given != _OFF and not _TIME_OF_DAY.fullmatch(given):
        raise ValueError('it must be a time of day such as "06:00", or "off"')
    return given


class Warnings(Table):
    """`[warnings]`. The day of `most_events_per_day` and the time of `digest_at` are those of `time_zone`."""

    days_before: Annotated[tuple[int, ...], AfterValidator(_days_that_make_sense)] = (60, 30, 14, 7, 1)
    most_events_per_day: Annotated[int, Field(ge=0, le=10_000)] = 20
    digest_at: Annotated[str, AfterValidator(_a_time_of_day_or_off)] = "06:00"
    time_zone: TimeZoneName = "UTC"

    @field_validator("days_before", mode="before")
    @classmethod
    def _from_environment(cls, given: object) -> object:
        """An environment variable holds the days as `60,30,14`."""
        return tuple(given.split(",")) if isinstance(given, str) else given

    @field_validator("digest_at", mode="before")
    @classmethod
    def _in_quotes(cls, given: object) -> object:
        """TOML has times of its own, which a person may write; what is wrong about them is only the form."""
        return given.isoformat("minutes") if isinstance(given, time) and not given.second else given

    @property
    def digest_time(self) -> time | None:
        """When the digest is told, by the clocks of `zone`; None: never."""
        return None if self.digest_at == _OFF else time.fromisoformat(self.digest_at)

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)

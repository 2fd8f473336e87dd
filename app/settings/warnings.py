"""`[warnings]`: events about certificates that expire soon, and one digest a day for each cluster."""

import re
from datetime import time
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, field_validator

from app.ngt.vocabulary import CERTIFICATE_LIFETIME_DAYS
from app.settings.table import Table
from app.settings.value_types import COMMA_SEPARATED, TimeZoneName

_OFF = "off"
_TIME_OF_DAY = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]")
_MOST_THRESHOLDS = 20


def _validate_days_before(thresholds: tuple[int, ...]) -> tuple[int, ...]:
    twice = sorted({days for days in thresholds if thresholds.count(days) > 1})
    if twice:
        raise ValueError(f"{twice[0]} is listed twice")
    if len(thresholds) > _MOST_THRESHOLDS:
        raise ValueError(f"at most {_MOST_THRESHOLDS} numbers of days can be given")
    for days in thresholds:
        if days < 1:
            raise ValueError(f"{days} is less than 1; expiry itself is always reported")
        if days >= CERTIFICATE_LIFETIME_DAYS:
            raise ValueError(f"{days} is not less than {CERTIFICATE_LIFETIME_DAYS}, the lifetime of a certificate")
    return thresholds


def _validate_digest_at(given: str) -> str:
    if given != _OFF and not _TIME_OF_DAY.fullmatch(given):
        raise ValueError('it must be a time of day such as "06:00", or "off"')
    return given


class Warnings(Table):
    """`time_zone` applies to `digest_at` and to the day of `most_events_per_day`."""

    days_before: Annotated[tuple[int, ...], COMMA_SEPARATED, AfterValidator(_validate_days_before)] = (60, 30, 14, 7, 1)
    most_events_per_day: Annotated[int, Field(ge=0, le=10_000)] = 20
    digest_at: Annotated[str, AfterValidator(_validate_digest_at)] = "06:00"
    time_zone: TimeZoneName = "UTC"

    @field_validator("digest_at", mode="before")
    @classmethod
    def _accept_toml_time(cls, given: object) -> object:
        return given.isoformat("minutes") if isinstance(given, time) and not given.second else given

    @property
    def digest_time(self) -> time | None:
        """The time of the digest in `zone`; None: never."""
        return None if self.digest_at == _OFF else time.fromisoformat(self.digest_at)

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)

"""`[scan]`: when the clusters are scanned by themselves, and how much of a scan goes on at a time."""

import re
from datetime import datetime
from typing import Annotated
from zoneinfo import ZoneInfo

from croniter import croniter
from pydantic import Field, field_validator

from app.settings.limits import Seconds, Table

OFF = "off"
_FIVE_FIELDS = re.compile(r"[\w*,/#-]+(?:\s+[\w*,/#-]+){4}")
# croniter has random and hashed times too, which would be others after each start.
_RANDOM = re.compile(r"(?:^|\s)[rh](?:$|[\s(/])", re.IGNORECASE)
# Any day will do: what never was, within the fifty years that croniter looks back, never will be.
_SOME_DAY = datetime(2026, 1, 1)  # noqa: DTZ001 - no zone matters to what is written in fields of a calendar


class Scan(Table):
    """`[scan]`. `schedule` is a cron expression of five fields in `time_zone`, or `off`."""

    schedule: str = "0 2 * * *"
    time_zone: str = "UTC"
    # Each cluster has its own moment within this time after the schedule's, always the same one.
    jitter_s: Annotated[float, Field(ge=0, le=86400, allow_inf_nan=False)] = 3600
    # In each process that works: whole clusters at a time, and guests at a time of each of them.
    clusters_at_once: Annotated[int, Field(ge=1, le=100)] = 4
    guests_at_once: Annotated[int, Field(ge=1, le=500)] = 16
    # For all that is asked of one guest, its login included.
    guest_timeout_s: Seconds = 60

    @field_validator("schedule")
    @classmethod
    def _comes_round(cls, schedule: str) -> str:
        if schedule == OFF:
            return schedule
        if not _FIVE_FIELDS.fullmatch(schedule.strip()) or _RANDOM.search(schedule):
            raise ValueError(
                "a cron expression has five fields (minute, hour, day of month, month, day of week), "
                'such as "0 2 * * *"; or write "off"'
            )
        try:
            croniter(schedule, _SOME_DAY).get_prev(datetime)
        except ValueError as wrong:
            raise ValueError(f"it is no cron expression that ever comes round: {wrong}") from None
        return schedule

    @field_validator("time_zone")
    @classmethod
    def _is_known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (LookupError, ValueError, OSError):
            raise ValueError('there is no such time zone; write one such as "UTC" or "Europe/Berlin"') from None
        return name

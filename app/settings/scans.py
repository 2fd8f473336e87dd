"""`[scan]`: when the clusters are scanned by themselves, and how much of a scan goes on at a time."""

from datetime import datetime
from typing import Annotated

from croniter import croniter
from pydantic import Field, field_validator

from app.settings.limits import Seconds, Table
from app.settings.time_types import TimeZoneName, a_cron_line

OFF = "off"
# Any day will do: what never was, within the fifty years that croniter looks back, never will be.
_SOME_DAY = datetime(2026, 1, 1)  # noqa: DTZ001 - no zone matters to what is written in fields of a calendar


class ScanSettings(Table):
    """`[scan]`. `schedule` is a cron line of five fields in `time_zone`, or `off`."""

    schedule: str = "0 2 * * *"
    time_zone: TimeZoneName = "UTC"
    # Each cluster has its own moment within this time after the schedule's, always the same one.
    jitter_s: Annotated[float, Field(ge=0, le=86400, allow_inf_nan=False)] = 3600
    # In each process that works: whole clusters at a time, and guests at a time of each of them.
    clusters_at_once: Annotated[int, Field(ge=1, le=100)] = 4
    guests_at_once: Annotated[int, Field(ge=1, le=500)] = 16
    # For all that is asked of one guest, its login included.
    guest_timeout_s: Seconds = 60

    @field_validator("schedule")
    @classmethod
    def _comes_round(cls, given: str) -> str:
        if given == OFF:
            return given
        try:
            schedule = a_cron_line(given)
        except ValueError as wrong:
            raise ValueError(f'{wrong}; write one such as "0 2 * * *", or "{OFF}"') from None
        try:
            croniter(schedule, _SOME_DAY).get_prev(datetime)
        except ValueError:
            raise ValueError("it is no cron line that ever comes round: there is no such day") from None
        return schedule

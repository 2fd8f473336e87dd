"""`[scan]`: the schedule of scans, and how much of a scan runs in parallel."""

from typing import Annotated

from pydantic import Field, field_validator

from app.settings.table import Table
from app.settings.value_types import Seconds, TimeZoneName, validate_cron

OFF = "off"


class ScanSettings(Table):
    """`schedule` is a cron line of five fields in `time_zone`, or `off`."""

    schedule: str = "0 2 * * *"
    time_zone: TimeZoneName = "UTC"
    # Each cluster starts at its own, constant offset after the scheduled time, within this many seconds.
    jitter_s: Annotated[float, Field(ge=0, le=86400, allow_inf_nan=False)] = 3600
    # Clusters that one worker scans in parallel, and guests of each cluster.
    clusters_at_once: Annotated[int, Field(ge=1, le=100)] = 4
    guests_at_once: Annotated[int, Field(ge=1, le=500)] = 16
    # For the whole reading of one guest, its login included.
    guest_timeout_s: Seconds = 60

    @field_validator("schedule")
    @classmethod
    def _validate_schedule(cls, schedule: str) -> str:
        try:
            return schedule if schedule == OFF else validate_cron(schedule)
        except ValueError as error:
            raise ValueError(f'{error}; write one such as "0 2 * * *", or "{OFF}"') from None

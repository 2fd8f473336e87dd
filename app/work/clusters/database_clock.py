"""The database's clock, read once per claim and carried on by this machine's monotonic one.

A replica that was frozen sees the time that really passed, and a wrong wall clock here does not matter.
"""

import time
from datetime import datetime, timedelta


class DatabaseClock:
    """The database's time, from a reading of it that was taken just now."""

    def __init__(self, reading: datetime) -> None:
        self._reading = reading
        self._read_s = time.monotonic()

    def now(self) -> datetime:
        return self.at(time.monotonic())

    def at(self, monotonic_s: float) -> datetime:
        """The database's time at that reading of the monotonic clock."""
        return self._reading + timedelta(seconds=monotonic_s - self._read_s)

"""Steps of the database's clock: found with a clock that nothing sets, and made good in the times that work waits for.

Each step is stored once, with a number. A job remembers the last step before its progress was stored, so that the next
claim can shift the times in it. The time in which no process ran counts as a step too: no wait ends in it, and a clock
that was set in it does no harm.
"""

import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.store.postgres.database import Database

log = structlog.get_logger(__name__)

# Smaller ones do not matter to any wait; a clock that is slewed moves far less between two readings.
_SMALLEST_STEP_S = 1.0
# Unlike the monotonic clock it runs on while the machine is suspended, as the database's clock does.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

# A process beats several times in each lease, so longer than this there was none.
_NOBODY_RAN_S = 60.0

_BEAT = text(
    "INSERT INTO service_beat (single, at) VALUES (true, clock_timestamp()) ON CONFLICT (single)"
    " DO UPDATE SET at = excluded.at RETURNING (SELECT earlier.at FROM service_beat AS earlier)"
)
_READ = text(
    "SELECT clock_timestamp(), number, seconds"
    " FROM (SELECT coalesce(max(number), 0) AS number, coalesce(sum(seconds), 0) AS seconds FROM clock_step) AS known"
)
_STORE = text(
    "INSERT INTO clock_step (number, seconds) VALUES (:number, :seconds) ON CONFLICT DO NOTHING RETURNING number"
)
_SHIFTS = tuple(
    text(f"UPDATE {table} SET {', '.join(f'{name} = {name} + :step' for name in columns)} WHERE {which}")  # noqa: S608 - the constants below
    for table, columns, which in (
        ("job", ("due_at", "deadline_at"), "NOT done"),
        ("scan", ("due_at", "lease_until"), "NOT done"),
        ("delivery", ("due_at",), "due_at IS NOT NULL"),
        ("cluster", ("watch_due_at",), "watch_due_at IS NOT NULL"),
    )
)


def steady_s() -> float:
    """Seconds of this machine's clock that nothing sets."""
    return time.clock_gettime(_CLOCK)


@dataclass(frozen=True, slots=True)
class ClockReading:
    """The database's clock at some moment between two of `steady_s`, the number of known steps, and their sum."""

    at: datetime
    number: int
    known_s: float
    asked_s: float
    answered_s: float

    def step_since(self, earlier: "ClockReading") -> float:
        """The seconds that the clock was set forward since then and that nobody stored; negative for backward."""
        passed_s = (self.at - earlier.at).total_seconds() - (self.known_s - earlier.known_s)
        shortest_s, longest_s = self.asked_s - earlier.answered_s, self.answered_s - earlier.asked_s
        step_s = passed_s - min(max(passed_s, shortest_s), longest_s)
        return step_s if abs(step_s) >= _SMALLEST_STEP_S else 0.0


class ClockSteps:
    """Compares all readings of one process, the first one with the last beat of any process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._last: ClockReading | None = None

    async def beat(self) -> None:
        """Tells that a process runs, and checks the clock."""
        async with self._database.transaction() as connection:
            earlier = await connection.scalar(_BEAT)
            reading = await self.read(connection)
        if self._last is None and earlier is not None:
            idle_s = (reading.at - earlier).total_seconds()
            if not -_SMALLEST_STEP_S < idle_s < _NOBODY_RAN_S:
                reading = await self._make_good(reading, idle_s)
        await self.check(reading)

    async def read(self, connection: AsyncConnection) -> ClockReading:
        asked_s = steady_s()
        at, number, known_s = (await connection.execute(_READ)).one()
        return ClockReading(at, number, known_s, asked_s, steady_s())

    def step(self, reading: ClockReading) -> float:
        """The step since the last reading that was checked, in seconds."""
        return reading.step_since(self._last) if self._last is not None else 0.0

    async def check(self, reading: ClockReading) -> None:
        """Stores a step since the last check and makes it good; not within a transaction that has changed a job."""
        step_s = self.step(reading)
        self._last = await self._make_good(reading, step_s) if step_s else reading

    async def _make_good(self, reading: ClockReading, step_s: float) -> ClockReading:
        """The reading, with the step known. Another process may have stored it: each step has one number."""
        async with self._database.transaction() as connection:
            number = reading.number + 1
            if await connection.scalar(_STORE, {"number": number, "seconds": step_s}) is not None:
                for shift in _SHIFTS:
                    await connection.execute(shift, {"step": timedelta(seconds=step_s)})
                said = "all waits were shifted: the database's clock was set, or no worker ran"
                log.warning(said, seconds=round(step_s, 1))
            _, number, known_s = (await connection.execute(_READ)).one()
        return replace(reading, number=number, known_s=known_s)

"""When something may be begun: windows as cron has them, each open for some minutes after each of its times.

The times are those of the wall clock of the window's zone, and each counts once. One that the change to summer time
leaves out opens as much later as the clocks are put forward; of one that comes twice in autumn the first opens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache

from croniter import croniter
from croniter.croniter import CroniterBadDateError, CroniterError

_DAY = timedelta(days=1)
_LONGEST = timedelta(days=7)
_MINUTES = 60
_FIELDS = 5


@dataclass(frozen=True, slots=True)
class Window:
    """Open for `duration_minutes`, which really pass, after each time of `cron` in `zone`."""

    cron: str
    duration_minutes: int
    time_zone: str
    zone: tzinfo

    def __str__(self) -> str:
        return f"window {self.cron} for {self.duration_minutes} min {self.time_zone}"


@dataclass(frozen=True, slots=True)
class Opening:
    """From one time to another, in UTC; `windows` are those that are open then, none where there are no windows.

    `day` is the day on which it opens, by the clock of the first window: an opening over midnight belongs to one day.
    """

    opens_at: datetime
    closes_at: datetime
    day: date
    windows: tuple[Window, ...]

    def holds(self, time: datetime) -> bool:
        return self.opens_at <= time < self.closes_at


def fault_of_cron(cron: str) -> str | None:
    """The fault of a cron expression of five fields; None when it is valid."""
    fields = cron.split()
    if len(fields) != _FIELDS:
        return "it must have five fields: minute, hour, day of the month, month, day of the week"
    # croniter's own words for times that are drawn by lot; no name of a month or a day begins so.
    if any(field.lower().startswith(("r", "h")) for field in fields):
        return "it is not a valid cron expression: fields that start with R or H are not supported"
    try:
        croniter.expand(cron)
    except CroniterError as wrong:
        return f"it is not a valid cron expression: {wrong}"
    return None


def day_of(windows: Sequence[Window], time: datetime) -> date:
    """The day by the clock of the first window; without windows that of UTC."""
    return time.astimezone(windows[0].zone if windows else UTC).date()


@lru_cache(maxsize=64)
def openings(windows: tuple[Window, ...], begin: date, days: int) -> tuple[Opening, ...]:
    """The openings within so many days from the midnight (UTC) of `begin`, in order; without windows always open.

    Overlapping openings are one; an opening of more than a day is cut at each midnight of the first window's clock, so
    that each piece belongs to its day.
    """
    first = datetime.combine(begin, time.min, UTC)
    last = first + timedelta(days=days)
    zone = windows[0].zone if windows else UTC
    whole = _merged(windows, first - _LONGEST - _DAY, last) if windows else [(first, last, ())]
    return tuple(
        Opening(opens_at, closes_at, opens_at.astimezone(zone).date(), open_then)
        for opens, closes, open_then in whole
        for opens_at, closes_at in _by_day(opens, closes, zone)
        if closes_at > first and opens_at < last
    )


_Interval = tuple[datetime, datetime, tuple[Window, ...]]


def _merged(windows: Sequence[Window], begin: datetime, end: datetime) -> list[_Interval]:
    each = sorted(
        (opens, closes, number)
        for number, window in enumerate(windows)
        for opens, closes in _times_of(window, begin, end)
    )
    merged: list[_Interval] = []
    for opens, closes, number in each:
        window = windows[number]
        if merged and opens <= merged[-1][1]:
            before, until, of = merged[-1]
            merged[-1] = (before, max(until, closes), of if window in of else (*of, window))
        else:
            merged.append((opens, closes, (window,)))
    return merged


def _by_day(opens: datetime, closes: datetime, zone: tzinfo) -> Iterator[tuple[datetime, datetime]]:
    while closes - opens > _DAY:
        midnight = datetime.combine(opens.astimezone(zone).date() + _DAY, time.min, zone).astimezone(UTC)
        yield opens, midnight
        opens = midnight
    if closes > opens:
        yield opens, closes


def _times_of(window: Window, begin: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    duration = timedelta(minutes=window.duration_minutes)
    blocks = list(_blocks(window))
    for day in _days_of(window.cron, begin.astimezone(window.zone), end.astimezone(window.zone)):
        for first, last in blocks:
            yield _in_utc(day + first, window.zone), _in_utc(day + last, window.zone) + duration


def _blocks(window: Window) -> Iterator[tuple[timedelta, timedelta]]:
    """The times of one day, (first, last) of each row of times that the window is open without a pause."""
    (minutes, hours, *_), _ = croniter.expand(window.cron)
    times = sorted(hour * _MINUTES + minute for hour in _all(hours, 24) for minute in _all(minutes, _MINUTES))
    first = times[0]
    for earlier, later in zip(times, [*times[1:], None], strict=True):
        if later is None or later - earlier > window.duration_minutes:
            yield timedelta(minutes=first), timedelta(minutes=earlier)
            first = earlier if later is None else later


def _all(field: Sequence[int | str], count: int) -> list[int]:
    return list(range(count)) if "*" in field else [int(value) for value in field]


def _days_of(cron: str, begin: datetime, end: datetime) -> Iterator[datetime]:
    """The midnights, without a zone, of the days that the line names."""
    before = begin.replace(tzinfo=None, hour=0, minute=0, second=0, microsecond=0) - timedelta(minutes=1)
    days = croniter(" ".join(["0", "0", *cron.split()[2:]]), before, ret_type=datetime)
    while True:
        try:
            day: datetime = days.get_next()
        except CroniterBadDateError:
            return
        if day > end.replace(tzinfo=None):
            return
        yield day


def _in_utc(local: datetime, zone: tzinfo) -> datetime:
    return local.replace(tzinfo=zone, fold=0).astimezone(UTC)

"""The plan of automatic renewal: rules and facts go in; the certificates, with their times, come out.

Each plan starts from the present, so a backlog is spread over the remaining time. The earliest expiry comes first.
"""

import fnmatch
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import accumulate, groupby

from app.ngt.auto_renew.leveling import fastest, level
from app.ngt.backoff import backoff
from app.ngt.vocabulary import CERTIFICATE_LIFETIME_DAYS, CertificateSource, PowerState, VmUuid
from app.ngt.windows import Opening, Window, day_of, openings

AHEAD_DAYS = CERTIFICATE_LIFETIME_DAYS
"""A certificate that is due later than that is not planned yet."""

# Beyond the last end that is planned for there is room for what comes too late.
_MARGIN_DAYS = 100
# After a try that renewed nothing: a day, then twice as long each time.
_LONGEST_WAIT_DAYS = 8
# An opening that is cut at midnight has begun at most a day before it.
_LOOK_BACK_DAYS = 3


@dataclass(frozen=True, slots=True)
class AutoRules:
    """The configured rules. Without windows it is always open; without `include` every name fits."""

    before_days: int
    at_most_per_day: int
    at_most_at_once: int
    windows: tuple[Window, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    renewed_recently_s: float = 86400


@dataclass(frozen=True, slots=True)
class Candidate:
    """The facts about a VM. An unknown fact is None; only an unknown date leaves the VM out.

    `tries` counts the automatic jobs since its last renewal that renewed nothing; the last one ended at `tried_at`.
    """

    vm_uuid: VmUuid
    name: str | None = None
    not_after: datetime | None = None
    source: CertificateSource | None = None
    power: PowerState | None = None
    has_entity: bool | None = None
    ngt_enabled: bool | None = None
    vanished: bool = False
    moved: bool = False
    job_open: bool = False
    awaiting_pickup: bool = False
    renewed_at: datetime | None = None
    tries: int = 0
    tried_at: datetime | None = None


class SkipReason(StrEnum):
    """The reason for which automatic renewal leaves a VM out; the first one counts."""

    VANISHED = "vanished"
    EXCLUDED = "excluded"
    DATE_UNKNOWN = "date_unknown"
    JOB_OPEN = "job_open"
    AWAITING_PICKUP = "awaiting_pickup"
    NO_ENTITY = "no_entity"
    POWERED_OFF = "powered_off"
    RENEWED_LATELY = "renewed_lately"
    TRIED_LATELY = "tried_lately"
    FAR_AHEAD = "far_ahead"


@dataclass(frozen=True, slots=True)
class Skipped:
    """A VM that is not in the plan, and why, in a sentence."""

    vm: Candidate
    because: SkipReason
    sentence: str


@dataclass(frozen=True, slots=True)
class Planned:
    """When a VM's turn is; `opening` None: not in the years that are planned.

    `in_time`: its turn is over before its certificate ends.
    """

    vm: Candidate
    not_after: datetime
    opening: Opening | None
    in_time: bool


@dataclass(frozen=True, slots=True)
class AutoPlan:
    """The plan if nothing changes. `planned` is in the order of the renewals.

    `needed_per_day`: so many a day would renew all in time that can be; None where `at_most_per_day` is enough.
    `started_today` counts those of the day of the present or next opening.
    """

    now: datetime
    planned: tuple[Planned, ...]
    left_out: tuple[Skipped, ...]
    present: Opening | None
    upcoming: tuple[Opening, ...]
    started_today: int
    needed_per_day: int | None

    @property
    def due(self) -> tuple[Planned, ...]:
        """Those whose turn it is now: the share of the present opening that was not started yet."""
        return tuple(one for one in self.planned if self.present is not None and one.opening == self.present)

    @property
    def too_late(self) -> tuple[Planned, ...]:
        return tuple(one for one in self.planned if not one.in_time)


@dataclass(frozen=True, slots=True)
class _Day:
    """A day that has an opening that is not over: all its openings, and from when to when they can be used."""

    all: tuple[Opening, ...]
    begins_at: datetime
    ends_at: datetime

    def turns(self, count: int) -> Iterator[Opening]:
        """The opening of each of so many renewals: the same number in each opening, the first ones one more.

        Renewals that an ended opening did not start move to the next one.
        """
        for number, opening in enumerate(self.all):
            share = count // len(self.all) + (number < count % len(self.all))
            usable = opening if opening.closes_at > self.begins_at else self._first_usable()
            yield from [usable] * share

    def _first_usable(self) -> Opening:
        return next(opening for opening in self.all if opening.closes_at > self.begins_at)


def plan_renewals(
    rules: AutoRules, now: datetime, candidates: Collection[Candidate], started_at: Sequence[datetime] = ()
) -> AutoPlan:
    """The plan from now on; `started_at` are the beginnings of the automatic jobs of the last days."""
    left_out: list[Skipped] = []
    fitting: list[Candidate] = []
    for vm in candidates:
        reason = _why_left_out(rules, now, vm)
        fitting.append(vm) if reason is None else left_out.append(reason)
    fitting.sort(key=lambda vm: (_end_of(vm), vm.vm_uuid))
    ahead_days = _LOOK_BACK_DAYS + AHEAD_DAYS + rules.before_days + _MARGIN_DAYS
    known = openings(rules.windows, (now - timedelta(days=_LOOK_BACK_DAYS)).date(), ahead_days)
    days = list(_days(known, now))
    started_today = _started_on(days[0], rules, known, started_at) if days else 0
    planned = tuple(_planned(rules, days, fitting, started_today))
    coming = tuple(opening for opening in known if opening.closes_at > now)
    return AutoPlan(
        now=now,
        planned=planned,
        left_out=tuple(sorted(left_out, key=_order_of_left_out)),
        present=coming[0] if coming and coming[0].holds(now) else None,
        upcoming=coming,
        started_today=started_today,
        needed_per_day=_needed_per_day(rules, days, fitting, started_today, sum(not one.in_time for one in planned)),
    )


def present_opening(rules: AutoRules, now: datetime) -> Opening | None:
    known = openings(rules.windows, (now - timedelta(days=_LOOK_BACK_DAYS)).date(), 2 * _LOOK_BACK_DAYS)
    return next((opening for opening in known if opening.holds(now)), None)


def due_from(rules: AutoRules, vm: Candidate) -> datetime:
    """From then on it may be renewed. A date that is only computed counts like any other."""
    return _end_of(vm) - timedelta(days=rules.before_days)


def name_fits(rules: AutoRules, name: str | None) -> bool:
    """Upper and lower case differ, as they do in the names of VMs; `exclude` wins."""
    if name is None:
        return not rules.include and not rules.exclude
    fits = not rules.include or any(fnmatch.fnmatchcase(name, pattern) for pattern in rules.include)
    return fits and not any(fnmatch.fnmatchcase(name, pattern) for pattern in rules.exclude)


def tried_again_at(vm: Candidate) -> datetime | None:
    """When a VM whose last automatic jobs renewed nothing may be tried again; None: it was not tried."""
    if vm.tries == 0 or vm.tried_at is None:
        return None
    return vm.tried_at + timedelta(days=backoff(1, _LONGEST_WAIT_DAYS, vm.tries - 1))


def _end_of(vm: Candidate) -> datetime:
    assert vm.not_after is not None
    return vm.not_after


def _why_left_out(rules: AutoRules, now: datetime, vm: Candidate) -> Skipped | None:
    again_at = tried_again_at(vm)
    recently = timedelta(seconds=rules.renewed_recently_s)
    renewed_lately = vm.renewed_at is not None and now - vm.renewed_at < recently
    far = vm.not_after is not None and due_from(rules, vm) > now + timedelta(days=AHEAD_DAYS)
    because = SkipReason
    rows = (
        (vm.vanished, because.VANISHED, "it is not listed on the cluster any more"),
        (vm.moved, because.VANISHED, "it was seen on another cluster since"),
        (not name_fits(rules, vm.name), because.EXCLUDED, _of_name(vm.name)),
        (vm.not_after is None, because.DATE_UNKNOWN, "no source has told the date of its certificate yet"),
        (vm.job_open, because.JOB_OPEN, "a job renews it already"),
        (vm.awaiting_pickup, because.AWAITING_PICKUP, "a new certificate was issued, and its agent has not taken it"),
        (vm.has_entity is False, because.NO_ENTITY, "it has no VM tools entity: NGT is not enabled for it"),
        (vm.ngt_enabled is False, because.NO_ENTITY, "NGT is switched off for it"),
        (vm.power in _NOT_RUNNING, because.POWERED_OFF, "it does not run, so its agent could take no certificate"),
        (renewed_lately, because.RENEWED_LATELY, f"it was renewed at {_shown(vm.renewed_at)}"),
        (
            again_at is not None and now < again_at,
            because.TRIED_LATELY,
            f"{_of_tries(vm)}; it is tried again from {_shown(again_at)} on",
        ),
        (far, because.FAR_AHEAD, f"its certificate is good until {_shown(vm.not_after)}"),
    )
    return next((Skipped(vm, reason, f"{sentence}.") for holds, reason, sentence in rows if holds), None)


_NOT_RUNNING = frozenset({PowerState.OFF, PowerState.OTHER})
_RANKS = {reason: rank for rank, reason in enumerate([*list(SkipReason)[1:], SkipReason.VANISHED])}


def _of_name(name: str | None) -> str:
    return (
        "its name is not known, and the rules choose by name" if name is None else "its name is left out by the rules"
    )


def _of_tries(vm: Candidate) -> str:
    which = "its last automatic job" if vm.tries == 1 else f"each of its last {vm.tries} automatic jobs"
    return f"{which} renewed nothing, at last at {_shown(vm.tried_at)}"


def _order_of_left_out(one: Skipped) -> tuple[int, bool, float, str]:
    end = one.vm.not_after
    return _RANKS[one.because], end is None, 0.0 if end is None else end.timestamp(), one.vm.vm_uuid


def _shown(time: datetime | None) -> str:
    return "" if time is None else f"{time:%Y-%m-%d %H:%M}Z"


def _days(known: Sequence[Opening], now: datetime) -> Iterator[_Day]:
    for _, of_day in groupby(known, key=lambda opening: opening.day):
        every = tuple(of_day)
        usable = [opening for opening in every if opening.closes_at > now]
        if usable:
            yield _Day(every, max(now, usable[0].opens_at), usable[-1].closes_at)


def _started_on(day: _Day, rules: AutoRules, known: Sequence[Opening], started_at: Sequence[datetime]) -> int:
    """The number of renewals started on the day. One outside of all openings counts for the day of the clock."""
    opens = [opening.opens_at for opening in known]

    def counted_on(time: datetime) -> object:
        number = bisect_right(opens, time) - 1
        is_open = number >= 0 and known[number].holds(time)
        return known[number].day if is_open else day_of(rules.windows, time)

    return sum(counted_on(time) == day.all[0].day for time in started_at)


@dataclass(frozen=True, slots=True)
class _Bounds:
    """By the end of each day so many may be renewed at `most`, and must be at `least` to be in time.

    Both count those that were started today: they had the earliest ends.
    """

    least: list[int]
    most: list[int]


def _bounds(rules: AutoRules, days: Sequence[_Day], fitting: Sequence[Candidate], started_today: int) -> _Bounds:
    begins, ends = [day.begins_at for day in days], [day.ends_at for day in days]
    may, must = [0] * (len(days) + 1), [0] * (len(days) + 1)
    for vm in fitting:
        first = bisect_left(begins, due_from(rules, vm))
        may[first] += 1
        must[max(bisect_right(ends, _end_of(vm)) - 1, first)] += 1
    return _Bounds(*(list(accumulate(each[:-1], initial=started_today))[1:] for each in (must, may)))


def _planned(
    rules: AutoRules, days: Sequence[_Day], fitting: Sequence[Candidate], started_today: int
) -> Iterator[Planned]:
    bounds = _bounds(rules, days, fitting, started_today)
    done = started_today
    left = iter(fitting)
    for day, until in zip(days, level(bounds.least, bounds.most, rules.at_most_per_day, started_today), strict=True):
        # Of today's turns those that were taken already are left out.
        begun = started_today if day is days[0] else 0
        for turn in list(day.turns(until - done + begun))[begun:]:
            vm = next(left)
            yield Planned(vm, _end_of(vm), turn, turn.closes_at <= _end_of(vm))
        done = until
    for vm in left:
        yield Planned(vm, _end_of(vm), None, in_time=False)


def _needed_per_day(
    rules: AutoRules, days: Sequence[_Day], fitting: Sequence[Candidate], started_today: int, late: int
) -> int | None:
    """The smallest number a day with which no more are late than with any number."""
    if late == 0:
        return None
    bounds = _bounds(rules, days, fitting, started_today)

    def late_with(per_day: int) -> int:
        done = fastest(bounds.most, per_day, started_today)
        turns = [bisect_left(done, started_today + number + 1) for number in range(len(fitting))]
        return sum(
            turn >= len(days) or days[turn].ends_at > _end_of(vm) for turn, vm in zip(turns, fitting, strict=True)
        )

    enough = max(len(fitting) + started_today, rules.at_most_per_day)
    unavoidable = late_with(enough)
    if late_with(rules.at_most_per_day) == unavoidable:
        return None
    return bisect_left(range(enough), -unavoidable, lo=rules.at_most_per_day, key=lambda per_day: -late_with(per_day))

"""When people are told that a certificate ends, and how many of a wave get an event of their own."""

from datetime import UTC, datetime, time, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ngt.vocabulary import VmUuid
from app.ngt.warnings.due import (
    KnownCertificate,
    WarningRules,
    days_left,
    due_days_before,
    due_warnings,
    latest_time_of_day,
    start_of_day,
)

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
RULES = WarningRules((60, 30, 14, 7, 1), most_events_per_day=20)
BERLIN, APIA, LORD_HOWE = ZoneInfo("Europe/Berlin"), ZoneInfo("Pacific/Apia"), ZoneInfo("Australia/Lord_Howe")


def days(number: float) -> timedelta:
    return timedelta(days=number)


def certificate(
    left: float, told: int | None = None, *, number: int = 0, renewal_is_changing: bool = False
) -> KnownCertificate:
    return KnownCertificate(VmUuid(str(UUID(int=number))), NOW + days(left), told, renewal_is_changing)


@pytest.mark.parametrize(
    ("left", "told", "due"),
    [
        (60.01, None, None),
        (60, None, 60),
        (59, 60, None),
        (29, 60, 30),
        (5, None, 7),
        (5, 7, None),
        (5, 30, 7),
        (1.01, 7, None),
        (1, 7, 1),
        (0.01, 1, None),
        (0, 1, 0),
        (-900, None, 0),
        (-900, 0, None),
        # Its date moved a little, or numbers of days were added: nobody is told of more days after fewer.
        (8, 7, None),
        (14.5, 14, None),
    ],
)
def test_the_fewest_days_that_are_left_alone_are_told_of_once(left: float, told: int | None, due: int | None) -> None:
    assert due_days_before(certificate(left, told), RULES, NOW) == due


def test_the_order_in_which_the_days_are_configured_does_not_matter() -> None:
    assert due_days_before(certificate(5), WarningRules((7, 60, 1, 30), 20), NOW) == 7
    assert WarningRules((7, 60, 1, 30), 20).longest == days(60)


def test_without_any_days_only_the_end_is_told() -> None:
    rules = WarningRules((), 20)
    assert rules.longest == days(0)
    assert [due_days_before(certificate(left), rules, NOW) for left in (0.1, 0)] == [None, 0]


def test_nobody_is_warned_of_a_certificate_that_is_being_replaced_but_told_of_its_end() -> None:
    assert due_days_before(certificate(5, renewal_is_changing=True), RULES, NOW) is None
    assert due_days_before(certificate(-1, 1, renewal_is_changing=True), RULES, NOW) == 0


def test_of_a_wave_the_first_to_expire_get_the_events_that_the_day_has_left() -> None:
    wave = [certificate(left=40 - number / 100, number=number) for number in range(500)]
    due = due_warnings(wave, RULES, NOW, events_today=5)
    assert len(due) == 500
    assert [warning.own_event for warning in due] == [True] * 15 + [False] * 485
    assert [warning.not_after for warning in due] == sorted(one.not_after for one in wave)
    assert not any(warning.own_event for warning in due_warnings(wave, RULES, NOW, events_today=25))


@given(st.lists(st.integers(1, 60), max_size=8, unique=True))
def test_a_certificate_that_is_looked_at_again_and_again_is_told_of_each_number_of_days_once(
    numbers: list[int],
) -> None:
    rules = WarningRules(tuple(numbers), 20)
    told: list[int] = []
    for quarter_days in range(62 * 4, -2 * 4, -1):
        one = certificate(quarter_days / 4, min(told, default=None))
        if (due := due_days_before(one, rules, NOW)) is not None:
            told.append(due)
    assert told == sorted({*numbers, 0}, reverse=True)


@pytest.mark.parametrize(("left", "whole"), [(1.5, 1), (1, 1), (0.5, 0), (0, 0), (-0.1, -1), (-900, -900)])
def test_the_days_that_are_left_are_rounded_down(left: float, whole: int) -> None:
    assert days_left(NOW + days(left), NOW) == whole


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_a_day_begins_at_its_own_midnight() -> None:
    assert start_of_day(at("2026-11-23T23:30"), BERLIN) == at("2026-11-23T23:00")
    assert start_of_day(at("2026-11-23T22:30"), BERLIN) == at("2026-11-22T23:00")
    assert start_of_day(at("2026-07-01T12:00"), BERLIN) == at("2026-06-30T22:00")


@pytest.mark.parametrize(
    ("now", "at_time", "zone", "latest"),
    [
        ("2026-11-23T06:00", time(6), UTC, "2026-11-23T06:00"),
        ("2026-11-23T05:59", time(6), UTC, "2026-11-22T06:00"),
        ("2026-11-23T00:01", time(23, 59), UTC, "2026-11-22T23:59"),
        ("2026-07-01T04:00", time(6), BERLIN, "2026-07-01T04:00"),
        ("2026-12-01T04:59", time(6), BERLIN, "2026-11-30T05:00"),
        # The clocks go from 2 to 3: half past two does not come, half past three does.
        ("2026-03-29T01:29", time(2, 30), BERLIN, "2026-03-28T01:30"),
        ("2026-03-29T01:30", time(2, 30), BERLIN, "2026-03-29T01:30"),
        # The clocks go from 3 back to 2: half past two comes twice, and the first one counts.
        ("2026-10-25T00:30", time(2, 30), BERLIN, "2026-10-25T00:30"),
        ("2026-10-25T01:30", time(2, 30), BERLIN, "2026-10-25T00:30"),
    ],
)
def test_the_time_of_the_digest_is_that_of_its_zone(now: str, at_time: time, zone: ZoneInfo, latest: str) -> None:
    assert latest_time_of_day(at(now), at_time, zone) == at(latest)


@given(
    st.integers(0, 17 * 365 * 1440).map(lambda minutes: at("2011-01-01") + timedelta(minutes=minutes)),
    st.times().map(lambda given: given.replace(second=0, microsecond=0)),
    st.sampled_from([BERLIN, APIA, LORD_HOWE]),
)
def test_the_latest_time_is_past_and_less_than_two_days_ago(now: datetime, at_time: time, zone: ZoneInfo) -> None:
    latest = latest_time_of_day(now, at_time, zone)
    assert timedelta(0) <= now - latest < timedelta(days=2)
    assert latest_time_of_day(latest, at_time, zone) == latest


def test_over_a_year_there_is_one_digest_for_each_day() -> None:
    begin = at("2026-01-01T12:00")
    moments = {latest_time_of_day(begin + timedelta(minutes=15 * n), time(2, 30), BERLIN) for n in range(365 * 96)}
    assert len(moments) == 366
    assert len({moment.astimezone(BERLIN).date() for moment in moments}) == 366

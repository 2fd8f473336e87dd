from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ngt.windows import Opening, Window, fault_of_cron, openings

BERLIN = ZoneInfo("Europe/Berlin")


def window(cron: str, minutes: int, zone: str = "Europe/Berlin") -> Window:
    return Window(cron, minutes, zone, ZoneInfo(zone))


def shown(opened: tuple[Opening, ...], zone: ZoneInfo = BERLIN) -> list[str]:
    """Each opening by the wall clock, with its offset."""
    form = "%d %H:%M%z"
    return [f"{one.opens_at.astimezone(zone):{form}} to {one.closes_at.astimezone(zone):{form}}" for one in opened]


def test_a_window_opens_at_the_times_of_its_zone_and_belongs_to_the_day_on_which_it_opens() -> None:
    opened = openings((window("0 22 * * 1-5", 240),), date(2026, 11, 28), 4)
    assert shown(opened) == [
        "27 22:00+0100 to 28 02:00+0100",
        "30 22:00+0100 to 01 02:00+0100",
        "01 22:00+0100 to 02 02:00+0100",
    ]
    assert [one.day for one in opened] == [date(2026, 11, 27), date(2026, 11, 30), date(2026, 12, 1)]
    assert opened[0].opens_at == datetime(2026, 11, 27, 21, tzinfo=UTC)


@pytest.mark.parametrize(
    ("cron", "minutes", "day", "expected"),
    [
        # 02:30 does not exist on 29 March 2026, when 02:00 becomes 03:00.
        ("30 2 * * *", 60, date(2026, 3, 29), "29 03:30+0200 to 29 04:30+0200"),
        ("0 2 * * *", 120, date(2026, 3, 29), "29 03:00+0200 to 29 05:00+0200"),
        # 02:30 comes twice on 25 October 2026: the first one counts.
        ("30 2 * * *", 30, date(2026, 10, 25), "25 02:30+0200 to 25 02:00+0100"),
        # The minutes really pass, whatever the clock shows at the end.
        ("0 22 * * *", 480, date(2026, 3, 28), "28 22:00+0100 to 29 07:00+0200"),
        ("0 22 * * *", 480, date(2026, 10, 24), "24 22:00+0200 to 25 05:00+0100"),
    ],
)
def test_a_window_opens_once_in_the_night_of_the_clock_change(
    cron: str, minutes: int, day: date, expected: str
) -> None:
    opened = [one for one in openings((window(cron, minutes),), day - timedelta(days=1), 4) if one.day == day]
    assert shown(tuple(opened)) == [expected]


def test_a_line_that_is_always_open_is_so_in_the_night_of_the_clock_change_too() -> None:
    for begin in (date(2026, 3, 27), date(2026, 10, 23)):
        opened = openings((window("*/10 * * * *", 10),), begin, 5)
        assert all(earlier.closes_at == later.opens_at for earlier, later in pairwise(opened))
        assert {one.opens_at.astimezone(BERLIN).strftime("%H:%M") for one in opened} == {"00:00"}


def test_without_windows_every_day_of_utc_is_an_opening() -> None:
    opened = openings((), date(2026, 11, 29), 3)
    assert shown(opened, ZoneInfo("UTC")) == [
        "29 00:00+0000 to 30 00:00+0000",
        "30 00:00+0000 to 01 00:00+0000",
        "01 00:00+0000 to 02 00:00+0000",
    ]


def test_windows_that_overlap_are_one_opening_and_a_long_one_is_cut_at_midnight() -> None:
    early, late = window("0 20 * * *", 180), window("0 22 * * *", 120)
    opened = openings((early, late), date(2026, 11, 29), 1)
    assert shown(opened) == ["29 20:00+0100 to 30 00:00+0100"]
    assert opened[0].windows == (early, late)
    weekend = openings((window("0 18 * * fri", 48 * 60),), date(2026, 11, 27), 3)
    assert shown(weekend) == [
        "27 18:00+0100 to 28 00:00+0100",
        "28 00:00+0100 to 29 00:00+0100",
        "29 00:00+0100 to 29 18:00+0100",
    ]


def test_windows_of_two_zones_have_the_days_of_the_first() -> None:
    opened = openings((window("0 22 * * *", 60), window("0 22 * * *", 60, "America/New_York")), date(2026, 11, 28), 2)
    assert shown(opened) == [
        "28 04:00+0100 to 28 05:00+0100",
        "28 22:00+0100 to 28 23:00+0100",
        "29 04:00+0100 to 29 05:00+0100",
        "29 22:00+0100 to 29 23:00+0100",
    ]
    assert [one.day.day for one in opened] == [28, 28, 29, 29]


def test_an_opening_that_began_before_is_whole() -> None:
    (opened,) = openings((window("0 22 * * 1-5", 240),), date(2026, 11, 28), 1)
    assert shown((opened,)) == ["27 22:00+0100 to 28 02:00+0100"]


def test_a_day_that_does_not_exist_opens_nothing() -> None:
    assert openings((window("0 22 30 2 *", 60),), date(2024, 1, 1), 2200) == ()


@pytest.mark.parametrize(
    ("cron", "fault"),
    [
        ("0 22 * * 1-5", None),
        ("*/15 0-4,22 1,15 jan-mar sun#2", None),
        ("0 22 L * *", None),
        ("0 22 * *", "five fields"),
        ("0 22 * * 1-5 0", "five fields"),
        ("@daily", "five fields"),
        ("", "five fields"),
        ("60 22 * * *", "not a valid cron expression"),
        ("0 22 * * frühling", "not a valid cron expression"),
        ("R 22 * * *", "not a valid cron expression"),
        ("h(0-5) 22 * * *", "not a valid cron expression"),
    ],
)
def test_a_cron_line_has_five_fields_that_cron_understands(cron: str, fault: str | None) -> None:
    found = fault_of_cron(cron)
    assert found is None if fault is None else fault in (found or "")


@given(
    st.lists(
        st.builds(
            window,
            st.sampled_from(["0 22 * * *", "30 2 * * *", "0 0 * * sat", "*/5 3-6 * * *", "0 12 1 * *", "* * * * *"]),
            st.integers(1, 7 * 24 * 60),
            st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"]),
        ),
        max_size=3,
    ),
    st.dates(date(2025, 1, 1), date(2027, 12, 31)),
)
def test_openings_are_in_order_apart_from_each_other_and_never_longer_than_a_day(
    windows: list[Window], begin: date
) -> None:
    opened = openings(tuple(windows), begin, 40)
    # A day has 25 hours when the clocks are put back.
    assert all(timedelta(0) < one.closes_at - one.opens_at <= timedelta(hours=25) for one in opened)
    assert all(earlier.closes_at <= later.opens_at and earlier.day <= later.day for earlier, later in pairwise(opened))
    zone = windows[0].zone if windows else UTC
    assert all(one.day == one.opens_at.astimezone(zone).date() for one in opened)

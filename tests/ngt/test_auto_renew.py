"""The planner of automatic renewals: who is renewed, when, and who is not."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.ngt.auto_renew.capacity import AutoRenewState, blockers, capacity
from app.ngt.auto_renew.leveling import level
from app.ngt.auto_renew.plan import AutoPlan, AutoRules, Candidate, Planned, SkipReason, plan_renewals
from app.ngt.vocabulary import CertificateSource, PowerState, VmUuid
from app.ngt.windows import Opening, Window

DAY = timedelta(days=1)
NIGHTS = Window("0 22 * * *", 240, "Europe/Berlin", ZoneInfo("Europe/Berlin"))
SATURDAYS = Window("0 6 * * sat", 600, "UTC", ZoneInfo("UTC"))
TWICE_A_DAY = Window("0 6,20 * * *", 120, "UTC", ZoneInfo("UTC"))
# A Sunday.
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


def rules(*windows: Window, **more: Any) -> AutoRules:
    return AutoRules(**{"before_days": 60, "at_most_per_day": 20, "at_most_at_once": 2, "windows": windows, **more})


def vm(number: int, ends_in: timedelta | None = 30 * DAY, **more: Any) -> Candidate:
    uuid = VmUuid(f"00000000-0000-4000-8000-{number:012d}")
    return Candidate(uuid, f"vm-{number}", None if ends_in is None else NOW + ends_in, **more)


def wave(count: int, ends_in: timedelta) -> list[Candidate]:
    return [vm(number, ends_in) for number in range(count)]


def in_each_opening(plan: AutoPlan) -> list[int]:
    """How many are planned in each opening from the first to the last that has any."""
    counts = Counter(one.opening for one in plan.planned)
    last = max(number for number, opening in enumerate(plan.upcoming) if opening in counts)
    return [counts[opening] for opening in plan.upcoming[: last + 1]]


def turn(plan: AutoPlan, number: int = 0) -> tuple[str, str]:
    opening = plan.planned[number].opening
    assert opening is not None
    return f"{opening.opens_at:%d %H:%M}", f"{opening.closes_at:%d %H:%M}"


def test_a_wave_is_spread_evenly_over_the_openings_that_are_left() -> None:
    plan = plan_renewals(rules(NIGHTS), NOW, wave(100, 60 * DAY))
    each = in_each_opening(plan)
    assert (sum(each), min(each), max(each)) == (100, 1, 2)
    assert len(each) == 60
    assert (plan.too_late, plan.needed_per_day) == ((), None)


def test_it_is_spread_over_seldom_openings_too() -> None:
    assert in_each_opening(plan_renewals(rules(SATURDAYS), NOW, wave(100, 60 * DAY))) == [
        13,
        12,
        13,
        12,
        13,
        12,
        13,
        12,
    ]


def test_the_share_of_a_day_is_spread_over_its_openings() -> None:
    each = in_each_opening(plan_renewals(rules(TWICE_A_DAY), NOW - timedelta(hours=11), wave(30, 10 * DAY)))
    assert each == [2, 1] * 10


def test_a_single_certificate_is_renewed_in_the_next_opening() -> None:
    assert turn(plan_renewals(rules(NIGHTS), NOW, [vm(1)])) == ("29 21:00", "30 01:00")
    assert turn(plan_renewals(rules(), NOW, [vm(1)])) == ("29 00:00", "30 00:00")


def test_a_certificate_is_planned_from_before_days_before_its_end_on() -> None:
    plan = plan_renewals(rules(NIGHTS, before_days=60), NOW, [vm(1, 90 * DAY)])
    assert turn(plan) == ("29 21:00", "30 01:00")
    opening = plan.planned[0].opening
    assert opening is not None
    assert opening.day == (NOW + 30 * DAY).date()
    assert plan.due == ()


def test_a_wave_to_come_is_made_room_for() -> None:
    """The second wave needs every night that it has; the first one is over before."""
    late = [vm(1000 + number, 90 * DAY - timedelta(hours=15)) for number in range(60 * 20)]
    plan = plan_renewals(rules(NIGHTS), NOW, [*wave(290, 60 * DAY), *late])
    each = in_each_opening(plan)
    assert (plan.too_late, each) == ((), [10] * 29 + [20] * 60)


def test_the_earliest_end_comes_first_even_where_all_are_late() -> None:
    plan = plan_renewals(rules(), NOW, [vm(number, timedelta(days=5 - number % 7)) for number in range(60)])
    ends = [one.not_after for one in plan.planned]
    assert ends == sorted(ends)


def test_what_cannot_be_in_time_is_said_with_the_number_that_would_be_enough() -> None:
    plan = plan_renewals(rules(NIGHTS), NOW, wave(300, 10 * DAY))
    assert len(plan.too_late) == 300 - 10 * 20
    assert plan.needed_per_day == 30
    assert in_each_opening(plan) == [20] * 15
    assert plan_renewals(rules(NIGHTS, at_most_per_day=30), NOW, wave(300, 10 * DAY)).too_late == ()
    assert plan_renewals(rules(NIGHTS, at_most_per_day=29), NOW, wave(300, 10 * DAY)).needed_per_day == 30


def test_no_number_helps_a_certificate_that_has_ended_and_it_goes_first() -> None:
    plan = plan_renewals(rules(NIGHTS), NOW, [vm(1), vm(2, -3 * DAY)])
    assert [one.vm.name for one in plan.planned] == ["vm-2", "vm-1"]
    assert [one.vm.name for one in plan.too_late] == ["vm-2"]
    assert plan.needed_per_day is None


def test_what_was_started_today_counts_for_today() -> None:
    full = plan_renewals(rules(NIGHTS), NOW, wave(60, 60 * DAY))
    opening = full.upcoming[0]
    begun = [opening.opens_at + timedelta(minutes=1)]
    later = opening.opens_at + timedelta(hours=1)
    assert len(plan_renewals(rules(NIGHTS), later, wave(60, 60 * DAY)).due) == 1
    plan = plan_renewals(rules(NIGHTS), later, wave(59, 60 * DAY), begun)
    assert (plan.due, plan.started_today) == ((), 1)
    assert in_each_opening(plan) == [0] + [1] * 59
    # After midnight it is still the same night.
    assert plan_renewals(rules(NIGHTS), opening.closes_at - timedelta(minutes=1), wave(59, 60 * DAY), begun).due == ()
    # In the next night another one.
    assert len(plan_renewals(rules(NIGHTS), opening.opens_at + DAY, wave(59, 60 * DAY), begun).due) == 1


def test_what_was_started_by_other_rules_counts_for_the_day_of_the_clock() -> None:
    plan = plan_renewals(rules(NIGHTS), NOW, wave(59, 60 * DAY), [NOW - timedelta(hours=2), NOW - DAY])
    assert plan.started_today == 1
    assert in_each_opening(plan)[0] == 0


def test_what_an_opening_did_not_get_done_is_left_to_the_next_one_of_the_day() -> None:
    plan = plan_renewals(rules(TWICE_A_DAY), NOW, wave(30, 10 * DAY))
    assert in_each_opening(plan)[:3] == [3, 2, 1]


def test_days_without_the_service_are_no_reason_to_hurry_more_than_is_needed() -> None:
    before = plan_renewals(rules(NIGHTS), NOW, wave(120, 60 * DAY))
    assert in_each_opening(before)[:3] == [2, 2, 2]
    after = plan_renewals(rules(NIGHTS), NOW + 20 * DAY, wave(120, 60 * DAY))
    assert set(in_each_opening(after)) == {3}
    assert after.too_late == ()


@pytest.mark.parametrize(
    ("changes", "because", "sentence"),
    [
        ({"vanished": True}, SkipReason.VANISHED, "it is not listed on the cluster any more."),
        ({"moved": True}, SkipReason.VANISHED, "it was seen on another cluster since."),
        ({"name": "db-1"}, SkipReason.EXCLUDED, "its name is left out by the rules."),
        ({"name": "vm-old"}, SkipReason.EXCLUDED, "its name is left out by the rules."),
        ({"name": "VM-1"}, SkipReason.EXCLUDED, "its name is left out by the rules."),
        ({"name": None}, SkipReason.EXCLUDED, "its name is not known, and the rules choose by name."),
        ({"not_after": None}, SkipReason.DATE_UNKNOWN, "no source has told the date of its certificate yet."),
        ({"job_open": True}, SkipReason.JOB_OPEN, "a job renews it already."),
        ({"awaiting_pickup": True}, SkipReason.AWAITING_PICKUP, "a new certificate was issued, and its agent"),
        ({"has_entity": False}, SkipReason.NO_ENTITY, "it has no VM tools entity: NGT is not enabled for it."),
        ({"ngt_enabled": False}, SkipReason.NO_ENTITY, "NGT is switched off for it."),
        ({"power": PowerState.OFF}, SkipReason.POWERED_OFF, "it does not run, so its agent could take no"),
        ({"power": PowerState.OTHER}, SkipReason.POWERED_OFF, "it does not run, so its agent could take no"),
        ({"renewed_at": NOW - DAY / 2}, SkipReason.RENEWED_LATELY, "it was renewed at 2026-11-29 00:00Z."),
        (
            {"tries": 1, "tried_at": NOW - DAY / 2},
            SkipReason.TRIED_LATELY,
            "its last automatic job renewed nothing, at last at 2026-11-29 00:00Z; it is tried again from "
            "2026-11-30 00:00Z on.",
        ),
        ({"not_after": NOW + 1061 * DAY}, SkipReason.FAR_AHEAD, "its certificate is good until 2029-10-25 12:00Z."),
    ],
)
def test_a_vm_is_left_out_with_the_reason(changes: dict[str, Any], because: SkipReason, sentence: str) -> None:
    by_name = rules(NIGHTS, include=("vm-*", "web-*"), exclude=("*-old",))
    plan = plan_renewals(by_name, NOW, [replace(vm(1), **changes), vm(2)])
    assert [one.vm.name for one in plan.planned] == ["vm-2"]
    (left,) = plan.left_out
    assert left.because is because
    assert left.sentence.startswith(sentence)


@pytest.mark.parametrize(("hours", "skipped"), [(1, False), (3, True)])
def test_a_vm_was_renewed_lately_as_the_limit_of_the_configuration_says(hours: int, skipped: bool) -> None:
    within = rules(NIGHTS, renewed_recently_s=hours * 3600)
    plan = plan_renewals(within, NOW, [replace(vm(1), renewed_at=NOW - timedelta(hours=2))])
    assert [left.because for left in plan.left_out] == ([SkipReason.RENEWED_LATELY] if skipped else [])


@pytest.mark.parametrize(
    "known",
    [
        {"power": PowerState.UNKNOWN},
        {"has_entity": True, "ngt_enabled": True, "power": PowerState.ON},
        {"source": CertificateSource.COMPUTED},
        {"renewed_at": NOW - 2 * DAY},
        {"name": None},
    ],
)
def test_what_is_not_said_or_only_computed_leaves_no_vm_out(known: dict[str, Any]) -> None:
    assert len(plan_renewals(rules(NIGHTS), NOW, [replace(vm(1), **known)]).planned) == 1


@pytest.mark.parametrize(("tries", "days"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 8), (5000, 8)])
def test_a_vm_that_was_not_renewed_is_tried_again_after_growing_times(tries: int, days: int) -> None:
    tried = vm(1, tries=tries, tried_at=NOW - days * DAY)
    assert len(plan_renewals(rules(NIGHTS), NOW, [tried]).planned) == 1
    again = replace(tried, tried_at=NOW - days * DAY + timedelta(seconds=1))
    assert plan_renewals(rules(NIGHTS), NOW, [again]).left_out[0].because is SkipReason.TRIED_LATELY


def test_vms_that_are_gone_stand_last_among_those_that_are_left_out() -> None:
    left = plan_renewals(rules(), NOW, [vm(1, None), vm(2, vanished=True), vm(3, job_open=True)]).left_out
    assert [one.because for one in left] == ["date_unknown", "job_open", "vanished"]


def test_without_vms_there_is_nothing_to_plan() -> None:
    plan = plan_renewals(rules(NIGHTS), NOW, [])
    assert (plan.planned, plan.left_out, plan.due, plan.needed_per_day) == ((), (), (), None)
    assert plan.upcoming[0].opens_at == NOW + timedelta(hours=9)


PLAIN = AutoRenewState(enabled=True, max_running=3, one_at_a_time=False)


@pytest.mark.parametrize(
    ("standing", "expected"),
    [
        ({}, 2),
        ({"automatic": 1}, 1),
        ({"automatic": 2}, 0),
        ({"automatic": 5}, 0),
        ({"taking_slot": 2}, 1),
        ({"taking_slot": 3}, 0),
        ({"one_at_a_time": True}, 1),
        ({"one_at_a_time": True, "open_jobs": 1}, 0),
        ({"enabled": False}, 0),
        ({"stopped_because": "3 failed"}, 0),
        ({"service_paused": True}, 0),
        ({"paused": True}, 0),
        ({"stranded": 1}, 0),
    ],
)
def test_no_more_begin_than_have_room(standing: dict[str, Any], expected: int) -> None:
    assert capacity(rules(), replace(PLAIN, **standing)) == expected


def test_everything_that_lets_none_begin_is_said() -> None:
    said = list(blockers(AutoRenewState(False, 3, False, True, True, "3 failed", 1)))
    assert len(said) == 5
    assert list(blockers(PLAIN)) == []


# -- What must hold for whatever there is ------------------------------------------------------------------------------

WINDOWS = st.sampled_from([(), (NIGHTS,), (SATURDAYS,), (TWICE_A_DAY,), (NIGHTS, SATURDAYS)])
RULES = st.builds(
    lambda windows, before, per_day: rules(*windows, before_days=before, at_most_per_day=per_day),
    WINDOWS, st.integers(8, 40), st.integers(1, 6),
)  # fmt: skip
ENDS = st.lists(st.integers(-24 * 5, 24 * 60), max_size=40)


def certificates(ends_h: list[int]) -> list[Candidate]:
    return [vm(number, timedelta(hours=hours)) for number, hours in enumerate(ends_h)]


def usable_days(plan: AutoPlan) -> list[tuple[datetime, datetime]]:
    """From when to when each day with an opening can be used."""
    by_day: dict[object, list[Opening]] = {}
    for opening in plan.upcoming:
        by_day.setdefault(opening.day, []).append(opening)
    return [(max(NOW, each[0].opens_at), each[-1].closes_at) for each in by_day.values()]


def is_feasible(auto: AutoRules, plan: AutoPlan, candidates: list[Candidate]) -> bool:
    """Hall's condition: between any two days there is room for all that must be done there and nowhere else."""
    days = usable_days(plan)[:200]
    spans = []
    for one in candidates:
        assert one.not_after is not None
        due_from = one.not_after - auto.before_days * DAY
        fitting = [number for number, (begins, ends) in enumerate(days) if begins >= due_from and ends <= one.not_after]
        if not fitting:
            return False
        spans.append((fitting[0], fitting[-1]))
    return all(
        sum(first <= a and b <= last for a, b in spans) <= auto.at_most_per_day * (last - first + 1)
        for first, _ in spans
        for _, last in spans
        if first <= last
    )


@given(RULES, ENDS)
def test_a_plan_keeps_to_the_rules_and_is_in_time_exactly_where_that_is_possible(
    auto: AutoRules, ends_h: list[int]
) -> None:
    candidates = certificates(ends_h)
    plan = plan_renewals(auto, NOW, candidates)
    assert sorted(one.vm.vm_uuid for one in plan.planned) == sorted(one.vm_uuid for one in candidates)
    assert [one.not_after for one in plan.planned] == sorted(one.not_after for one in plan.planned)
    turns = [one.opening for one in plan.planned]
    assert None not in turns
    opens = [one.opens_at for one in turns if one is not None]
    assert opens == sorted(opens)
    assert all(count <= auto.at_most_per_day for count in Counter(one.day for one in turns if one).values())
    for one in plan.planned:
        assert one.opening is not None
        assert one.opening.closes_at > NOW
        assert max(one.opening.opens_at, NOW) >= one.not_after - auto.before_days * DAY
    feasible = is_feasible(auto, plan, candidates)
    if feasible:
        assert plan.too_late == ()
    elif TWICE_A_DAY not in auto.windows and len(auto.windows) < 2:
        # Where a day has two openings, the first one can be in time although the day as a whole is not.
        assert plan.too_late != ()


@given(RULES, ENDS)
def test_the_number_that_is_needed_is_the_smallest_that_helps(auto: AutoRules, ends_h: list[int]) -> None:
    candidates = certificates(ends_h)
    needed = plan_renewals(auto, NOW, candidates).needed_per_day
    if needed is None:
        return
    assert needed > auto.at_most_per_day
    assert plan_renewals(replace(auto, at_most_per_day=needed), NOW, candidates).needed_per_day is None
    assert plan_renewals(replace(auto, at_most_per_day=needed - 1), NOW, candidates).needed_per_day == needed


@given(WINDOWS, st.integers(1, 200), st.integers(20, 60))
def test_certificates_of_one_end_are_spread_so_that_days_differ_by_one_at_most(
    windows: tuple[Window, ...], count: int, ends_in: int
) -> None:
    plan = plan_renewals(rules(*windows, at_most_per_day=1000), NOW, wave(count, ends_in * DAY))
    days = {one.day: one.closes_at for one in plan.upcoming}
    by_day: Counter[object] = Counter({day: 0 for day, ends in days.items() if ends <= NOW + ends_in * DAY})
    by_day.update(one.opening.day for one in plan.planned if one.opening is not None)
    assert max(by_day.values()) - min(by_day.values()) <= 1


@st.composite
def waves(draw: st.DrawFn) -> tuple[list[int], list[int], int]:
    """How many must be and may be done by the end of each day, and how many a day."""
    days = draw(st.integers(1, 30))
    may = sorted(draw(st.lists(st.integers(0, 60), min_size=days, max_size=days)))
    must = sorted(draw(st.lists(st.integers(0, 60), min_size=days, max_size=days)))
    return [min(pair) for pair in zip(must, may, strict=True)], may, draw(st.integers(1, 8))


def _lateness(done: list[int], least: list[int]) -> int:
    """The sum of the days by which each thing is late."""
    return sum(max(wanted - count, 0) for count, wanted in zip(done, least, strict=True))


@given(waves(), st.integers(0, 3))
def test_what_is_spread_stays_within_its_limits_and_its_greatest_step_is_the_smallest(
    given_waves: tuple[list[int], list[int], int], already: int
) -> None:
    least, most, per_day = given_waves
    least, most = [count + already for count in least], [count + already for count in most]
    done = level(least, most, per_day, already)
    steps = [later - earlier for earlier, later in pairwise([0, *done])]
    assert all(step >= 0 for step in steps)
    assert all(count <= limit for count, limit in zip(done, most, strict=True))
    assert steps[0] <= max(per_day, already)
    assert all(step <= per_day for step in steps[1:])
    # With a smaller greatest step either something would be late that is not, or less would be done at the end.
    late = _lateness(done, least)
    for fewer in range(1, max(steps)):
        slower = level(least, most, fewer, already)
        assert _lateness(slower, least) > late or slower[-1] < done[-1] or max(steps) <= max(fewer, already)


@settings(max_examples=25)
@given(
    RULES.filter(lambda auto: len(auto.windows) == 1),
    ENDS,
    st.sets(st.integers(0, 59), max_size=20),
    st.integers(1, 4),
)
def test_day_after_day_no_limit_is_passed_and_what_was_possible_is_in_time(
    auto: AutoRules, ends_h: list[int], away: set[int], at_once: int
) -> None:
    """The service looks several times in each opening; on some days it is away. Each renewal takes one look."""
    auto = replace(auto, at_most_at_once=at_once)
    left = {one.vm_uuid: one for one in certificates(ends_h)}
    first = plan_renewals(auto, NOW, list(left.values()))
    started: list[tuple[Opening, Planned, datetime]] = []
    for opening in first.upcoming[:130]:
        if (opening.opens_at - NOW) // DAY in away:
            continue
        for look in range(4):
            now = opening.opens_at + look * (opening.closes_at - opening.opens_at) / 4
            if now < NOW or not left:
                continue
            plan = plan_renewals(auto, now, list(left.values()), [at for _, _, at in started])
            begun = plan.due[: capacity(auto, replace(PLAIN, max_running=9))]
            assert len(begun) <= at_once
            assert [one.vm for one in begun] == sorted(
                (one for one in left.values() if one in {each.vm for each in begun}),
                key=lambda one: (one.not_after or NOW, one.vm_uuid),
            )
            for one in begun:
                assert now >= one.not_after - auto.before_days * DAY
                started.append((opening, one, now))
                del left[one.vm.vm_uuid]
    each_day = Counter(opening.day for opening, _, _ in started)
    assert all(count <= auto.at_most_per_day for count in each_day.values())
    assert not left
    enough_at_once = at_once * 4 >= auto.at_most_per_day
    if first.too_late == () and not away and enough_at_once:
        assert all(opening.closes_at <= one.not_after for opening, one, _ in started)

"""A name that a CVM without a UTF-8 locale prints matches no pattern, so that no exclusion fails open."""

from dataclasses import replace

import pytest

from app.ngt.auto_renew.plan import AutoRules, name_fits
from app.ngt.vocabulary import is_garbled
from app.settings.clusters.guests import GuestMatch


@pytest.mark.parametrize(
    ("name", "garbled"),
    [("????-01", True), ("??-web01", True), ("?", True), ("\ufffd\ufffdx", True), ("本番-01", False), ("what?", False)],
)
@pytest.mark.field("B10")
def test_a_name_of_question_marks_is_not_a_name(name: str, *, garbled: bool) -> None:
    assert is_garbled(name) is garbled


@pytest.mark.field("B10")
def test_neither_an_exclusion_nor_a_guest_s_pattern_matches_it() -> None:
    rules = AutoRules(before_days=60, at_most_per_day=9, at_most_at_once=9, exclude=("本番-*",))
    assert not name_fits(rules, "本番-01")
    assert not name_fits(rules, "??-01")
    assert name_fits(rules, "試験-01")
    assert not name_fits(replace(rules, include=("*",)), "????")
    assert name_fits(AutoRules(before_days=60, at_most_per_day=9, at_most_at_once=9), "????")
    assert not GuestMatch(names=("*",)).fits("????-01")
    assert GuestMatch().fits("????-01")

"""The pool's decisions, without any server."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ngt.errors import FaultCode
from app.ssh.host import PoolLimits, host_name
from app.ssh.policy import (
    CommandState,
    CommandVerdict,
    ConnectFailure,
    FailureKind,
    back_off,
    bound_after_answer,
    bound_after_refusal,
    classify,
    pause_after_refusal_s,
    still_holds,
)

LIMITS = PoolLimits()
ALL_ENDINGS = [CommandState(*flags) for flags in product([False, True], repeat=6)]


def failure(kind: FailureKind) -> ConnectFailure:
    return ConnectFailure(kind, FaultCode.CVM_UNREACHABLE, "it failed")


@pytest.mark.parametrize("ending", ALL_ENDINGS, ids=str)
def test_only_what_was_not_sent_or_was_refused_counts_as_not_executed(ending: CommandState) -> None:
    not_executed = classify(ending) in {CommandVerdict.NOT_SENT, CommandVerdict.EXEC_REFUSED}
    assert not_executed == (not ending.sent or ending.exec_refused)


@pytest.mark.parametrize("ending", ALL_ENDINGS, ids=str)
def test_an_answer_is_sent_exited_complete_and_within_the_limit_of_its_size(ending: CommandState) -> None:
    whole = ending.sent and ending.exited and ending.output_complete
    assert (classify(ending) is CommandVerdict.ANSWERED) == (whole and not ending.exec_refused and not ending.too_large)


def test_what_came_whole_at_the_last_moment_is_an_answer() -> None:
    ending = CommandState(sent=True, timed_out=True, exited=True, output_complete=True)
    assert classify(ending) is CommandVerdict.ANSWERED


@pytest.mark.parametrize("kind", [FailureKind.CONNECT, FailureKind.HOST_KEY])
def test_a_host_that_fails_is_left_alone_for_longer_each_time_up_to_a_minute(kind: FailureKind) -> None:
    hold = None
    held_s = []
    for _ in range(6):
        hold = back_off(failure(kind), hold, 100.0, (1,), LIMITS)
        held_s.append(hold.until_s - 100.0)
    assert held_s == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]


def test_a_fault_of_this_machine_holds_nothing_back() -> None:
    hold = back_off(failure(FailureKind.LOCAL), None, 100.0, (1,), LIMITS)
    assert not still_holds(hold, 100.0, (1,))


def test_a_refused_login_holds_for_a_quarter_of_an_hour_or_until_a_file_changes() -> None:
    hold = back_off(failure(FailureKind.LOGIN), None, 100.0, (1, 2), LIMITS)
    assert still_holds(hold, 999.9, (1, 2))
    assert not still_holds(hold, 1000.0, (1, 2))
    assert not still_holds(hold, 101.0, (1, 3))


@given(st.integers(min_value=0, max_value=10_000))
def test_no_number_of_failures_breaks_the_waiting(count: int) -> None:
    assert 0 < pause_after_refusal_s(count + 1) <= 1.0
    before = back_off(failure(FailureKind.CONNECT), None, 0.0, (), LIMITS)
    many = back_off(failure(FailureKind.CONNECT), None if count == 0 else before, 0.0, (), LIMITS)
    assert 5.0 <= many.until_s <= 60.0


@given(st.integers(min_value=0, max_value=50))
def test_a_refusal_leaves_at_least_one_session(others: int) -> None:
    assert bound_after_refusal(others) == max(1, others)


def test_a_bound_widens_one_by_one_and_never_beyond_the_host_sessions() -> None:
    assert bound_after_answer(2, 4, 15) == 2
    assert bound_after_answer(2, 4, 16) == 3
    assert bound_after_answer(4, 4, 1000) == 4


@pytest.mark.parametrize(
    ("address", "port", "name"),
    [("10.0.0.31", 22, "10.0.0.31"), ("10.0.0.31", 2222, "10.0.0.31:2222"), ("fd00::1", 2222, "[fd00::1]:2222")],
)
def test_a_host_is_called_as_the_configuration_calls_it(address: str, port: int, name: str) -> None:
    assert host_name(address, port) == name

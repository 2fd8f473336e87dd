"""Spreads renewals evenly over days: never too early, in time where possible, never too many a day.

Counts are running totals: element n counts those that are done by the end of day n.
"""

import math
from collections.abc import Sequence


def fastest(most: Sequence[int], per_day: int, already: int) -> list[int]:
    """As early as `most` and `per_day` allow; `already` were done on the first day."""
    done: list[int] = []
    for number, limit in enumerate(most):
        before = done[-1] if number else 0
        step = per_day if number else max(per_day, already)
        done.append(min(limit, before + step))
    return done


def level(least: Sequence[int], most: Sequence[int], per_day: int, already: int) -> list[int]:
    """Between `least` and `most` as evenly as can be, at most `per_day` a day; both count what was done `already`.

    Where `least` asks for more a day than is allowed, it is done as fast as is allowed until it is caught up with. At
    the end everything is done that can be. The shape is that of a string pulled taut between the two limits, which is
    the one with the smallest greatest step.
    """
    if not most:
        return []
    possible = fastest(most, per_day, already)
    total = possible[-1]
    low = [0, *(min(wanted, can) for wanted, can in zip(least, possible, strict=True))]
    high = [0, *(min(limit, total) for limit in most)]
    low[-1] = high[-1] = total
    done: list[int] = []
    day, value = 0, 0
    while day < len(most):
        bend, there = _next_bend(low, high, day, value)
        rise, length = there - value, bend - day
        done += [value - (-rise * number // length) for number in range(1, length + 1)]
        day, value = bend, there
    return done


def _next_bend(low: Sequence[int], high: Sequence[int], day: int, value: int) -> tuple[int, int]:
    """Where the string that is fixed at (day, value) first touches a limit and bends, or its end."""
    steepest_low, flattest_high = -math.inf, math.inf
    at_low = at_high = day
    for later in range(day + 1, len(low)):
        to_low, to_high = (low[later] - value) / (later - day), (high[later] - value) / (later - day)
        if to_low > flattest_high:
            return at_high, high[at_high]
        if to_high < steepest_low:
            return at_low, low[at_low]
        if to_low >= steepest_low:
            steepest_low, at_low = to_low, later
        if to_high <= flattest_high:
            flattest_high, at_high = to_high, later
    return len(low) - 1, low[-1]

"""Splits long sequences into parts for one statement each."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

_Item = TypeVar("_Item")

ROWS_AT_ONCE = 500


def chunks(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    return (items[begin : begin + ROWS_AT_ONCE] for begin in range(0, len(items), ROWS_AT_ONCE))

"""The delay before another try."""


def backoff(first: float, last: float, tries: int) -> float:
    """`first` after the first try (`tries` 0), doubled by each further one, and at most `last`."""
    return min(first * 2.0 ** min(tries, 30), last)

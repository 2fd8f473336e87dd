"""The waits for unanswered changes, counted by this process's own monotonic clock, which nothing sets."""

import time
from collections.abc import Iterable

from app.ngt.renewal.progress import Intent


class UnansweredChanges:
    """Since when this process knows each wait. A process that has just started has watched none of them."""

    def __init__(self) -> None:
        self._since_s: dict[str, float] = {}

    def watched_s(self, intent: Intent) -> float:
        """The seconds for which this process has watched the present wait; from now on it watches it."""
        now_s = time.monotonic()
        return now_s - self._since_s.setdefault(intent.wait_key, now_s)

    def watch_only(self, intents: Iterable[Intent]) -> None:
        """Begins with new waits and forgets those that are over."""
        keys = {intent.wait_key for intent in intents}
        now_s = time.monotonic()
        self._since_s = {key: self._since_s.get(key, now_s) for key in keys}

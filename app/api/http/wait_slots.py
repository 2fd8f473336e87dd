"""The number of waiting requests of each caller and of this process. A request holds its slot until it is answered."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from app.ngt.errors import Fault, FaultCode
from app.settings.callers.rate_limits import Callers


class WaitSlots:
    """The places of one process."""

    def __init__(self, callers: Callers) -> None:
        self._most_of_caller = callers.waiters_per_caller
        self._most = callers.waiters
        self._of_caller: Counter[str] = Counter()

    @property
    def count(self) -> int:
        return self._of_caller.total()

    @contextmanager
    def acquire(self, caller_id: str) -> Iterator[None]:
        """Raises Fault `too-many-waits` when all are taken."""
        if self._of_caller[caller_id] >= self._most_of_caller:
            message = f"{self._most_of_caller} requests of this caller wait already; nothing was started."
            raise Fault(FaultCode.TOO_MANY_WAITS, message)
        if self.count >= self._most:
            message = f"{self._most} requests wait here already; nothing was started."
            raise Fault(FaultCode.TOO_MANY_WAITS, message)
        self._of_caller[caller_id] += 1
        try:
            yield
        finally:
            self._of_caller[caller_id] -= 1
            # An entry for each key that ever waited would stay for good.
            self._of_caller += Counter()

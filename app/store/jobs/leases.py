"""The leases of jobs, as this process has watched them.

A lease is expired when nobody has renewed it for its whole length by this process's own monotonic clock; its stored
time is only a mark that each renewal changes. Leader elections of Kubernetes count in the same way: so the clock of the
database may be set at any time, and a process that has just started waits the whole length.
"""

import time
from collections.abc import Iterable
from datetime import datetime
from uuid import UUID


class WatchedLeases:
    """The marks of all leases, and since when each has been the same. `lease_s`: the length of a lease."""

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._since_s: dict[tuple[UUID, datetime], float] = {}
        self._expired: dict[UUID, datetime] = {}

    def watch(self, leases: Iterable[tuple[UUID, datetime]]) -> None:
        """Takes the present mark of each job that has a lease."""
        now_s = time.monotonic()
        self._since_s = {lease: self._since_s.get(lease, now_s) for lease in leases}
        self._expired = {
            job_id: mark for (job_id, mark), since_s in self._since_s.items() if now_s - since_s >= self._lease_s
        }

    def expired(self, job_id: UUID) -> datetime | None:
        """The mark of the job's expired lease. A claim compares it with the row: a renewal may have come since."""
        return self._expired.get(job_id)

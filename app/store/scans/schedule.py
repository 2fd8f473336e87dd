"""Starting the scans that nobody asked for: each cluster at its turn, and soon where a turn or two were missed."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from sqlalchemy import text

from app.store.postgres.database import Database
from app.store.postgres.queue import WakeUps
from app.store.records.callers import THIS_SERVICE
from app.store.records.scans import ScanOrigin
from app.store.scans.start import start_scan

# A turn is taken this long; who comes later waits for the next one, so that no morning begins with the night's scans.
TURN = timedelta(hours=1)
# A cluster that was not scanned as a whole for too long is tried again so often.
TRY_AGAIN = timedelta(hours=6)
_DUE = text("""
SELECT t.cluster FROM jsonb_to_recordset(CAST(:turns AS jsonb)) AS t(cluster text, last timestamptz, before timestamptz)
LEFT JOIN cluster c ON c.name = t.cluster
WHERE (t.last > CAST(:now AS timestamptz) - :turn AND NOT EXISTS (
    SELECT FROM scan s WHERE s.cluster = t.cluster AND s.vm_uuid IS NULL AND s.created_at >= t.last))
  OR ((c.scanned_at IS NULL OR c.scanned_at < t.before) AND NOT EXISTS (
    SELECT FROM scan s WHERE s.cluster = t.cluster AND s.vm_uuid IS NULL
      AND (NOT s.done OR s.created_at > CAST(:now AS timestamptz) - :try_again)))
ORDER BY c.scanned_at NULLS FIRST, t.cluster
""")


@dataclass(frozen=True, slots=True)
class ScheduledScan:
    """When it was the cluster's turn for the last time, and the time before that."""

    cluster: str
    last: datetime
    before: datetime


class ScanTurns:
    """The scans of one database that are started by the schedule."""

    def __init__(self, database: Database, wakeups: WakeUps) -> None:
        self._database = database
        self._wakeups = wakeups

    async def start_due(self, turns: Sequence[ScheduledScan], now: datetime) -> tuple[str, ...]:
        """Starts a scan of each cluster whose turn it is at `now`; answers which. Twice is as good as once."""
        rows = json.dumps([asdict(turn) for turn in turns], default=datetime.isoformat)
        values = {"turns": rows, "now": now, "turn": TURN, "try_again": TRY_AGAIN}
        async with self._database.transaction() as connection:
            due = (await connection.scalars(_DUE, values)).all()
            for cluster in due:
                await start_scan(
                    connection, self._wakeups, cluster, vm_uuid=None, origin=ScanOrigin.SCHEDULED, caller=THIS_SERVICE
                )
        return tuple(due)

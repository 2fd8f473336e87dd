"""The watch over jobs that wait for a guest: one look per cluster and interval serves them all, on whichever replica.

A waiting job holds no worker, no connection and no command; it is woken when its VM's row changed.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import text

from app.ngt.renewal.progress import PICKUP_WAITS, Sighting
from app.ngt.vocabulary import VmUuid
from app.store.jobs.progress_json import dump_sighting
from app.store.postgres.database import Database
from app.store.postgres.queue import WakeUps

_WAITING = "NOT done AND status = 'waiting' AND wait_reason = ANY(:reasons)"
# The interval grows with the age of the youngest waiting job, a quarter of it, between its two limits.
_BEGIN = text(f"""
WITH waiting AS (
  SELECT cluster, max((progress->>'mounted_at')::timestamptz) AS youngest FROM job
  WHERE {_WAITING} AND cluster = ANY(:clusters) GROUP BY cluster)
INSERT INTO cluster AS c (name, watch_due_at)
SELECT cluster, clock_timestamp() + make_interval(secs => least(:last_s,
    greatest(:first_s, coalesce(extract(epoch FROM clock_timestamp() - youngest), 0) / 4)))
FROM waiting
ON CONFLICT (name) DO UPDATE SET watch_due_at = excluded.watch_due_at
  WHERE c.watch_due_at IS NULL OR c.watch_due_at <= clock_timestamp()
RETURNING name, clock_timestamp()
""")  # noqa: S608 - the only part put in is a constant of this module
_WAITING_VMS = text(f"SELECT DISTINCT vm_uuid FROM job WHERE {_WAITING} AND cluster = :cluster")  # noqa: S608 - as above
# A sighting counts as a change when anything but its time differs from the one before.
_STORE = text("""
INSERT INTO vm AS v (vm_uuid, cluster, sighting, observed_at, changed_at)
SELECT vm_uuid, :cluster, sighting, CAST(sighting->>'at' AS timestamptz), CAST(sighting->>'at' AS timestamptz)
FROM jsonb_to_recordset(CAST(:sightings AS jsonb)) AS seen(vm_uuid text, sighting jsonb)
ON CONFLICT (vm_uuid, cluster) DO UPDATE SET sighting = excluded.sighting, observed_at = excluded.observed_at,
  changed_at = CASE WHEN v.sighting - 'at' IS DISTINCT FROM excluded.sighting - 'at'
    THEN excluded.changed_at ELSE v.changed_at END
""")
_WAKE_CHANGED = text(f"""
UPDATE job SET due_at = clock_timestamp()
FROM vm WHERE {_WAITING} AND job.cluster = :cluster
  AND vm.vm_uuid = job.vm_uuid AND vm.cluster = job.cluster
  -- Also what changed while the job was at work, and so was not there to be woken.
  AND vm.changed_at > coalesce(CAST(progress->'seen'->>'at' AS timestamptz),
                               CAST(progress->>'mounted_at' AS timestamptz))
RETURNING job.id
""")  # noqa: S608 - as above
_ROWS_AT_ONCE = 500


class PickupPolls:
    """The statements of the pickup poller."""

    def __init__(self, database: Database, wakeups: WakeUps) -> None:
        self._database = database
        self._wakeups = wakeups
        self._reasons = sorted(PICKUP_WAITS)

    async def begin(self, clusters: list[str], *, first_s: float, last_s: float) -> dict[str, datetime]:
        """The clusters whose turn it is now and where jobs wait, with the database's time; they are this caller's."""
        values: dict[str, Any] = {"clusters": clusters, "reasons": self._reasons, "first_s": first_s, "last_s": last_s}
        async with self._database.transaction() as connection:
            rows = (await connection.execute(_BEGIN, values)).all()
            return {name: now for name, now in rows}  # noqa: C416 - mypy does not take rows for pairs

    async def waiting_vms(self, cluster: str) -> tuple[VmUuid, ...]:
        async with self._database.transaction() as connection:
            rows = await connection.execute(_WAITING_VMS, {"cluster": cluster, "reasons": self._reasons})
            return tuple(VmUuid(vm_uuid) for (vm_uuid,) in rows.all())

    async def store(self, cluster: str, sightings: Mapping[VmUuid, Sighting]) -> int:
        """Stores what was seen, and wakes the jobs whose VM looks different from before. Answers how many."""
        rows = [{"vm_uuid": uuid, "sighting": dump_sighting(seen)} for uuid, seen in sorted(sightings.items())]
        async with self._database.transaction() as connection:
            for begin in range(0, len(rows), _ROWS_AT_ONCE):
                part = json.dumps(rows[begin : begin + _ROWS_AT_ONCE])
                await connection.execute(_STORE, {"cluster": cluster, "sightings": part})
            woken = await connection.execute(_WAKE_CHANGED, {"cluster": cluster, "reasons": self._reasons})
            ids = [job_id for (job_id,) in woken.all()]
            for job_id in ids:
                await self._wakeups.wake(connection, job_id)
            return len(ids)

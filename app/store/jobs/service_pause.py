"""The pause of the whole service: no job begins to change anything anywhere, those that have begun go on to their end.

It stands in one row, so it holds on every replica at once; each waiting job says so in its own row.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.ngt.renewal.holds import HOLD_REASONS, SlotRules, hold_of_pause
from app.store.jobs.holds import PAUSE_STANDS
from app.store.jobs.slots import release_paused
from app.store.jobs.updates import JOB_CHANNEL
from app.store.postgres.advisory_locks import SERVICE_PAUSE
from app.store.postgres.database import Database
from app.store.postgres.queue import WakeUps

# The start of a change holds this lock too, but shared: after the answer to a pause, no change starts.
_LOCK = text("SELECT pg_advisory_xact_lock(:lock)")
_PAUSE = text(f"""
INSERT INTO pause (paused_at, paused_by, reason, until) VALUES (clock_timestamp(), :by, :reason, :until)
ON CONFLICT (single) DO UPDATE SET paused_by = excluded.paused_by, reason = excluded.reason, until = excluded.until,
  paused_at = CASE WHEN {PAUSE_STANDS} THEN pause.paused_at ELSE excluded.paused_at END
RETURNING paused_at, paused_by, reason, until
""")  # noqa: S608 - the only part put in is a constant
_RESUME = text("DELETE FROM pause")
_IS_OVER = text("SELECT EXISTS (SELECT FROM pause WHERE until <= clock_timestamp())")
_END = text("DELETE FROM pause WHERE until <= clock_timestamp() RETURNING single")
_STATE = text(f"""
SELECT clock_timestamp(), pause.single IS NOT NULL, paused_at, paused_by, reason, until
FROM (SELECT) AS always LEFT JOIN pause ON {PAUSE_STANDS}
""")  # noqa: S608 - as above
# Those that somebody has at work at this moment are held at their next step.
_TELL = text("""
UPDATE job SET wait_reason = :reason, message = :message, version = version + 1, updated_at = now()
WHERE id IN (
  SELECT id FROM job WHERE NOT done AND takes_slot AND changing_since IS NULL
    AND (lease_until IS NULL OR lease_until < clock_timestamp()) AND (status = 'queued' OR wait_reason = ANY(:held))
  ORDER BY id FOR UPDATE SKIP LOCKED)
RETURNING pg_notify(:channel, CAST(id AS text))
""")


@dataclass(frozen=True, slots=True)
class PauseRecord:
    """No new job starts anywhere; `until` None: before somebody resumes."""

    paused_at: datetime
    paused_by: str
    reason: str | None
    until: datetime | None


@dataclass(frozen=True, slots=True)
class PauseState:
    """The pause of the service at the time `now` of the database's clock."""

    now: datetime
    pause: PauseRecord | None


class Pauses:
    """The pause of one database. Every function raises Fault `database-unavailable` when it does not answer.

    `slots` are the rules of the configured clusters: when a pause ends, so many jobs are woken on each.
    """

    def __init__(self, database: Database, wakeups: WakeUps, slots: Mapping[str, SlotRules]) -> None:
        self._database = database
        self._wakeups = wakeups
        self._slots = slots

    async def state(self) -> PauseState:
        async with self._database.transaction() as connection:
            now, paused, *pause = (await connection.execute(_STATE)).one()
        return PauseState(now, PauseRecord(*pause) if paused else None)

    async def pause(self, reason: str | None, until: datetime | None, by: str) -> PauseRecord:
        """From now on no job begins to change anything, until a time or until `resume`; waiting jobs say why.

        Pausing twice keeps the first time, and takes the newer reason and end.
        """
        async with self._database.transaction() as connection:
            await connection.execute(_LOCK, {"lock": SERVICE_PAUSE})
            values = {"by": by, "reason": reason, "until": until}
            paused = PauseRecord(*(await connection.execute(_PAUSE, values)).one())
            hold = hold_of_pause(paused.reason, paused.until)
            told: dict[str, Any] = {"reason": hold.reason, "message": hold.message, "held": list(HOLD_REASONS)}
            await connection.execute(_TELL, {**told, "channel": JOB_CHANNEL})
            return paused

    async def resume(self) -> None:
        """Let jobs begin again. Without a pause this is harmless."""
        async with self._database.transaction() as connection:
            await connection.execute(_LOCK, {"lock": SERVICE_PAUSE})
            await connection.execute(_RESUME)
            await self._release(connection)

    async def end_if_over(self) -> bool:
        """Ends a pause whose time has come, as `resume` does. Answers whether there was one."""
        async with self._database.transaction() as connection:
            if not await connection.scalar(_IS_OVER):
                return False
            await connection.execute(_LOCK, {"lock": SERVICE_PAUSE})
            if (await connection.execute(_END)).one_or_none() is None:
                return False
            await self._release(connection)
            return True

    async def _release(self, connection: AsyncConnection) -> None:
        await release_paused(connection, self._wakeups, self._slots)

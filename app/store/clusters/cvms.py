"""The CVMs as the workers last found them, so that any replica can tell without asking one."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import text

from app.store.postgres.database import Database

# A replica that was frozen must not put back what another one has found since.
_STORE = text("""
INSERT INTO cvm AS c (cluster, address, is_up, changed_at, checked_at, fault_code, fault)
SELECT cluster, address, is_up, checked_at, checked_at, fault_code, fault
FROM jsonb_to_recordset(CAST(:found AS jsonb)) AS found(
  cluster text, address text, is_up boolean, checked_at timestamptz, fault_code text, fault text)
ORDER BY cluster, address
ON CONFLICT (cluster, address) DO UPDATE SET is_up = excluded.is_up, checked_at = excluded.checked_at,
  changed_at = CASE WHEN c.is_up = excluded.is_up THEN c.changed_at ELSE excluded.changed_at END,
  fault_code = excluded.fault_code, fault = excluded.fault
WHERE c.checked_at < excluded.checked_at
""")


@dataclass(frozen=True, slots=True)
class FoundCvm:
    """A CVM as it was found at `checked_at`; one that is not up has a fault."""

    cluster: str
    address: str
    is_up: bool
    checked_at: datetime
    fault_code: str | None
    fault: str | None


class Cvms:
    """The CVMs of one database. Every function raises Fault `database-unavailable` when it does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def store(self, found: Sequence[FoundCvm]) -> None:
        if found:
            rows = json.dumps([asdict(cvm) for cvm in found], default=datetime.isoformat)
            async with self._database.transaction() as connection:
                await connection.execute(_STORE, {"found": rows})

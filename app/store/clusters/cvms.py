"""The CVMs as the workers last found them, so that any replica can tell without asking one."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import text

from app.ngt.vocabulary import CvmState
from app.store.postgres.database import Database

# The state that a frozen replica found must not replace a later one.
_STORE = text("""
INSERT INTO cvm AS c (cluster, address, is_up, changed_at, checked_at, fault_code, fault)
SELECT :cluster, address, is_up, checked_at, checked_at, fault_code, fault
FROM jsonb_to_recordset(CAST(:found AS jsonb)) AS found(
  address text, is_up boolean, checked_at timestamptz, fault_code text, fault text)
ORDER BY address
ON CONFLICT (cluster, address) DO UPDATE SET is_up = excluded.is_up, checked_at = excluded.checked_at,
  changed_at = CASE WHEN c.is_up = excluded.is_up THEN c.changed_at ELSE excluded.changed_at END,
  fault_code = excluded.fault_code, fault = excluded.fault
WHERE c.checked_at < excluded.checked_at
""")


class Cvms:
    """The CVMs of one database. Every function raises Fault `database-unavailable` when it does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def store(self, cluster: str, found: Sequence[CvmState]) -> None:
        if found:
            rows = json.dumps([asdict(cvm) for cvm in found], default=datetime.isoformat)
            async with self._database.transaction() as connection:
                await connection.execute(_STORE, {"cluster": cluster, "found": rows})

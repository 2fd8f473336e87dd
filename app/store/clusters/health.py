"""The health of a cluster: its CVMs as the workers last found them, its scans and its open work."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from app.ngt.vocabulary import CvmState
from app.store.postgres.database import Database

_CVMS = text("""
SELECT address, is_up, checked_at, fault_code, fault, changed_at FROM cvm WHERE cluster = :cluster
""")
_CLUSTER = text("""
SELECT scanned_at, scan_fault_code, scan_fault, scan_fault_at, paused_at, paused_by, pause_reason,
  (SELECT count(*) FROM job WHERE cluster = :cluster AND NOT done) AS open_jobs,
  (SELECT count(*) FROM job WHERE cluster = :cluster AND NOT done AND stranded_since IS NOT NULL) AS stranded_vms,
  (SELECT count(*) FROM vm WHERE cluster = :cluster AND awaiting_pickup_since IS NOT NULL AND vanished_at IS NULL)
    AS vms_awaiting_pickup,
  EXISTS (SELECT FROM scan WHERE scan.cluster = :cluster AND vm_uuid IS NULL AND NOT done) AS scanning
FROM (VALUES (1)) AS one LEFT JOIN cluster ON name = :cluster
""")


@dataclass(frozen=True, slots=True)
class ClusterHealthRecord:
    """`cvms` by address, those alone of which something is known."""

    cvms: Mapping[str, CvmState]
    scanned_at: datetime | None
    scan_fault_code: str | None
    scan_fault: str | None
    scan_fault_at: datetime | None
    scanning: bool
    paused_at: datetime | None
    paused_by: str | None
    pause_reason: str | None
    open_jobs: int
    stranded_vms: int
    vms_awaiting_pickup: int


async def read_health(database: Database, cluster: str) -> ClusterHealthRecord:
    """Raises Fault `database-unavailable`."""
    async with database.transaction() as connection:
        found = (await connection.execute(_CVMS, {"cluster": cluster})).all()
        row = (await connection.execute(_CLUSTER, {"cluster": cluster})).mappings().one()
    return ClusterHealthRecord(cvms={cvm.address: CvmState(*cvm) for cvm in found}, **row)

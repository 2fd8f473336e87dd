"""How a row of `scan` becomes a record, and how a scan begins: stored, announced and with its wake-up, or joined."""

from dataclasses import fields
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, Select, Text, func, or_, select, text
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from uuid_utils.compat import uuid7

from app.ngt.vocabulary import VmUuid
from app.store.postgres.queue import WakeUps
from app.store.postgres.tables import SCAN
from app.store.records.callers import Caller
from app.store.records.scans import ScanCounts, ScanOrigin, ScanOutcome, ScanRecord, ScanStatus, StartedScan

SCAN_CHANNEL = "ngt_scan"
"""The channel on which every change of a scan is announced, with its id."""

_ANNOUNCED = func.pg_notify(SCAN_CHANNEL, sql_cast(SCAN.c.id, Text))
_COUNTS = tuple(field.name for field in fields(ScanCounts))


def newest_ended(cluster: str, vm_uuid: VmUuid | None) -> Select[Any]:
    """The newest scan that has ended, well or not, and that covers the VM: one of its own, or of all VMs.

    Without a VM the newest one of the whole cluster.
    """
    of_all = SCAN.c.vm_uuid.is_(None)
    covers = of_all if vm_uuid is None else or_(of_all, SCAN.c.vm_uuid == vm_uuid)
    ended = select(SCAN).where(SCAN.c.cluster == cluster, SCAN.c.done, covers)
    return ended.order_by(SCAN.c.finished_at.desc(), SCAN.c.id.desc()).limit(1)


async def start_scan(
    connection: AsyncConnection,
    wakeups: WakeUps,
    cluster: str,
    *,
    vm_uuid: VmUuid | None,
    origin: ScanOrigin,
    caller: Caller,
) -> StartedScan:
    """A new scan and the wake-up for it; or the open one of the same cluster and VM, which sees what is wanted too."""
    values = {
        "id": uuid7(),
        "cluster": cluster,
        "vm_uuid": vm_uuid,
        "origin": origin,
        "caller_id": caller.id,
        "caller": caller.name,
        "status": ScanStatus.QUEUED,
        "done": False,
        "message": "waits for its turn",
        "version": 1,
        "fence": 0,
        "due_at": func.clock_timestamp(),
    }
    new = insert(SCAN).values(values).on_conflict_do_nothing().returning(SCAN, _ANNOUNCED)
    same_vm = SCAN.c.vm_uuid.is_(None) if vm_uuid is None else SCAN.c.vm_uuid == vm_uuid
    same = select(SCAN).where(SCAN.c.cluster == cluster, same_vm, text("NOT done"))
    # An open scan that ends between the two statements leaves its place: then the next insert succeeds.
    while True:
        row = (await connection.execute(new)).mappings().first()
        if row is not None:
            await wakeups.wake_for_scan(connection, row["id"], whole_cluster=vm_uuid is None)
            return StartedScan(scan_record(row), joined=False)
        row = (await connection.execute(same)).mappings().first()
        if row is not None:
            return StartedScan(scan_record(row), joined=True)


def scan_record(row: RowMapping) -> ScanRecord:
    return ScanRecord(
        id=UUID(str(row["id"])),
        cluster=row["cluster"],
        vm_uuid=None if row["vm_uuid"] is None else VmUuid(row["vm_uuid"]),
        origin=ScanOrigin(row["origin"]),
        status=ScanStatus(row["status"]),
        done=row["done"],
        outcome=None if row["outcome"] is None else ScanOutcome(row["outcome"]),
        message=row["message"],
        error_code=row["error_code"],
        error_message=row["error_message"],
        counts=ScanCounts(**{name: row[name] for name in _COUNTS}),
        version=row["version"],
        caller_id=row["caller_id"],
        caller=row["caller"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        updated_at=row["updated_at"],
    )

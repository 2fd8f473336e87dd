"""Starting scans: a new one is stored, announced and woken in one transaction; an open one is joined."""

from sqlalchemy import Text, func, select, text
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from uuid_utils.compat import uuid7

from app.ngt.vocabulary import VmUuid
from app.store.postgres.queue import WakeUps
from app.store.postgres.tables import SCAN
from app.store.records.callers import Caller
from app.store.records.rows import scan_record
from app.store.records.scans import ScanOrigin, ScanStatus, StartedScan

SCAN_CHANNEL = "ngt_scan"
"""The channel on which every change of a scan is announced, with its id."""

_NOTIFY = func.pg_notify(SCAN_CHANNEL, sql_cast(SCAN.c.id, Text))


async def start_scan(
    connection: AsyncConnection,
    wakeups: WakeUps,
    cluster: str,
    *,
    vm_uuid: VmUuid | None,
    origin: ScanOrigin,
    caller: Caller,
) -> StartedScan:
    """A new scan with its wake-up, or the open one of the same cluster and VM (`joined`)."""
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
    new = insert(SCAN).values(values).on_conflict_do_nothing().returning(SCAN, _NOTIFY)
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

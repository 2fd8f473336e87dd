"""What is remembered of VMs: on which clusters they were seen, and their last renewal."""

from datetime import timedelta

from sqlalchemy import Interval, bindparam, func, select

from app.ngt.vocabulary import VmUuid
from app.store.database import Database
from app.store.tables import VM


class Vms:
    """The VMs of one database. Every function raises Fault `database-unavailable` when it does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def known_cluster(self, vm_uuid: VmUuid) -> tuple[str, ...]:
        """The clusters on which the VM was seen, the latest first; none when it was never seen."""
        seen = select(VM.c.cluster).where(VM.c.vm_uuid == vm_uuid)
        async with self._database.transaction() as connection:
            return tuple((await connection.scalars(seen.order_by(VM.c.observed_at.desc().nulls_last()))).all())

    async def renewed_recently(self, vm_uuid: VmUuid, within: timedelta) -> bool:
        """Whether a renewal of the VM was proved less than `within` ago, on any cluster."""
        recently = VM.c.renewed_at > func.now() - bindparam("within", within, Interval)
        proved = select(VM.c.vm_uuid).where(VM.c.vm_uuid == vm_uuid, recently).limit(1)
        async with self._database.transaction() as connection:
            return await connection.scalar(proved) is not None

"""What is remembered of VMs: on which clusters they were seen, and their last renewal."""

from datetime import datetime

from sqlalchemy import select

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

    async def renewed_at(self, vm_uuid: VmUuid, cluster: str) -> datetime | None:
        """When a renewal of the VM was last proved on that cluster."""
        proved = select(VM.c.renewed_at).where(VM.c.vm_uuid == vm_uuid, VM.c.cluster == cluster)
        async with self._database.transaction() as connection:
            return await connection.scalar(proved)

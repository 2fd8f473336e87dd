"""VMs as the scans and the sources of certificates leave them in the store."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import insert

from app.store.postgres.tables import VM
from tests.api.conftest import Service


def from_now(**of: float) -> datetime:
    """A time in whole seconds, as certificates have it."""
    return (datetime.now(UTC) + timedelta(**of)).replace(microsecond=0)


async def add_vm(service: Service, name: str | None = None, *, cluster: str = "c1", **columns: Any) -> str:
    """The UUID of the new VM."""
    vm_uuid = str(columns.pop("vm_uuid", uuid4()))
    async with service.services.store.database.transaction() as connection:
        await connection.execute(insert(VM).values(vm_uuid=vm_uuid, cluster=cluster, name=name, **columns))
    return vm_uuid


def written(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%S}Z"

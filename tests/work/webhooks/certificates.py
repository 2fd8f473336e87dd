"""VMs with certificates that end, and rounds of warnings at times of the test's own."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import insert, select, update

from app.ngt.vocabulary import VmUuid
from app.settings import Warnings, WebhookTarget
from app.store.clusters.pause import Clusters
from app.store.postgres.database import Database
from app.store.postgres.tables import CERTIFICATE_WARNING, CLUSTER, JOB, VM
from app.store.warnings import CertificateWarnings, Told
from app.store.webhooks.outbox import Outbox
from tests.store.conftest import new_vm
from tests.work.webhooks.rows import Row, deliveries
from tests.work.webhooks.samples import target

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def days(number: float) -> timedelta:
    return timedelta(days=number)


@dataclass(slots=True)
class Certificates:
    """The VMs of the cluster c1, and who is told of them. `left` are days after `NOW`."""

    database: Database
    targets: Mapping[str, WebhookTarget]

    async def add(self, left: float | None, **columns: Any) -> VmUuid:
        """A VM that was seen, whose cluster reported that date."""
        vm = new_vm()
        await self.add_many([self.row(vm, left, **columns)])
        return vm

    def row(self, vm: VmUuid, left: float | None, **columns: Any) -> Row:
        dated: Row = {
            "not_after": None if left is None else NOW + days(left),
            "certificate_source": None if left is None else "cvm_expiry_date",
            "certificate_observed_at": NOW,
        }
        return {"vm_uuid": vm, "cluster": "c1", "name": "web01", **dated, **columns}

    async def add_many(self, rows: list[Row]) -> None:
        async with self.database.transaction() as connection:
            await connection.execute(insert(VM), rows)

    async def change(self, vm: VmUuid, **columns: Any) -> None:
        async with self.database.transaction() as connection:
            await connection.execute(update(VM).where(VM.c.vm_uuid == vm).values(**columns))

    async def change_job(self, job_id: UUID, **columns: Any) -> None:
        async with self.database.transaction() as connection:
            await connection.execute(update(JOB).where(JOB.c.id == job_id).values(**columns))

    async def scanned(self, **columns: Any) -> None:
        """The cluster had a whole scan, unless it is said otherwise."""
        await Clusters(self.database).ensure(["c1"])
        async with self.database.transaction() as connection:
            await connection.execute(update(CLUSTER).values(**{"scanned_at": NOW - days(0.4), **columns}))

    async def round(self, after: float = 0, cluster: str = "c1", **settings: Any) -> Told:
        """One round, so many days after `NOW`, of a service that was just started."""
        return await self.warnings(**settings).tell(cluster, NOW + days(after))

    def warnings(self, **settings: Any) -> CertificateWarnings:
        return CertificateWarnings(self.database, Outbox(self.targets), Warnings(**settings))

    async def told(self) -> list[tuple[str, Any]]:
        """The end of each event's name and its `days_before`, oldest first, as one target was told them."""
        return [
            (row["event"].rpartition(".")[2], row["facts"].get("days_before"))
            for row in await deliveries(self.database)
            if row["target"] == next(iter(self.targets))
        ]

    async def digests(self) -> list[Row]:
        return [row["facts"] for row in await deliveries(self.database) if row["event"] == "ngt.certificate.digest"]

    async def remembered(self) -> list[tuple[int, bool]]:
        """(days_before, own_event) of every warning."""
        async with self.database.transaction() as connection:
            columns = CERTIFICATE_WARNING.c.days_before, CERTIFICATE_WARNING.c.own_event
            order = CERTIFICATE_WARNING.c.warned_at, CERTIFICATE_WARNING.c.days_before.desc()
            return [
                (row.days_before, row.own_event) for row in await connection.execute(select(*columns).order_by(*order))
            ]


def of(database: Database, *targets: WebhookTarget) -> Certificates:
    """With one target that is told of everything, unless others are given."""
    return Certificates(database, {one.name: one for one in targets or (target(name="all"),)})

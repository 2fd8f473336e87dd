"""A service in which everything exists that the examples of the document name, all of it on the first cluster."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

from sqlalchemy import func, select

from app.settings import Callers, ClusterSettings, Settings, WebhookTarget
from app.settings.callers.scopes import Scope
from app.store.postgres.tables import CORRELATION, DELIVERY, JOB, SCAN
from app.store.records.webhooks import DeliveryStatus
from tests.api.conftest import Service, serving
from tests.contract.operations import OPERATIONS, Json

FIRST, SECOND = "c1", "c2"
RENEW = OPERATIONS["renewVmNgtCertificate"]
VM = RENEW.targets()["vm_uuid"]
JOB_ID = OPERATIONS["getJob"].targets()["job_id"]
NOTES: Json = {name: (RENEW.body or {})[name] for name in ("correlation_id", "change_number")}
SCAN_ID = OPERATIONS["getScan"].targets()["scan_id"]
DELIVERY_ID = OPERATIONS["replayDelivery"].targets()["delivery_id"]
WEBHOOK = OPERATIONS["listDeliveries"].targets()["webhook"]
# What only those may learn who may use the first cluster.
FACTS: dict[str, str] = {
    "cluster": FIRST,
    "vm_uuid": VM,
    "job_ids": JOB_ID,
    "scan_id": SCAN_ID,
    "delivery_id": DELIVERY_ID,
    "webhook": WEBHOOK,
    **NOTES,
}


def settings_of(folder: Path) -> Settings:
    """Two clusters; the examples of the document are about the first."""
    key_file = folder / "key"

    def cluster(cvm: str) -> ClusterSettings:
        given: Json = {"cvms": (cvm,), "key_file": key_file, "known_hosts": key_file, "restart_agent": "manual"}
        return ClusterSettings(**given)

    clusters = {FIRST: cluster("10.0.0.31"), SECOND: cluster("10.0.0.32")}
    # Nobody is locked out here who tries one bad credential after the other, and one answer is as the other.
    callers = Callers(failed_logins_per_minute=0, requests_per_minute=0)
    webhook = WebhookTarget(name=WEBHOOK, url="https://itsm.example/", secret_files=(key_file,), clusters=(FIRST,))
    return Settings(data_dir=folder, clusters=clusters, callers=callers, webhooks={WEBHOOK: webhook})


@asynccontextmanager
async def with_examples(folder: Path, database_url: str) -> AsyncIterator[Service]:
    """What the document's examples name exists on the first cluster: the VM, a job for it, a scan, and a delivery."""
    async with serving(settings_of(folder), database_url) as running:
        await running.saw(VM, FIRST)
        async with running.client(await running.key(*Scope)) as client:
            started = await RENEW.call(client)
        assert started.status_code == 202, started.text
        async with running.services.store.database.transaction() as connection:
            made = JOB.c.id == UUID(started.json()["id"])
            job = dict((await connection.execute(select(JOB).where(made))).mappings().one())
            await connection.execute(JOB.delete().where(made))
            await connection.execute(JOB.insert().values(**job | {"id": UUID(JOB_ID)}))
            await connection.execute(
                CORRELATION.insert().values(job_id=UUID(JOB_ID), correlation_id=FACTS["correlation_id"])
            )
            delivery = {"id": UUID(DELIVERY_ID), "target": WEBHOOK, "job_id": UUID(JOB_ID), "cluster": FIRST}
            event = {"event": "ngt.renewal.failed", "facts": {}, "status": DeliveryStatus.EXHAUSTED}
            await connection.execute(DELIVERY.insert().values(**delivery, **event))
            scan = {"id": UUID(SCAN_ID), "cluster": FIRST, "origin": "requested", "caller_id": "", "caller": "somebody"}
            end = {"status": "succeeded", "done": True, "outcome": "complete", "message": "", "version": 3, "fence": 1}
            await connection.execute(SCAN.insert().values(**scan, **end, finished_at=func.now()))
        yield running

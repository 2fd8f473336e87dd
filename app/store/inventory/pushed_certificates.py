"""Certificates that callers hand in: kept with the VM, and told to its job where they can be what it waits for."""

from dataclasses import asdict

from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.ngt.renewal.progress import PICKUP_WAITS, PushedCertificate
from app.ngt.renewal.proof import proof_by_push
from app.ngt.vocabulary import Certificate, CertificateSource, VmUuid
from app.store.jobs.progress_json import load_progress
from app.store.jobs.updates import update_job
from app.store.observations import store_observations
from app.store.postgres.database import Database
from app.store.postgres.queue import WakeUps
from app.store.postgres.tables import JOB
from app.store.records.inventory import Observation
from app.store.records.jobs import JobStatus

_NOW = text("SELECT clock_timestamp()")


class PushedCertificates:
    """Those of one database. Every function raises Fault `database-unavailable` when it does not answer."""

    def __init__(self, database: Database, wakeups: WakeUps) -> None:
        self._database = database
        self._wakeups = wakeups

    async def push(self, vm_uuid: VmUuid, cluster: str, certificate: Certificate, given_by: str) -> None:
        """Stores the certificate with a VM that is known there, and has its open job look if that can be proved by it.

        Two transactions, since one would hold the VM and its job, which others lock in another order. After a crash
        between them the caller repeats the request, and the job finds the certificate at its next turn.
        """
        async with self._database.transaction() as connection:
            at = await connection.scalar(_NOW)
            assert at is not None
            pushed = PushedCertificate(at, certificate, given_by)
            await store_observations(connection, cluster, [_observation(vm_uuid, pushed)])
        async with self._database.transaction() as connection:
            await self._tell_job(connection, vm_uuid, cluster, pushed)

    async def _tell_job(
        self, connection: AsyncConnection, vm_uuid: VmUuid, cluster: str, pushed: PushedCertificate
    ) -> None:
        """Waits for a release of the job that is under way, so that the certificate is not missed."""
        is_its = JOB.c.vm_uuid == vm_uuid, JOB.c.cluster == cluster, ~JOB.c.done, ~JOB.c.validate_only
        found = select(JOB).where(*is_its).with_for_update(key_share=True)
        job = (await connection.execute(found)).mappings().first()
        if job is None or proof_by_push(load_progress(job["progress"]), pushed) is None:
            return
        if job["status"] == JobStatus.WAITING and job["wait_reason"] in PICKUP_WAITS:
            await connection.execute(update_job(job["id"], look_now=True, due_at=func.now()))
            await self._wakeups.wake(connection, job["id"])
        else:
            await connection.execute(update(JOB).where(JOB.c.id == job["id"]).values(look_now=True))


def _observation(vm_uuid: VmUuid, pushed: PushedCertificate) -> Observation:
    source = CertificateSource.PUSHED_CERTIFICATE
    return Observation(vm_uuid, source, pushed.at, **asdict(pushed.certificate), given_by=pushed.given_by)

"""All that is stored of a VM, its cluster and its last renewal, read at one time as the facts of a diagnosis."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import RowMapping, Select, and_, func, or_, select, text, true
from sqlalchemy.ext.asyncio import AsyncConnection

from app.ngt.diagnosis.facts import ClusterFacts, Facts, JobFacts, KnownCertificateDates, VmFacts
from app.ngt.errors import RULES, FaultCode
from app.ngt.renewal.progress import EntityStage, Progress, Sighting, WaitReason
from app.ngt.vocabulary import CertificateSource, CvmState, PowerState, VmUuid
from app.settings import split_address
from app.store.inventory.search import WHERE_IT_IS
from app.store.jobs.holds import PAUSE_STANDS
from app.store.jobs.progress_json import load_progress, load_sighting
from app.store.postgres.database import Database
from app.store.postgres.tables import CERTIFICATE_OBSERVATION, CLUSTER, CVM, JOB, PAUSE, VM
from app.store.records.callers import Caller
from app.store.records.rows import record_of
from app.store.records.scans import ScanStatus
from app.store.scans.queries import newest_ended


@dataclass(frozen=True, slots=True)
class StoredFacts:
    """`facts` without what the configuration says of the cluster, and the database's time of reading them."""

    facts: Facts
    read_at: datetime


class DiagnosisFacts:
    """The stored facts of a diagnosis. Every method may raise Fault `database-unavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, vm_uuid: VmUuid, clusters: Collection[str], caller: Caller) -> StoredFacts | None:
        """None for a VM that is known on none of the clusters. Of its jobs only those that the caller may see count."""
        async with self._database.transaction() as connection:
            row = (await connection.execute(_vm(vm_uuid, clusters))).mappings().first()
            if row is None:
                return None
            job = (await connection.execute(_last_job(vm_uuid, row["cluster"], caller))).mappings().first()
            pause = (await connection.execute(_PAUSE)).mappings().first()
            facts = Facts(
                vm=await _vm_facts(connection, row),
                cluster=await _cluster_facts(connection, row["cluster"], vm_uuid),
                job=None if job is None else _job_facts(job),
                service_paused_at=None if pause is None else pause["paused_at"],
                service_pause_reason=None if pause is None else pause["reason"],
            )
            read_at = await connection.scalar(select(func.clock_timestamp()))
            assert read_at is not None
            return StoredFacts(facts, read_at)


_PAUSE = select(PAUSE).where(text(PAUSE_STANDS))


def _vm(vm_uuid: VmUuid, clusters: Collection[str]) -> Select[tuple[object, ...]]:
    wanted = select(VM).where(VM.c.vm_uuid == vm_uuid, VM.c.cluster.in_(clusters))
    return wanted.order_by(*WHERE_IT_IS).limit(1)


def _last_job(vm_uuid: VmUuid, cluster: str, caller: Caller) -> Select[tuple[object, ...]]:
    on_cluster = JOB.c.cluster == cluster
    # A job whose VM was not found yet has no cluster, and is shown to a key of some clusters only where it is its own.
    own = true() if caller.clusters is None else JOB.c.caller_id == caller.id
    not_found_yet = and_(JOB.c.cluster.is_(None), own)
    wanted = select(JOB).where(JOB.c.vm_uuid == vm_uuid, ~JOB.c.validate_only, or_(on_cluster, not_found_yet))
    return wanted.order_by(JOB.c.created_at.desc(), JOB.c.id.desc()).limit(1)


async def _vm_facts(connection: AsyncConnection, row: RowMapping) -> VmFacts:
    said = CERTIFICATE_OBSERVATION.c.vm_uuid == row["vm_uuid"], CERTIFICATE_OBSERVATION.c.cluster == row["cluster"]
    sources = (await connection.scalars(select(CERTIFICATE_OBSERVATION.c.source).where(*said))).all()
    certificate = None
    if row["not_after"] is not None:
        source = CertificateSource(row["certificate_source"])
        certificate = KnownCertificateDates(source, row["certificate_observed_at"], row["not_after"])
    vm = record_of(
        VmFacts,
        row,
        seen_at=row["last_seen_at"],
        power=PowerState(row["power"] or PowerState.UNKNOWN),
        addresses=tuple(row["addresses"]),
        certificate=certificate,
        date_sources=frozenset(map(CertificateSource, sources)),
    )
    sighting = row["sighting"]
    return vm if sighting is None else _as_watched(vm, load_sighting(sighting))


def _as_watched(vm: VmFacts, sighting: Sighting) -> VmFacts:
    """The VM as the watch over waiting jobs saw it, where that is newer than the last scan."""
    if vm.seen_at is not None and vm.seen_at >= sighting.at:
        return vm
    entity = sighting.entity
    seen = replace(vm, seen_at=sighting.at, power=vm.power if sighting.power is PowerState.UNKNOWN else sighting.power)
    if entity is None:
        return replace(
            seen, has_entity=False, ngt_uuid=None, ngt_enabled=None, iso_mounted=None, link_active=None,
            communication_type=None,
        )  # fmt: skip
    return replace(
        seen,
        name=vm.name or entity.name,
        has_entity=True,
        ngt_uuid=entity.ngt_uuid,
        ngt_enabled=entity.enabled,
        iso_mounted=entity.iso_mounted,
        link_active=entity.link_active,
        communication_type=entity.communication_type,
    )


async def _cluster_facts(connection: AsyncConnection, name: str, vm_uuid: VmUuid) -> ClusterFacts:
    row = (await connection.execute(select(CLUSTER).where(CLUSTER.c.name == name))).mappings().first()
    of_cluster = select(CVM).where(CVM.c.cluster == name).order_by(CVM.c.address)
    cvms = tuple(
        CvmState(**{name: row[name] for name in CvmState.__slots__})
        for row in (await connection.execute(of_cluster)).mappings()
    )
    scan = (await connection.execute(newest_ended(name, vm_uuid))).mappings().first()
    saw_nothing = scan is not None and scan["status"] == ScanStatus.FAILED
    return ClusterFacts(
        cvms=cvms,
        scan_fault=(scan["error_message"] or scan["message"]) if scan is not None and saw_nothing else None,
        scan_fault_at=scan["finished_at"] if scan is not None and saw_nothing else None,
        paused_at=None if row is None else row["paused_at"],
        pause_reason=None if row is None else row["pause_reason"],
    )


def _job_facts(row: RowMapping) -> JobFacts:
    progress = load_progress(row["progress"])
    before = progress.before.guest if progress.before is not None else None
    guest = progress.guest or before
    return record_of(
        JobFacts,
        row,
        wait_reason=WaitReason(row["wait_reason"]) if row["wait_reason"] is not None else None,
        error_code=FaultCode(row["error_code"]) if row["error_code"] in RULES else None,
        stranded=row["stranded_since"] is not None,
        delete_begun=progress.delete_begun,
        issued=progress.entity is EntityStage.ISSUED,
        guest_names=guest.ngt_uuid if guest is not None else None,
        entities=_entities(progress),
        guest_address=split_address(guest.address)[0] if guest is not None else None,
    )


def _entities(progress: Progress) -> frozenset[str]:
    """The tools entities that the cluster showed for this VM while the job was at work."""
    first = progress.before.sighting if progress.before is not None else None
    looks = (first, progress.between, progress.seen, progress.after)
    entities = (look.entity for look in looks if look is not None)
    return frozenset(entity.ngt_uuid for entity in entities if entity is not None and entity.ngt_uuid is not None)

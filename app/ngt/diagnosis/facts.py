"""What a diagnosis goes by: all that is known of a VM, its cluster and its last renewal, at one moment.

A fact that was not said is None, never a guess. Times are aware and UTC.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from app.ngt.errors import FaultCode
from app.ngt.inventory import names_another_entity
from app.ngt.renewal.progress import Failure, WaitReason
from app.ngt.renewal.request import Mode, RestartAgent
from app.ngt.vocabulary import CertificateSource, CvmState, PowerState, VmUuid

OLD_DAYS = 14
"""What was seen longer ago is called old."""


@dataclass(frozen=True, slots=True)
class KnownCertificateDates:
    """The best that is known of the VM's certificate."""

    source: CertificateSource
    observed_at: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class VmFacts:
    """The VM as it was last seen on its cluster. `seen_at` None: only a job has named it so far.

    `date_sources`: all sources that have said a date. `has_entity` None: the query was not answered.
    """

    vm_uuid: VmUuid
    cluster: str
    name: str | None = None
    seen_at: datetime | None = None
    vanished_at: datetime | None = None
    power: PowerState = PowerState.UNKNOWN
    addresses: tuple[str, ...] = ()
    has_entity: bool | None = None
    ngt_uuid: str | None = None
    ngt_enabled: bool | None = None
    iso_mounted: bool | None = None
    link_active: bool | None = None
    communication_type: str | None = None
    guest_fault_code: str | None = None
    guest_fault: str | None = None
    certificate: KnownCertificateDates | None = None
    date_sources: frozenset[CertificateSource] = frozenset()
    renewed_at: datetime | None = None
    awaiting_pickup_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class JobFacts:
    """The VM's last renewal that was to change something, and what it learnt.

    `deletes_begun`, `issued`: what it did to the entity. `guest_names`: the entity that the guest itself named when it
    was last read, `entities`: those that the cluster showed for this VM; `guest_address`: where it was read.
    """

    id: UUID
    done: bool
    message: str = ""
    outcome: str | None = None
    wait_reason: WaitReason | None = None
    error_code: FaultCode | None = None
    error_message: str | None = None
    remaining_action: str | None = None
    finished_at: datetime | None = None
    stranded: bool = False
    delete_begun: bool = False
    issued: bool = False
    guest_names: str | None = None
    entities: frozenset[str] = frozenset()
    guest_address: str | None = None


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """What the configuration says of the cluster, and what is remembered of it.

    `guest_access`: the configuration has SSH access to this VM's guest. `scan_fault`: why the last scan failed.
    """

    mode: Mode = Mode.RECREATE
    restart_agent: RestartAgent = RestartAgent.SSH
    accept_unverified: bool = False
    guest_access: bool = False
    cvms: tuple[CvmState, ...] = ()
    scan_fault: str | None = None
    scan_fault_at: datetime | None = None
    paused_at: datetime | None = None
    pause_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """All of it. `look_failed`: the look that was made for this diagnosis met this."""

    vm: VmFacts
    cluster: ClusterFacts
    job: JobFacts | None = None
    look_failed: Failure | None = None
    service_paused_at: datetime | None = None
    service_pause_reason: str | None = None


# What they come to.


def is_expired(certificate: KnownCertificateDates | None, now: datetime) -> bool:
    return _is_seen(certificate) and certificate is not None and certificate.not_after <= now


def is_good(certificate: KnownCertificateDates | None, now: datetime) -> bool:
    return _is_seen(certificate) and certificate is not None and certificate.not_after > now


def _is_seen(certificate: KnownCertificateDates | None) -> bool:
    """A computed date is nobody's observation: it is never called valid, nor expired."""
    return certificate is not None and certificate.source is not CertificateSource.COMPUTED


def is_old(at: datetime | None, now: datetime) -> bool:
    return at is not None and now - at > timedelta(days=OLD_DAYS)


def is_serial(vm: VmFacts) -> bool:
    return "serial" in (vm.communication_type or "").lower()


def was_reached(vm: VmFacts) -> bool:
    """The guest was reached over SSH the last time, although its certificate does not count or is not there."""
    return vm.guest_fault_code in {FaultCode.GUEST_NAMES_ANOTHER_ENTITY, FaultCode.GUEST_CERTIFICATE_MISSING}


def names_another(vm: VmFacts, job: JobFacts | None) -> bool:
    """The guest named an entity that was none of this VM's; after a renewal that was proved it has its own."""
    if vm.guest_fault_code == FaultCode.GUEST_NAMES_ANOTHER_ENTITY:
        return True
    if job is None or job.outcome == "renewed":
        return False
    return names_another_entity(job.guest_names, vm.ngt_uuid, *job.entities)


def has_moved(vm: VmFacts, job: JobFacts | None) -> bool:
    if job is None or job.guest_address is None:
        return False
    return bool(vm.addresses) and job.guest_address not in vm.addresses


def ended_badly(vm: VmFacts, job: JobFacts | None, *, good: bool) -> bool:
    """Unless it was mended since: a certificate that is good was seen after the job, and the agent is connected."""
    if job is None or not job.done:
        return False
    if job.outcome != "failed" and not (job.outcome == "cancelled" and job.remaining_action):
        return False
    seen_since = (
        vm.certificate is not None and job.finished_at is not None and vm.certificate.observed_at > job.finished_at
    )
    return not (good and seen_since and vm.link_active is True and vm.awaiting_pickup_since is None)

"""The facts of a diagnosis: all that is known of a VM, its cluster and its last renewal, at one moment.

An unknown fact is None, never a guess. Times are aware and UTC.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from app.ngt.errors import FaultCode
from app.ngt.renewal.progress import Failure, WaitReason
from app.ngt.renewal.request import Mode, RestartAgent
from app.ngt.vocabulary import CertificateSource, CvmState, PowerState, VmUuid


@dataclass(frozen=True, slots=True)
class KnownCertificateDates:
    """The selected date of the VM's certificate, and its source."""

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
    """The VM's last renewal, plans apart, and its results.

    `delete_begun`, `issued`: its changes of the entity. `guest_names`: the entity that the guest itself named when it
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
    """The cluster as it is configured, and as it was last found.

    `guest_access`: the configuration has SSH access to this VM's guest. `scan_fault`: why the last scan failed.
    """

    mode: Mode = Mode.RECREATE
    restart_agent: RestartAgent = RestartAgent.SSH
    accept_unverified: bool = False
    renewed_recently_s: float = 86400
    guest_access: bool = False
    cvms: tuple[CvmState, ...] = ()
    scan_fault: str | None = None
    scan_fault_at: datetime | None = None
    paused_at: datetime | None = None
    pause_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """All facts. `look_failed`: the fault of the scan that was made for this diagnosis."""

    vm: VmFacts
    cluster: ClusterFacts
    job: JobFacts | None = None
    look_failed: Failure | None = None
    service_paused_at: datetime | None = None
    service_pause_reason: str | None = None

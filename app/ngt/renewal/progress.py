"""What a renewal was asked to do, and what it knows so far: frozen values without behaviour of their own.

All of it is stored with the job after every step, so whoever takes the job over knows what its predecessor knew.
Times are aware, UTC, and of the database's clock unless a name says otherwise.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from app.ngt.errors import FaultCode
from app.ngt.tools.command_lines import Tools
from app.ngt.vocabulary import Certificate, PowerState, VmToolsEntity, VmUuid


class Mode(StrEnum):
    """How the cluster is made to issue a new certificate."""

    RECREATE = "recreate"
    REFRESH = "refresh"


class RestartAgent(StrEnum):
    """Who restarts the agent in the guest: this service over SSH, or a person."""

    SSH = "ssh"
    MANUAL = "manual"


class WhenPoweredOff(StrEnum):
    """What to do about a VM that is off."""

    REFUSE = "refuse"
    PROCEED = "proceed"


class StepName(StrEnum):
    """The steps of a renewal, in order."""

    FIND_VM = "find_vm"
    READ_NGT_BEFORE = "read_ngt_before"
    RECREATE_ENTITY = "recreate_entity"
    REFRESH_ENTITY = "refresh_entity"
    MOUNT_ISO = "mount_iso"
    RESTART_AGENT = "restart_agent"
    VERIFY = "verify"
    RESTORE_CAPABILITIES = "restore_capabilities"


class WaitReason(StrEnum):
    """Why a job waits, as it stands in `wait_reason`."""

    UNANSWERED_CHANGE = "unanswered_change"
    ENTITY_MISSING = "entity_missing"
    CLUSTER_HAS_STRANDED_VM = "cluster_has_stranded_vm"
    SERVICE_PAUSED = "service_paused"
    CLUSTER_BUSY = "cluster_busy"
    CLUSTER_PAUSED = "cluster_paused"
    CLUSTER_NOT_PROVEN = "cluster_not_proven"
    CVM_UNREACHABLE = "cvm_unreachable"
    NO_FREE_CDROM_SLOT = "no_free_cdrom_slot"
    AGENT_RESTART = "agent_restart"
    VM_POWERED_OFF = "vm_powered_off"
    GUEST_UNREACHABLE = "guest_unreachable"
    PICKUP = "pickup"


# While a job waits for a person, it may be cancelled although the certificate was issued.
PERSON_WAITS = frozenset({WaitReason.AGENT_RESTART, WaitReason.NO_FREE_CDROM_SLOT, WaitReason.VM_POWERED_OFF})
# While a job waits for the guest to pick its certificate up, the watch looks for it.
PICKUP_WAITS = frozenset(
    {WaitReason.AGENT_RESTART, WaitReason.VM_POWERED_OFF, WaitReason.GUEST_UNREACHABLE, WaitReason.PICKUP}
)


@dataclass(frozen=True, slots=True)
class RenewalRequest:
    """What was asked; None means: what the cluster's configuration says. `clusters` are those that may be searched."""

    mode: Mode | None = None
    force: bool = False
    skip_if_valid_days: int | None = None
    cluster: str | None = None
    clusters: tuple[str, ...] = ()
    restart_agent: RestartAgent | None = None
    when_powered_off: WhenPoweredOff = WhenPoweredOff.REFUSE
    create_if_absent: bool = False
    accept_unverified: bool | None = None
    validate_only: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """What the configuration says for one cluster. Numbers are seconds unless the name says otherwise."""

    mode: Mode = Mode.RECREATE
    restart_agent: RestartAgent = RestartAgent.SSH
    accept_unverified: bool = False
    tools: Tools = Tools()  # noqa: RUF009 - frozen, so one instance may serve all
    restart_command: str | None = None
    verify_timeout_ssh_s: float = 1800
    verify_timeout_manual_s: float = 604800
    start_window_s: float = 30
    change_margin_s: float = 30
    settle_s: float = 60
    clock_max_age_s: float = 60
    delete_timeout_s: int = 60
    create_timeout_s: int = 60
    mount_timeout_s: int = 60
    refresh_timeout_s: int = 120
    retry_first_s: float = 5
    retry_last_s: float = 300
    unreachable_retries: int = 3
    guest_read_delays_s: tuple[float, ...] = (5, 30, 60, 120, 300, 600)
    renewed_recently_s: float = 86400


@dataclass(frozen=True, slots=True)
class FoundVm:
    """The VM on its cluster. `guest_address`: where its guest can be reached over SSH, if anywhere."""

    name: str
    power: PowerState
    addresses: tuple[str, ...]
    guest_address: str | None
    restart_command: str | None = None
    renewed_at: datetime | None = None
    # An earlier renewal issued a certificate that was not seen in the guest yet.
    awaiting_pickup: bool = False
    # The last certificate that somebody handed in for it.
    handed_in: Certificate | None = None


@dataclass(frozen=True, slots=True)
class Sighting:
    """The VM's tools entity as a CVM showed it; `entity` None: others were listed, this one was not."""

    at: datetime
    entity: VmToolsEntity | None
    power: PowerState = PowerState.UNKNOWN


@dataclass(frozen=True, slots=True)
class CvmClock:
    """The clock of the CVM that answered the last look: its Unix time is the database's plus `offset_s`."""

    cvm: str
    offset_s: float
    read_at: datetime
    refresh_offered: bool | None = None


@dataclass(frozen=True, slots=True)
class GuestSighting:
    """What the guest itself showed; `certificate` None: it was reached and has none."""

    at: datetime
    certificate: Certificate | None
    ngt_uuid: str | None
    address: str
    host_key: str


@dataclass(frozen=True, slots=True)
class PushedCertificate:
    """A certificate that somebody handed in as the one that the guest has: who, and when."""

    at: datetime
    certificate: Certificate
    given_by: str | None = None


@dataclass(frozen=True, slots=True)
class Before:
    """The job's first reading. A retry does not read it anew."""

    sighting: Sighting
    guest: GuestSighting | None
    guest_fault: str | None = None
    guest_fault_code: FaultCode | None = None


class EntityStage(StrEnum):
    """What our changes have made of the VM's tools entity."""

    UNTOUCHED = "untouched"
    MISSING = "missing"
    ISSUED = "issued"


@dataclass(frozen=True, slots=True)
class Intent:
    """A changing text that was sent, or is about to be. Until its answer is stored it may be at work on the CVM."""

    step: StepName
    marker: str
    cvm: str
    not_after_s: int
    remote_until_at: datetime
    deletes: bool
    lost: bool = False
    looks: tuple[Sighting, ...] = ()


class ProvedBy(StrEnum):
    """What proves a renewal; `link_only` proves nothing and leads to the outcome `unverified`."""

    GUEST_CERTIFICATE = "guest_certificate"
    PUSHED_CERTIFICATE = "pushed_certificate"
    CVM_EXPIRY_DATE = "cvm_expiry_date"
    LINK_ONLY = "link_only"


@dataclass(frozen=True, slots=True)
class Proof:
    """The evidence on which a job ends well."""

    by: ProvedBy
    at: datetime
    not_after: datetime | None = None
    not_before: datetime | None = None
    serial: str | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the job ends, or what its last try met."""

    code: FaultCode
    message: str


@dataclass(frozen=True, slots=True)
class Progress:
    """Everything one renewal knows. The order of the fields is the order in which they are learnt."""

    vm_uuid: VmUuid
    request: RenewalRequest
    cluster: str | None = None
    vm: FoundVm | None = None
    # The last look at the entity, and the clock of the CVM that gave it.
    seen: Sighting | None = None
    clock: CvmClock | None = None
    before: Before | None = None
    # The change that was begun and has no stored answer.
    intent: Intent | None = None
    entity: EntityStage = EntityStage.UNTOUCHED
    delete_begun: bool = False
    missing_since: datetime | None = None
    # A definite refusal of a change that must be looked at before it is judged.
    refused: Failure | None = None
    issued_at: datetime | None = None
    # The first look after the entity was issued and before the ISO was mounted.
    between: Sighting | None = None
    mounted_at: datetime | None = None
    # An earlier attempt mounted the ISO.
    was_mounted: bool = False
    verify_by: datetime | None = None
    restarted_at: datetime | None = None
    # Somebody said, or the cluster shows, that something happened: verify now.
    reported: bool = False
    news: bool = False
    guest: GuestSighting | None = None
    guest_reads: int = 0
    guest_read_at: datetime | None = None
    pushed: PushedCertificate | None = None
    proof: Proof | None = None
    after: Sighting | None = None
    capabilities_tried: bool = False
    last_check: bool = False
    # Back-off of what is being tried at the moment.
    tries: int = 0
    retry_at: datetime | None = None
    trouble: Failure | None = None
    lost_answers: int = 0
    # Set when nothing more can be done: the job ends with it.
    failed: Failure | None = None

"""The progress of one renewal: everything it knows, and the facts that follow from it.

The progress is stored with the job after every step, so the worker that takes the job over knows as much.
Times are aware, in UTC, and of the database's clock.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self

from app.ngt.backoff import backoff
from app.ngt.errors import FaultCode
from app.ngt.renewal.request import Mode, RenewalRequest, RestartAgent, Rules
from app.ngt.vocabulary import Certificate, PowerState, VmToolsEntity, VmUuid


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
    """The reason of a wait, as the member `wait_reason` shows it."""

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


# A job that waits for a person may be cancelled although the certificate was issued.
PERSON_WAITS = frozenset({WaitReason.AGENT_RESTART, WaitReason.NO_FREE_CDROM_SLOT, WaitReason.VM_POWERED_OFF})
# While a job waits for the guest to pick up its certificate, the poller looks for it.
PICKUP_WAITS = frozenset(
    {WaitReason.AGENT_RESTART, WaitReason.VM_POWERED_OFF, WaitReason.GUEST_UNREACHABLE, WaitReason.PICKUP}
)


@dataclass(frozen=True, slots=True)
class FoundVm:
    """The VM on its cluster. `guest_address` is set where its guest can be reached over SSH."""

    name: str
    power: PowerState
    addresses: tuple[str, ...]
    guest_address: str | None
    restart_command: str | None = None
    renewed_at: datetime | None = None
    # An earlier renewal issued a certificate that has not been seen in the guest yet.
    awaiting_pickup: bool = False
    # The certificate that a caller handed in last.
    handed_in: Certificate | None = None

    @property
    def is_off(self) -> bool:
        return self.power is PowerState.OFF

    @property
    def has_readable_guest(self) -> bool:
        return self.guest_address is not None and not self.is_off


@dataclass(frozen=True, slots=True)
class Sighting:
    """The VM's tools entity as a CVM showed it; `entity` None: others were listed, this one was not."""

    at: datetime
    entity: VmToolsEntity | None
    power: PowerState = PowerState.UNKNOWN

    @property
    def iso_mounted(self) -> bool:
        return self.entity is not None and self.entity.iso_mounted is True


@dataclass(frozen=True, slots=True)
class CvmClock:
    """The clock of the CVM that answered the last look: its Unix time is the database's plus `offset_s`."""

    cvm: str
    offset_s: float
    read_at: datetime
    refresh_offered: bool | None = None


@dataclass(frozen=True, slots=True)
class GuestSighting:
    """A reading of the guest; `certificate` None: the guest was reached and has none."""

    at: datetime
    certificate: Certificate | None
    ngt_uuid: str | None
    address: str
    host_key: str


@dataclass(frozen=True, slots=True)
class PushedCertificate:
    """A certificate that a caller handed in as the guest's."""

    at: datetime
    certificate: Certificate
    given_by: str | None = None


@dataclass(frozen=True, slots=True)
class Before:
    """The job's first reading. A retry keeps it."""

    sighting: Sighting
    guest: GuestSighting | None
    guest_fault: str | None = None
    guest_fault_code: FaultCode | None = None


class EntityStage(StrEnum):
    """The VM's tools entity after our changes."""

    UNTOUCHED = "untouched"
    MISSING = "missing"
    ISSUED = "issued"


@dataclass(frozen=True, slots=True)
class Intent:
    """A change that was sent, or will be. Until its answer is stored it may be running on the CVM."""

    step: StepName
    marker: str
    cvm: str
    not_after_s: int
    remote_until_at: datetime
    deletes: bool
    lost: bool = False
    looks: tuple[Sighting, ...] = ()


class ProvedBy(StrEnum):
    """The evidence of a renewal; `link_only` proves nothing and leads to the outcome `unverified`."""

    GUEST_CERTIFICATE = "guest_certificate"
    PUSHED_CERTIFICATE = "pushed_certificate"
    CVM_EXPIRY_DATE = "cvm_expiry_date"
    LINK_ONLY = "link_only"


@dataclass(frozen=True, slots=True)
class Proof:
    """The evidence on which a job succeeds."""

    by: ProvedBy
    at: datetime
    not_after: datetime | None = None
    not_before: datetime | None = None
    serial: str | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """The reason why a job ends, or the fault of its last try."""

    code: FaultCode
    message: str


@dataclass(frozen=True, slots=True)
class Progress:
    """Everything one renewal knows. The fields are in the order in which they are learnt."""

    vm_uuid: VmUuid
    request: RenewalRequest
    cluster: str | None = None
    vm: FoundVm | None = None
    # The last look at the entity, and the clock of the CVM that showed it.
    seen: Sighting | None = None
    clock: CvmClock | None = None
    before: Before | None = None
    # The change that was begun and has no stored answer.
    intent: Intent | None = None
    entity: EntityStage = EntityStage.UNTOUCHED
    delete_begun: bool = False
    missing_since: datetime | None = None
    # A definite refusal of a change, until a look has confirmed it.
    refused: Failure | None = None
    issued_at: datetime | None = None
    # The first look after the entity was issued and before the ISO was mounted.
    between: Sighting | None = None
    mounted_at: datetime | None = None
    # An earlier attempt mounted the ISO.
    was_mounted: bool = False
    verify_by: datetime | None = None
    restarted_at: datetime | None = None
    # A caller's report, or a change that the cluster shows: verify now.
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
    # The back-off of the present step.
    tries: int = 0
    retry_at: datetime | None = None
    trouble: Failure | None = None
    lost_answers: int = 0
    # The job ends with this failure.
    failed: Failure | None = None

    def mode(self, rules: Rules) -> Mode:
        return self.request.mode or rules.mode

    def restart_agent(self, rules: Rules) -> RestartAgent:
        return self.request.restart_agent or rules.restart_agent

    def accepts_unverified(self, rules: Rules) -> bool:
        return rules.accept_unverified if self.request.accept_unverified is None else self.request.accept_unverified

    def verify_deadline(self, rules: Rules, now: datetime) -> datetime:
        """The end of a verification that begins now."""
        off = self.vm is not None and self.vm.is_off
        by_hand = off or self.restart_agent(rules) is RestartAgent.MANUAL
        return now + timedelta(seconds=rules.verify_timeout_manual_s if by_hand else rules.verify_timeout_ssh_s)

    @property
    def is_stranded(self) -> bool:
        """A delete of ours may have happened, and no create has confirmed a new entity.

        The VM stays stranded while another create runs, until its answer or a look shows an entity.
        """
        if self.intent is not None and self.intent.lost:
            return self.intent.deletes
        if self.refused is not None and self.seen is None:
            return self.delete_begun
        return self.entity is EntityStage.MISSING and self.delete_begun

    @property
    def has_begun_to_change(self) -> bool:
        """A change was made or may be running; before that, a pause holds the job and a caller can cancel it."""
        return self.intent is not None or self.entity is not EntityStage.UNTOUCHED or self.is_stranded

    @property
    def takes_slot(self) -> bool:
        """The job still has changes to make that can leave the VM without NGT; later steps cost the cluster nothing."""
        return not self.request.validate_only and self.mounted_at is None

    @property
    def awaits_pickup(self) -> bool:
        return self.entity is EntityStage.ISSUED and self.proof is None

    @property
    def latest(self) -> VmToolsEntity | None:
        """The entity as the last look after the change showed it."""
        sighting = self.after or self.seen or self.between
        return sighting.entity if sighting is not None else None

    @property
    def lost_capabilities(self) -> tuple[tuple[str, bool], ...]:
        """(application, value before) of each capability whose value has changed."""
        before = self.before.sighting.entity if self.before is not None else None
        after = self.latest
        if before is None or after is None:
            return ()
        pairs = (
            ("vss_snapshot", before.vss_snapshot, after.vss_snapshot),
            ("file_level_restore", before.file_level_restore, after.file_level_restore),
        )
        return tuple((name, old) for name, old, new in pairs if old is not None and new is not None and old is not new)

    @property
    def restart_by_hand(self) -> str:
        """The restart that a person has to do in the guest, with the exact command where it is configured."""
        assert self.vm is not None
        where = f"VM {self.vm.name!r}" + (f" ({', '.join(self.vm.addresses)})" if self.vm.addresses else "")
        if self.vm.restart_command is not None:
            return f"restart the agent in {where}: {self.vm.restart_command}"
        return (
            f"restart the agent in {where}: on Linux `sudo systemctl restart ngt_guest_agent`, "
            'on Windows `Restart-Service -Name "Nutanix Guest Tools Agent"`'
        )

    @property
    def remaining_action(self) -> str | None:
        """The work that is left for a person when the job ends here; None when nothing was changed."""
        if self.entity is EntityStage.UNTOUCHED or self.vm is None:
            return None
        boot = f"start VM {self.vm.name!r}, its agent picks it up when it boots"
        pick_up = boot if self.vm.is_off else self.restart_by_hand
        if self.mounted_at is None:
            return f"mount the NGT ISO in VM {self.vm.name!r} (a new certificate was issued), then {pick_up}"
        return f"the new certificate is mounted: {pick_up}"

    def without_trouble(self) -> Self:
        """The last try succeeded, so the next step begins without back-off."""
        return replace(self, tries=0, retry_at=None, trouble=None)

    def back_off(self, failure: Failure, rules: Rules, now: datetime) -> Self:
        delay_s = backoff(rules.retry_first_s, rules.retry_last_s, self.tries)
        return replace(self, tries=self.tries + 1, retry_at=now + timedelta(seconds=delay_s), trouble=failure)

    def begin_retry(self) -> Self:
        """The same job once more: it keeps its first reading and its changes, and reads everything else again."""
        fresh = replace(
            self, failed=None, trouble=None, refused=None, tries=0, retry_at=None, lost_answers=0,
            seen=None, clock=None, last_check=False, news=False, reported=False,
            guest_reads=0, guest_read_at=None, restarted_at=None, verify_by=None, capabilities_tried=False,
        )  # fmt: skip
        if self.entity is EntityStage.UNTOUCHED:
            return replace(fresh, vm=None, before=self.before if self.delete_begun else None)
        # The ISO is mounted again only where a look shows that it is not mounted any more.
        return replace(fresh, mounted_at=None, was_mounted=self.was_mounted or self.mounted_at is not None)

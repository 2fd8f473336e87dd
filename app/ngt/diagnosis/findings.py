"""What a diagnosis can find, each once: its stable code, how grave it is, what to do, and which call does that.

The codes are part of the public contract. Within one severity what stands first is more important.
"""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How grave a finding is, the gravest first. A VM without an error and a warning is healthy."""

    # NGT does not work for the VM.
    ERROR = "error"
    # It will stop working, or nobody can tell whether it works.
    WARNING = "warning"
    # Worth knowing, and no reason by itself.
    INFO = "info"
    OK = "ok"


class CallKind(StrEnum):
    """Which call goes on from a finding; what of it is possible now decides the diagnosis."""

    RENEW = "renew"
    RETRY = "retry"
    AGENT_RESTARTED = "agent-restarted"


class FindingCode(StrEnum):
    """The stable word of a finding."""

    VM_VANISHED = "vm-vanished"
    VM_STRANDED = "vm-stranded"
    ENTITY_DELETED_BY_RENEWAL = "entity-deleted-by-renewal"
    ENTITY_GONE = "entity-gone"
    CLONE_WITHOUT_ENTITY = "clone-without-entity"
    NGT_NOT_ENABLED = "ngt-not-enabled"
    NGT_DISABLED = "ngt-disabled"
    GUEST_NAMES_ANOTHER_ENTITY = "guest-names-another-entity"
    CERTIFICATE_EXPIRED = "certificate-expired"
    LINK_NOT_ACTIVE = "link-not-active"
    CLUSTER_NOT_REACHED = "cluster-not-reached"
    NEVER_SEEN = "never-seen"
    SEEN_LONG_AGO = "seen-long-ago"
    NO_FREE_CDROM = "no-free-cdrom"
    AWAITING_PICKUP = "awaiting-pickup"
    VM_NOT_RUNNING = "vm-not-running"
    CERTIFICATE_EXPIRES_SOON = "certificate-expires-soon"
    RENEWAL_NOT_ENDED_WELL = "renewal-not-ended-well"
    GUEST_ADDRESS_CHANGED = "guest-address-changed"
    DATE_UNKNOWN = "certificate-date-unknown"
    DATE_COMPUTED = "certificate-date-computed"
    LINK_OVER_SERIAL_PORT = "link-over-serial-port"
    GUEST_NOT_READABLE = "guest-not-readable"
    ENTITY_NOT_SHOWN = "entity-not-shown"
    LINK_NOT_SHOWN = "link-not-shown"
    RENEWAL_OPEN = "renewal-open"
    ISO_MOUNTED = "iso-mounted"
    DATE_OLD = "certificate-date-old"
    CLUSTER_PAUSED = "cluster-paused"
    SERVICE_PAUSED = "service-paused"
    NOTHING_IS_WRONG = "nothing-is-wrong"


@dataclass(frozen=True, slots=True)
class FindingRule:
    """What is true of every finding of one code; `title` goes on from "NGT of the VM: …"."""

    severity: Severity
    title: str
    next_step: str
    call: CallKind | None = None


_ERROR, _WARNING, _INFO, _OK = Severity
_RENEW, _RETRY, _RESTARTED = CallKind
_C = FindingCode

FINDINGS: dict[FindingCode, FindingRule] = {
    _C.VM_VANISHED: FindingRule(
        _ERROR,
        "the VM is not on its cluster any more",
        "Find out whether it was deleted or moved; where it moved to another cluster, scan that one.",
    ),
    _C.VM_STRANDED: FindingRule(
        _ERROR,
        "a renewal deleted the VM's tools entity, or may have, and a new one was not confirmed yet",
        "Mend the cause on the cluster that the job's log shows; the service creates the entity by itself.",
    ),
    _C.ENTITY_DELETED_BY_RENEWAL: FindingRule(
        _ERROR,
        "a renewal of this service deleted the VM's tools entity, and it was not created again",
        "Have the renewal go on: it creates the entity and mounts the ISO.",
        _RETRY,
    ),
    _C.ENTITY_GONE: FindingRule(
        _ERROR,
        "the VM had a tools entity, and has none now",
        "Renew the certificate: that creates the entity. Find out who deleted it, and did not go on.",
        _RENEW,
    ),
    _C.CLONE_WITHOUT_ENTITY: FindingRule(
        _ERROR,
        "the guest has a certificate, but the VM has no tools entity, as a clone has none",
        "Renew the certificate: that gives the VM an entity and a certificate of its own.",
        _RENEW,
    ),
    _C.NGT_NOT_ENABLED: FindingRule(
        _ERROR,
        "the VM has no tools entity, and as far as is known never had one",
        "If it is to have NGT, see that the agent is installed in the guest and renew: that switches NGT on.",
        _RENEW,
    ),
    _C.NGT_DISABLED: FindingRule(
        _ERROR,
        "NGT is switched off for the VM",
        "If it is to have NGT, renew the certificate: that switches NGT on again.",
        _RENEW,
    ),
    _C.GUEST_NAMES_ANOTHER_ENTITY: FindingRule(
        _ERROR,
        "the guest has the certificate of another tools entity than the VM's own",
        "If somebody renewed it by hand, restart the agent; else renew, which gives it a certificate of its own.",
        _RENEW,
    ),
    _C.CERTIFICATE_EXPIRED: FindingRule(_ERROR, "the certificate has expired", "Renew the certificate.", _RENEW),
    _C.LINK_NOT_ACTIVE: FindingRule(
        _ERROR,
        "the agent is not connected to the cluster",
        "See that the Nutanix Guest Tools Agent runs in the guest, restart it, and see that the guest reaches the "
        "cluster's virtual IP on TCP port 2074.",
    ),
    _C.CLUSTER_NOT_REACHED: FindingRule(
        _WARNING,
        "the cluster could not be looked at",
        "Mend what the message names, then ask for the diagnosis again.",
    ),
    _C.NEVER_SEEN: FindingRule(
        _WARNING, "nobody has looked at the VM yet", "Scan its cluster, or ask for the diagnosis with `look=true`."
    ),
    _C.SEEN_LONG_AGO: FindingRule(
        _WARNING,
        "the VM was looked at long ago",
        "Scan its cluster, or ask for the diagnosis with `look=true`.",
    ),
    _C.NO_FREE_CDROM: FindingRule(
        _WARNING,
        "the VM has no free CD-ROM slot for the NGT ISO",
        "Eject the medium from the VM's CD-ROM, or add an empty one; the job tries the mount again by itself.",
    ),
    _C.AWAITING_PICKUP: FindingRule(
        _WARNING,
        "a new certificate was issued, and the agent has not picked it up",
        "Restart the Nutanix Guest Tools Agent in the guest, or reboot the VM, then make the call.",
        _RESTARTED,
    ),
    _C.VM_NOT_RUNNING: FindingRule(
        _WARNING,
        "the VM does not run",
        "Start the VM. A renewal can be made before: its agent picks the certificate up when it boots.",
    ),
    _C.CERTIFICATE_EXPIRES_SOON: FindingRule(
        _WARNING, "the certificate expires soon", "Renew the certificate before it expires.", _RENEW
    ),
    _C.RENEWAL_NOT_ENDED_WELL: FindingRule(
        _WARNING,
        "the last renewal failed, or was cancelled after it had changed the VM",
        "Do what the job's `error_action` or `remaining_action` says, then make the call.",
        _RETRY,
    ),
    _C.GUEST_ADDRESS_CHANGED: FindingRule(
        _WARNING,
        "the guest's address is another than at the last renewal",
        "Restart the agent so that it connects from the new address; when the link stays inactive, renew.",
        _RENEW,
    ),
    _C.DATE_UNKNOWN: FindingRule(
        _WARNING,
        "the certificate's date is not known",
        "Have guest access configured, or hand the certificate in with `PUT /vms/{vm_uuid}/ngt/certificate`.",
    ),
    _C.DATE_COMPUTED: FindingRule(
        _WARNING,
        "the certificate's date was computed and never seen",
        "Have guest access configured, or hand the certificate in with `PUT /vms/{vm_uuid}/ngt/certificate`.",
    ),
    _C.LINK_OVER_SERIAL_PORT: FindingRule(
        _WARNING,
        "the link is active over the VM's serial port, which does not show that the certificate is good",
        "Do not go by the link: see what else was found of the certificate.",
    ),
    _C.GUEST_NOT_READABLE: FindingRule(
        _WARNING,
        "the guest's certificate could not be read over SSH",
        "Mend what the message names; where the guest is not reached, a person has to restart its agent.",
    ),
    _C.ENTITY_NOT_SHOWN: FindingRule(
        _WARNING,
        "the cluster did not say whether the VM has a tools entity",
        "See what `ngt-renewal doctor` says of the cluster's `query` command.",
    ),
    _C.LINK_NOT_SHOWN: FindingRule(
        _WARNING,
        "the cluster did not say whether the agent is connected",
        "See what `ngt-renewal doctor` says of the cluster's `list_vms` and `query` commands.",
    ),
    _C.RENEWAL_OPEN: FindingRule(
        _INFO, "a renewal is at work", "Wait for the job, which says in `message` where it stands."
    ),
    _C.ISO_MOUNTED: FindingRule(
        _INFO,
        "an NGT ISO is mounted in the VM",
        "Nothing, unless somebody mounted it by hand: then restart the agent. The flag can be stale.",
    ),
    _C.DATE_OLD: FindingRule(
        _INFO,
        "the certificate's date was seen long ago",
        "Scan the VM's cluster, or hand the certificate in again.",
    ),
    _C.CLUSTER_PAUSED: FindingRule(
        _INFO,
        "the cluster is paused: renewals are accepted there and wait",
        "Ask who paused it, or have it resumed with `POST /clusters/{cluster}/resume`.",
    ),
    _C.SERVICE_PAUSED: FindingRule(
        _INFO,
        "the whole service is paused: renewals are accepted and wait",
        "Ask who paused it, or have it resumed with `POST /admin/resume`.",
    ),
    _C.NOTHING_IS_WRONG: FindingRule(_OK, "nothing is wrong", "Nothing."),
}


@dataclass(frozen=True, slots=True)
class NextCall:
    """A call to make as it is. `body`: the members of its JSON object; none: no body is needed."""

    method: str
    path: str
    body: tuple[tuple[str, str | bool], ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is known of the VM's NGT: what it is and what it means for the VM, and what to do next."""

    code: FindingCode
    message: str
    next_step: str
    call: NextCall | None = None

    @property
    def severity(self) -> Severity:
        return FINDINGS[self.code].severity


@dataclass(frozen=True, slots=True)
class DiagnosisResult:
    """All findings, the most important first; there is at least one. `healthy`: no error and no warning."""

    healthy: bool
    summary: str
    findings: tuple[Finding, ...]

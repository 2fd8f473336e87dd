"""All findings of a diagnosis, each declared once: code, severity, title, next step, call, and when it holds.

The codes are part of the public contract. Within one severity the first finding is the most important one. A cause
keeps its own consequences quiet.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from app.ngt.diagnosis.situation import EXPIRES_SOON_DAYS, Situation, day
from app.ngt.errors import RULES, FaultCode
from app.ngt.sentences import full_stop
from app.ngt.vocabulary import PowerState


class Severity(StrEnum):
    """The severity of a finding, the gravest first. A VM without an error and a warning is healthy."""

    # NGT does not work for the VM.
    ERROR = "error"
    # NGT will stop working, or its state cannot be known.
    WARNING = "warning"
    # Good to know; it needs no action.
    INFO = "info"
    OK = "ok"


class CallKind(StrEnum):
    """The call that goes on from a finding; the diagnosis decides which form of it is possible now."""

    RENEW = "renew"
    RETRY = "retry"
    AGENT_RESTARTED = "agent-restarted"


@dataclass(frozen=True, slots=True)
class FindingMessage:
    """The sentence of a finding that holds; `next_step` None: the step of its declaration."""

    text: str
    next_step: str | None = None


Check = Callable[[Situation], FindingMessage | str | None]


@dataclass(frozen=True, slots=True)
class FindingRule:
    """The declaration of a finding. `title` continues "NGT of the VM: …"; `check` gives the sentence when it holds."""

    severity: Severity
    title: str
    next_step: str
    call: CallKind | None
    check: Check


FINDINGS: dict[str, FindingRule] = {}


def finding(
    code: str, severity: Severity, title: str, next_step: str, call: CallKind | None = None
) -> Callable[[Check], Check]:
    """Declares the finding whose check is the decorated function."""

    def declare(check: Check) -> Check:
        FINDINGS[code] = FindingRule(severity, title, next_step, call, check)
        return check

    return declare


_ERROR, _WARNING, _INFO, _OK = Severity
_RENEW, _RETRY, _RESTARTED = CallKind
_OUTAGE = "application-consistent snapshots and self-service restore do not work for it"
_LOOK_AGAIN = "Scan its cluster, or ask for the diagnosis with `look=true`."
_SHOW_DATE = "Have guest access configured, or hand the certificate in with `PUT /vms/{vm_uuid}/ngt/certificate`."


@finding(
    "vm-vanished",
    _ERROR,
    "the VM is not on its cluster any more",
    "Find out whether it was deleted or moved; where it moved to another cluster, scan that one.",
)
def _vm_vanished(s: Situation) -> str | None:
    if s.here:
        return None
    gone = f"The last whole listing of cluster {s.vm.cluster} did not have {s.name} any more"
    return f"{gone} (since {day(s.vm.vanished_at)}); there is nothing to renew there."


@finding(
    "vm-stranded",
    _ERROR,
    "a renewal deleted the VM's tools entity, or may have, and a new one was not confirmed yet",
    "Fix the cause on the cluster that the job's log shows; the service creates the entity.",
)
def _vm_stranded(s: Situation) -> str | None:
    if s.stranding is None:
        return None
    return (
        f"Job {s.stranding.id} deleted the tools entity of {s.name}, or may have, and no new one was confirmed: until "
        f"then {_OUTAGE}. The job keeps trying: {full_stop(s.stranding.message)}"
    )


@finding(
    "entity-deleted-by-renewal",
    _ERROR,
    "a renewal of this service deleted the VM's tools entity, and it was not created again",
    "Have the renewal go on: it creates the entity and mounts the ISO.",
    _RETRY,
)
def _entity_deleted_by_renewal(s: Situation) -> str | None:
    if s.deleted_by is None:
        return None
    return (
        f"Job {s.deleted_by.id} deleted the tools entity of {s.name} and ended before a new one was created; {_OUTAGE}."
    )


@finding(
    "entity-gone",
    _ERROR,
    "the VM had a tools entity, and has none now",
    "Renew the certificate: that creates the entity. Find out who deleted it, and did not go on.",
    _RENEW,
)
def _entity_gone(s: Situation) -> str | None:
    if not s.absent or s.deleted_by or not s.had_entity:
        return None
    return (
        f"{s.name} has no tools entity, and had one before: somebody deleted it, perhaps in a renewal by hand that was "
        f"interrupted; {_OUTAGE}."
    )


@finding(
    "clone-without-entity",
    _ERROR,
    "the guest has a certificate, but the VM has no tools entity, as a clone has none",
    "Renew the certificate: that gives the VM an entity and a certificate of its own.",
    _RENEW,
)
def _clone_without_entity(s: Situation) -> str | None:
    if not s.absent or s.deleted_by or s.had_entity or not s.cloned:
        return None
    return (
        f"The guest of {s.name} has a certificate, but the cluster has no tools entity for it: it is a clone that "
        f"carries its source's certificate, or its entity was deleted by hand; {_OUTAGE}."
    )


@finding(
    "ngt-not-enabled",
    _ERROR,
    "the VM has no tools entity, and as far as is known never had one",
    "If it is to have NGT, see that the agent is installed in the guest and renew: that switches NGT on.",
    _RENEW,
)
def _ngt_not_enabled(s: Situation) -> str | None:
    if not s.absent or s.deleted_by or s.had_entity or s.cloned:
        return None
    return (
        f"{s.name} has no tools entity, and no trace of an earlier one is known: NGT was never enabled for it, or it "
        f"is a clone; {_OUTAGE}."
    )


@finding(
    "ngt-disabled",
    _ERROR,
    "NGT is switched off for the VM",
    "If it is to have NGT, renew the certificate: that switches NGT on again.",
    _RENEW,
)
def _ngt_disabled(s: Situation) -> str | None:
    return f"NGT is switched off for {s.name}, as its cluster says; {_OUTAGE}." if s.disabled else None


@finding(
    "guest-names-another-entity",
    _ERROR,
    "the guest has the certificate of another tools entity than the VM's own",
    "If somebody renewed it by hand, restart the agent; else renew, which gives it a certificate of its own.",
    _RENEW,
)
def _guest_names_another_entity(s: Situation) -> str | None:
    if not s.another:
        return None
    return (
        f"The guest at an address of {s.name} names another tools entity than the VM's own: it has its source's "
        "certificate as a clone has, or the address is another VM's, or somebody renewed by hand and the agent was "
        f"not restarted; {_OUTAGE}."
    )


@finding("certificate-expired", _ERROR, "the certificate has expired", "Renew the certificate.", _RENEW)
def _certificate_expired(s: Situation) -> str | None:
    if not s.here or not s.expired:
        return None
    link = {True: "active all the same, which proves nothing", False: "not active", None: "unknown"}
    state = f"The link is {link[s.vm.link_active]}."
    return f"The certificate of {s.name} expired {s.expired_ago} ({s.date}): {_OUTAGE}. {state}"


@finding(
    "link-not-active",
    _ERROR,
    "the agent is not connected to the cluster",
    "See that the Nutanix Guest Tools Agent runs in the guest, restart it, and see that the guest reaches the "
    "cluster's virtual IP on TCP port 2074.",
)
def _link_not_active(s: Situation) -> str | None:
    if not (s.usable and s.runs and s.vm.link_active is False) or s.expired or s.awaiting_pickup or s.another:
        return None
    although = f", although its certificate is {s.date}" if s.good else ""
    return f"The agent of {s.name} was not connected when it was looked at on {s.seen_on}{although}: {_OUTAGE}."


@finding(
    "cluster-not-reached",
    _WARNING,
    "the cluster could not be looked at",
    "Fix the fault that the message names, then ask for the diagnosis again.",
)
def _cluster_not_reached(s: Situation) -> FindingMessage | None:
    if not s.here or s.trouble is None:
        return None
    text = (
        f"Cluster {s.vm.cluster} could not be looked at, so the state of {s.name} is that of {s.seen_on}: {s.trouble}"
    )
    return FindingMessage(text, _step_after_look(s.facts.look_failed.code) if s.facts.look_failed is not None else None)


@finding("never-seen", _WARNING, "the VM was never looked at", _LOOK_AGAIN)
def _never_seen(s: Situation) -> str | None:
    return f"{s.name} is known from a job alone; no scan has seen it." if s.here and not s.seen else None


@finding("seen-long-ago", _WARNING, "the VM was looked at long ago", _LOOK_AGAIN)
def _seen_long_ago(s: Situation) -> str | None:
    if not s.seen or not s.is_old(s.vm.seen_at):
        return None
    return f"{s.name} was last looked at on {s.seen_on}; its state may have changed since."


@finding(
    "no-free-cdrom",
    _WARNING,
    "the VM has no free CD-ROM slot for the NGT ISO",
    "Eject the medium from the VM's CD-ROM, or add an empty one; the job tries the mount again.",
)
def _no_free_cdrom(s: Situation) -> str | None:
    if s.no_slot is None:
        return None
    waits = f"Job {s.no_slot.id} waits: {full_stop(s.no_slot.message)}"
    return f"The new certificate of {s.name} is issued, but its ISO cannot be mounted. {waits}"


@finding(
    "awaiting-pickup",
    _WARNING,
    "a new certificate was issued, and the agent has not picked it up",
    "Restart the Nutanix Guest Tools Agent in the guest, or reboot the VM, then make the call.",
    _RESTARTED,
)
def _awaiting_pickup(s: Situation) -> str | None:
    if not s.awaiting_pickup or s.no_slot is not None:
        return None
    iso = {True: "Its ISO is mounted.", False: "Its ISO is not mounted.", None: "The state of its ISO is unknown."}
    return (
        f"A new certificate was issued for {s.name} on {day(s.vm.awaiting_pickup_since)}, and was not seen in the "
        f"guest yet: its agent works with the old one until it is restarted. {iso[s.vm.iso_mounted]}"
    )


@finding(
    "vm-not-running",
    _WARNING,
    "the VM does not run",
    "Start the VM. A renewal can be made before: its agent picks the certificate up when it boots.",
)
def _vm_not_running(s: Situation) -> str | None:
    if not s.seen or s.runs:
        return None
    state = "is powered off" if s.vm.power is PowerState.OFF else "is suspended or paused"
    return f"{s.name} {state}, so its agent is not connected and picks up no certificate."


@finding(
    "certificate-expires-soon",
    _WARNING,
    "the certificate expires soon",
    "Renew the certificate before it expires.",
    _RENEW,
)
def _certificate_expires_soon(s: Situation) -> str | None:
    if not s.here or not s.good or s.days_left >= EXPIRES_SOON_DAYS:
        return None
    return f"The certificate of {s.name} expires {s.expires_in} ({s.date}); from then on {_OUTAGE}."


@finding(
    "renewal-not-ended-well",
    _WARNING,
    "the last renewal failed, or was cancelled after it had changed the VM",
    "Follow the job's `error_action` or `remaining_action`, then make the call.",
    _RETRY,
)
def _renewal_not_ended_well(s: Situation) -> FindingMessage | None:
    job = s.bad_end
    if not s.here or job is None:
        return None
    end = "was cancelled after it had changed the VM" if job.outcome == "cancelled" else "failed"
    why = full_stop(f"{end}: {job.error_message or job.message}")
    step = None if job.error_code is None else RULES[job.error_code].action
    if job.remaining_action:
        step = full_stop(job.remaining_action[:1].upper() + job.remaining_action[1:])
    return FindingMessage(f"The last renewal of {s.name}, job {job.id}, {why}", step)


@finding(
    "guest-address-changed",
    _WARNING,
    "the guest's address is another than at the last renewal",
    "Restart the agent so that it connects from the new address; when the link stays inactive, renew.",
    _RENEW,
)
def _guest_address_changed(s: Situation) -> str | None:
    if not (s.usable and s.runs) or s.vm.link_active is True or s.old_address is None:
        return None
    return (
        f"The guest of {s.name} was at {s.old_address} at the last renewal, and is at {', '.join(s.vm.addresses)} now: "
        "the cluster knows it by its certificate together with its address."
    )


@finding("certificate-date-unknown", _WARNING, "the certificate's date is not known", _SHOW_DATE)
def _date_unknown(s: Situation) -> str | None:
    if not s.usable or s.vm.certificate is not None or s.awaiting_pickup:
        return None
    return f"No source has shown a date of the certificate of {s.name}, so its validity is unknown."


@finding("certificate-date-computed", _WARNING, "the certificate's date was computed and never seen", _SHOW_DATE)
def _date_computed(s: Situation) -> str | None:
    if not (s.usable and s.computed):
        return None
    return f"The certificate of {s.name} should be {s.date}; no source has seen it, so this proves nothing."


@finding(
    "link-over-serial-port",
    _WARNING,
    "the link is active over the VM's serial port, which does not show that the certificate is good",
    "Do not rely on the link: see the other findings about the certificate.",
)
def _link_over_serial_port(s: Situation) -> str | None:
    serial = "serial" in (s.vm.communication_type or "").lower()
    if not (s.usable and s.vm.link_active is True and serial) or s.good:
        return None
    return (
        f"The link of {s.name} is active over its serial port ({s.vm.communication_type}), where it can be active "
        f"whatever the certificate: {'it has expired' if s.expired else 'its date was not seen'}."
    )


@finding(
    "guest-not-readable",
    _WARNING,
    "the guest's certificate could not be read over SSH",
    "Fix the fault that the message names; where the guest is not reached, a person has to restart its agent.",
)
def _guest_not_readable(s: Situation) -> FindingMessage | None:
    if not (s.here and s.runs) or s.vm.guest_fault is None or s.names_another:
        return None
    text = f"The certificate in the guest of {s.name} was not read over SSH: {full_stop(s.vm.guest_fault)}"
    if s.vm.guest_fault_code == FaultCode.SSH_AUTH_FAILED:
        # The login is that of the guest, not that of the cluster.
        user = "Add this service's public key to the guest's user"
        return FindingMessage(text, f"{user}, or correct the cluster's `guests` in the configuration.")
    return FindingMessage(text, _step_after_look(s.vm.guest_fault_code))


@finding(
    "entity-not-shown",
    _WARNING,
    "the cluster did not say whether the VM has a tools entity",
    "Run `ngt-renewal doctor` and read its result of the cluster's `query` command.",
)
def _entity_not_shown(s: Situation) -> str | None:
    if not s.seen or s.vm.has_entity is not None or s.vm.ngt_enabled is not None:
        return None
    return f"The answer of cluster {s.vm.cluster} on {s.seen_on} does not say whether NGT is enabled for {s.name}."


@finding(
    "link-not-shown",
    _WARNING,
    "the cluster did not say whether the agent is connected",
    "Run `ngt-renewal doctor` and read its results of the cluster's `list_vms` and `query` commands.",
)
def _link_not_shown(s: Situation) -> str | None:
    if not (s.usable and s.runs) or s.vm.link_active is not None:
        return None
    return (
        f"The answer of cluster {s.vm.cluster} on {s.seen_on} does not say whether the agent of {s.name} is connected."
    )


@finding("renewal-open", _INFO, "a renewal is open", "Wait for the job; its `message` says what it does.")
def _renewal_open(s: Situation) -> str | None:
    job = s.open_job
    if job is None or s.stranding is not None:
        return None
    return f"Job {job.id} renews the certificate of {s.name}: {full_stop(job.message)}"


@finding(
    "iso-mounted",
    _INFO,
    "an NGT ISO is mounted in the VM",
    "Nothing, unless somebody mounted it by hand: then restart the agent. The flag can be stale.",
)
def _iso_mounted(s: Situation) -> str | None:
    if not (s.usable and s.vm.iso_mounted is True) or s.awaiting_pickup:
        return None
    return f"An NGT ISO is mounted in {s.name}, and no renewal of this service awaits its pickup."


@finding(
    "certificate-date-old",
    _INFO,
    "the certificate's date was seen long ago",
    "Scan the VM's cluster, or hand the certificate in again.",
)
def _date_old(s: Situation) -> str | None:
    certificate = s.vm.certificate
    if not (s.here and (s.good or s.expired)) or certificate is None or not s.is_old(certificate.observed_at):
        return None
    return f"The date of the certificate of {s.name} is old ({s.date}); it may have been renewed since."


@finding(
    "cluster-paused",
    _INFO,
    "the cluster is paused: renewals are accepted there and wait",
    "Ask who paused it, or have it resumed with `POST /clusters/{cluster}/resume`.",
)
def _cluster_paused(s: Situation) -> str | None:
    if s.cluster.paused_at is None:
        return None
    paused = f"Cluster {s.vm.cluster} is paused since {day(s.cluster.paused_at)}, so a renewal of {s.name} waits"
    return paused + _because(s.cluster.pause_reason)


@finding(
    "service-paused",
    _INFO,
    "the whole service is paused: renewals are accepted and wait",
    "Ask who paused it, or have it resumed with `POST /admin/resume`.",
)
def _service_paused(s: Situation) -> str | None:
    if s.facts.service_paused_at is None:
        return None
    paused = f"The service is paused since {day(s.facts.service_paused_at)}, so a renewal of {s.name} waits"
    return paused + _because(s.facts.service_pause_reason)


def _step_after_look(code: str | None) -> str | None:
    """The action of the fault without its retry: a look has no job."""
    if code not in RULES:
        return None
    return RULES[FaultCode(code)].action.replace(", then retry the job.", ".").replace(", then retry.", ".")


def _because(reason: str | None) -> str:
    return "." if reason is None else full_stop(f": {reason}")


@finding("nothing-is-wrong", _OK, "nothing is wrong", "Nothing.")
def _nothing_is_wrong(s: Situation) -> str | None:
    """The checks that passed. It holds when no grave finding does: the VM runs, with a link and a good certificate."""
    if any(rule.check(s) for rule in FINDINGS.values() if rule.severity in {_ERROR, _WARNING}):
        return None
    vm, job = s.vm, s.job
    checked = (
        (True, f"its certificate has {s.days_left} days left ({s.date})"),
        (vm.link_active is True, "its agent is connected"),
        (vm.has_entity is True, "it has its tools entity"),
        (vm.ngt_enabled is True, "NGT is switched on"),
        (vm.power is PowerState.ON, "it runs"),
        (job is not None and job.outcome == "renewed", "its last renewal was proved"),
    )
    passed = ", ".join(sentence for holds, sentence in checked if holds)
    return f"As {s.name} was seen on {s.seen_on}: {passed}."

"""Why a VM's NGT does not work: facts in, findings out. Pure; the caller brings the time.

Each row of `_rows` holds or does not, by itself; whatever holds is told. A cause keeps its own consequences quiet.
"""

from dataclasses import dataclass
from datetime import datetime

from app.ngt.diagnosis.calls import awaits_pickup, call_for
from app.ngt.diagnosis.facts import (
    Facts,
    ended_badly,
    has_moved,
    is_expired,
    is_good,
    is_old,
    is_serial,
    names_another,
)
from app.ngt.diagnosis.findings import FINDINGS, CallKind, DiagnosisResult, Finding, FindingCode, Severity
from app.ngt.diagnosis.messages import (
    ago,
    because,
    date_of,
    day,
    days_left,
    end_of,
    in_days,
    iso_of,
    link_of,
    name_of,
    sentence,
    step_after,
    step_after_guest,
    step_after_look,
)
from app.ngt.renewal.progress import WaitReason
from app.ngt.vocabulary import CertificateSource, PowerState

EXPIRES_SOON_DAYS = 30
"""So many days before its end a certificate is told of as expiring soon."""

_ORDER = {code: (list(Severity).index(rule.severity), place) for place, (code, rule) in enumerate(FINDINGS.items())}
_GRAVE = frozenset({Severity.ERROR, Severity.WARNING})
# Sources that show what is in the guest, whatever the cluster knows of it.
_OF_GUEST = frozenset({CertificateSource.GUEST_CERTIFICATE, CertificateSource.PUSHED_CERTIFICATE})
_OUTAGE = "application-consistent snapshots and self-service restore do not work for it"


@dataclass(frozen=True, slots=True)
class _Row:
    """A finding, if it holds. `next_step` None: what `FINDINGS` says."""

    holds: bool
    code: FindingCode
    message: str
    next_step: str | None = None


def diagnose(facts: Facts, now: datetime) -> DiagnosisResult:
    found = sorted((row for row in _rows(facts, now) if row.holds), key=lambda row: _ORDER[row.code])
    findings = tuple(_finding(row, facts, now) for row in found)
    grave = [each for each in findings if each.severity in _GRAVE]
    name = name_of(facts.vm)
    if not grave:
        said = f"{name}: nothing is wrong with its NGT, as far as it was checked."
        return DiagnosisResult(healthy=True, summary=said, findings=(*findings, _all_is_well(facts, now)))
    first = FINDINGS[grave[0].code]
    state = "its NGT does not work" if first.severity is Severity.ERROR else "its NGT needs attention"
    more = f" ({len(grave) - 1} more below)" if len(grave) > 1 else ""
    return DiagnosisResult(healthy=False, summary=f"{name}: {state}: {first.title}{more}.", findings=findings)


def _finding(row: _Row, facts: Facts, now: datetime) -> Finding:
    rule = FINDINGS[row.code]
    call = call_for(rule.call, facts, now) if rule.call is not None else None
    step = row.next_step or rule.next_step
    job = facts.job
    if rule.call is CallKind.RENEW and job is not None and not job.done:
        step = f"Wait for job {job.id}, which renews the certificate: {job.message}"
    elif rule.call is CallKind.RENEW and call is not None and not call.path.endswith("/renew"):
        step = "A new certificate is issued already: have the agent restarted in the guest, then make the call."
    elif rule.call is CallKind.AGENT_RESTARTED and call is None:
        step = "Restart the agent in the guest, or reboot the VM; the next look sees that it picked the certificate up."
    step = step.replace("{vm_uuid}", facts.vm.vm_uuid).replace("{cluster}", facts.vm.cluster)
    return Finding(row.code, row.message, sentence(step), call)


def _rows(f: Facts, now: datetime) -> tuple[_Row, ...]:
    """What may hold, each with its sentence; those that do not hold say nothing of worth."""
    vm, job, cluster, code = f.vm, f.job, f.cluster, FindingCode
    name = name_of(vm)
    here = vm.vanished_at is None
    seen = here and vm.seen_at is not None
    is_open = job is not None and not job.done
    stranded = is_open and job is not None and job.stranded
    absent = here and vm.has_entity is False and not stranded
    disabled = here and not absent and vm.ngt_enabled is False and not stranded
    usable = seen and not absent and not disabled and not stranded
    runs = vm.power not in {PowerState.OFF, PowerState.OTHER}
    awaiting = here and awaits_pickup(vm) and not stranded
    no_slot = is_open and job is not None and job.wait_reason is WaitReason.NO_FREE_CDROM_SLOT
    expired, good = is_expired(vm.certificate, now), is_good(vm.certificate, now)
    soon = good and days_left(vm.certificate, now) < EXPIRES_SOON_DAYS
    computed = vm.certificate is not None and vm.certificate.source is CertificateSource.COMPUTED
    named = names_another(vm, job)
    another = usable and not awaiting and named
    ours = absent and job is not None and job.done and job.delete_begun and not job.issued
    had_one = vm.renewed_at is not None or vm.awaiting_pickup_since is not None or (job is not None and job.issued)
    had_one = had_one or CertificateSource.CVM_EXPIRY_DATE in vm.date_sources
    cloned = bool(_OF_GUEST & vm.date_sources) or (job is not None and job.guest_names is not None)
    job_id, said = (job.id, sentence(job.message)) if job is not None else ("", "")
    date, seen_on = date_of(vm.certificate), day(vm.seen_at)
    trouble = _trouble(f)
    return (
        _Row(
            not here,
            code.VM_VANISHED,
            f"The last whole listing of cluster {vm.cluster} did not have {name} any more (since "
            f"{day(vm.vanished_at)}); there is nothing to renew there.",
        ),
        _Row(
            stranded,
            code.VM_STRANDED,
            f"Job {job_id} deleted the tools entity of {name}, or may have, and no new one was confirmed: until then "
            f"{_OUTAGE}. The job keeps trying: {said}",
        ),
        _Row(
            ours,
            code.ENTITY_DELETED_BY_RENEWAL,
            f"Job {job_id} deleted the tools entity of {name} and ended before a new one was created; {_OUTAGE}.",
        ),
        _Row(
            absent and not ours and had_one,
            code.ENTITY_GONE,
            f"{name} has no tools entity, and had one before: somebody deleted it, perhaps in a renewal by hand that "
            f"was interrupted; {_OUTAGE}.",
        ),
        _Row(
            absent and not ours and not had_one and cloned,
            code.CLONE_WITHOUT_ENTITY,
            f"The guest of {name} has a certificate, but the cluster has no tools entity for it: it is a clone that "
            f"carries its source's certificate, or its entity was deleted by hand; {_OUTAGE}.",
        ),
        _Row(
            absent and not ours and not had_one and not cloned,
            code.NGT_NOT_ENABLED,
            f"{name} has no tools entity, and no trace of an earlier one is known: NGT was never enabled for it, "
            f"or it is a clone; {_OUTAGE}.",
        ),
        _Row(disabled, code.NGT_DISABLED, f"NGT is switched off for {name}, as its cluster says; {_OUTAGE}."),
        _Row(
            another,
            code.GUEST_NAMES_ANOTHER_ENTITY,
            f"The guest at an address of {name} names another tools entity than the VM's own: it has its source's "
            "certificate as a clone has, or the address is another VM's, or somebody renewed by hand and the agent was "
            f"not restarted; {_OUTAGE}.",
        ),
        _Row(
            here and expired,
            code.CERTIFICATE_EXPIRED,
            f"The certificate of {name} expired {ago(vm.certificate, now)} ({date}): {_OUTAGE}. {link_of(vm)}",
        ),
        _Row(
            usable and runs and vm.link_active is False and not (expired or awaiting or another),
            code.LINK_NOT_ACTIVE,
            f"The agent of {name} was not connected when it was looked at on {seen_on}"
            + (f", although its certificate is {date}: {_OUTAGE}." if good else f": {_OUTAGE}."),
        ),
        _Row(
            here and trouble is not None,
            code.CLUSTER_NOT_REACHED,
            f"Cluster {vm.cluster} could not be looked at, so what follows of {name} is of {seen_on}: {trouble or ''}",
            step_after_look(f.look_failed.code) if f.look_failed is not None else None,
        ),
        _Row(here and not seen, code.NEVER_SEEN, f"Of {name} only a job has told so far; nobody has looked at it."),
        _Row(
            seen and is_old(vm.seen_at, now),
            code.SEEN_LONG_AGO,
            f"{name} was last looked at on {seen_on}; what is said of it here may not be so any more.",
        ),
        _Row(
            no_slot,
            code.NO_FREE_CDROM,
            f"The new certificate of {name} is issued, but its ISO cannot be mounted. Job {job_id} waits: {said}",
        ),
        _Row(
            awaiting and not no_slot,
            code.AWAITING_PICKUP,
            f"A new certificate was issued for {name} on {day(vm.awaiting_pickup_since)}, and was not seen in the "
            f"guest yet: its agent works with the old one until it is restarted. {iso_of(vm)}",
        ),
        _Row(
            seen and not runs,
            code.VM_NOT_RUNNING,
            f"{name} {'is powered off' if vm.power is PowerState.OFF else 'is suspended or paused'}, so its agent is "
            "not connected and picks up no certificate.",
        ),
        _Row(
            here and soon,
            code.CERTIFICATE_EXPIRES_SOON,
            f"The certificate of {name} expires {in_days(vm.certificate, now)} ({date}); from then on {_OUTAGE}.",
        ),
        _Row(
            here and ended_badly(vm, job, good=good),
            code.RENEWAL_NOT_ENDED_WELL,
            f"The last renewal of {name}, job {job_id}, {end_of(job)}",
            step_after(job),
        ),
        _Row(
            usable and runs and vm.link_active is not True and has_moved(vm, job),
            code.GUEST_ADDRESS_CHANGED,
            f"The guest of {name} was at {job.guest_address if job is not None else ''} at the last renewal, and is at "
            f"{', '.join(vm.addresses)} now: the cluster knows it by its certificate together with its address.",
        ),
        _Row(
            usable and vm.certificate is None and not awaiting,
            code.DATE_UNKNOWN,
            f"No source has shown a date of the certificate of {name}: nobody can say whether it is good.",
        ),
        _Row(
            usable and computed,
            code.DATE_COMPUTED,
            f"The certificate of {name} should be {date}; nobody has seen it, so this proves nothing.",
        ),
        _Row(
            usable and vm.link_active is True and is_serial(vm) and not good,
            code.LINK_OVER_SERIAL_PORT,
            f"The link of {name} is active over its serial port ({vm.communication_type}), where it can be active "
            f"whatever the certificate: {'it has expired' if expired else 'its date was not seen'}.",
        ),
        _Row(
            here and runs and vm.guest_fault is not None and not named,
            code.GUEST_NOT_READABLE,
            f"The certificate in the guest of {name} was not read over SSH: {sentence(vm.guest_fault or '')}",
            step_after_guest(vm.guest_fault_code),
        ),
        _Row(
            seen and vm.has_entity is None and vm.ngt_enabled is None,
            code.ENTITY_NOT_SHOWN,
            f"What cluster {vm.cluster} showed on {seen_on} does not say whether NGT is enabled for {name}.",
        ),
        _Row(
            usable and runs and vm.link_active is None,
            code.LINK_NOT_SHOWN,
            f"What cluster {vm.cluster} showed on {seen_on} does not say whether the agent of {name} is connected.",
        ),
        _Row(is_open and not stranded, code.RENEWAL_OPEN, f"Job {job_id} renews the certificate of {name}: {said}"),
        _Row(
            usable and vm.iso_mounted is True and not awaiting,
            code.ISO_MOUNTED,
            f"An NGT ISO is mounted in {name}, and no renewal of this service awaits its pick-up.",
        ),
        _Row(
            here and (good or expired) and vm.certificate is not None and is_old(vm.certificate.observed_at, now),
            code.DATE_OLD,
            f"The date of the certificate of {name} is old ({date}); it may have been renewed since.",
        ),
        _Row(
            cluster.paused_at is not None,
            code.CLUSTER_PAUSED,
            f"Cluster {vm.cluster} is paused since {day(cluster.paused_at)}, so a renewal of {name} waits"
            + because(cluster.pause_reason),
        ),
        _Row(
            f.service_paused_at is not None,
            code.SERVICE_PAUSED,
            f"The service is paused since {day(f.service_paused_at)}, so a renewal of {name} waits"
            + because(f.service_pause_reason),
        ),
    )


def _all_is_well(f: Facts, now: datetime) -> Finding:
    """What was checked; a VM without any grave finding was seen, runs, and has a link and a good certificate."""
    vm, job = f.vm, f.job
    checked = (
        (True, f"its certificate has {days_left(vm.certificate, now)} days left ({date_of(vm.certificate)})"),
        (vm.link_active is True, "its agent is connected"),
        (vm.has_entity is True, "it has its tools entity"),
        (vm.ngt_enabled is True, "NGT is switched on"),
        (vm.power is PowerState.ON, "it runs"),
        (job is not None and job.outcome == "renewed", "its last renewal was proved"),
    )
    said = ", ".join(sentence for holds, sentence in checked if holds)
    message = f"As {name_of(vm)} was seen on {day(vm.seen_at)}: {said}."
    code = FindingCode.NOTHING_IS_WRONG
    return Finding(code, message, FINDINGS[code].next_step)


def _trouble(f: Facts) -> str | None:
    """Why nothing newer is known: the look of now, all CVMs down, or a scan that failed after the VM was seen."""
    cluster = f.cluster
    if f.look_failed is not None:
        return sentence(f.look_failed.message)
    if cluster.cvms and not any(cvm.is_up for cvm in cluster.cvms):
        said = "; ".join(f"{cvm.address}: {(cvm.fault or 'down').rstrip('.')}" for cvm in cluster.cvms)
        return f"no CVM of it answers ({said})."
    since = f.vm.seen_at
    if cluster.scan_fault is not None and cluster.scan_fault_at is not None:
        return sentence(cluster.scan_fault) if since is None or cluster.scan_fault_at > since else None
    return None

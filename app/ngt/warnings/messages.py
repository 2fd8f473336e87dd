"""The sentences of the events about certificates: the meaning of an expiry, and the next step."""

from dataclasses import dataclass
from datetime import datetime

from app.ngt.sentences import plural, shorten
from app.ngt.vocabulary import CertificateSource
from app.ngt.warnings.due import EXPIRED, DueWarning, days_left

_LONGEST_NAME = 600
# Ten names in one text stay below the 1000 characters of a field.
_LONGEST_NAME_IN_LINE = 50
_COMPUTED = "The date is computed from its last renewal and was never seen."


@dataclass(frozen=True, slots=True)
class DatedVm:
    """A VM and what is known of its certificate; `new_certificate_issued`: its agent has not picked the new one up."""

    vm_uuid: str
    name: str | None
    not_after: datetime
    certificate_source: str | None
    certificate_observed_at: datetime | None
    serial: str | None
    new_certificate_issued: bool


@dataclass(frozen=True, slots=True)
class DigestCounts:
    """The numbers of VMs of a cluster. `within_…_days` have not expired; each includes the smaller ones.

    `newly_expiring` reached another number of days since the previous digest;
    `events_left_out` of these had no event of their own.
    """

    vms: int
    expired: int
    within_7_days: int
    within_30_days: int
    within_60_days: int
    within_90_days: int
    unknown: int
    awaiting_pickup: int
    stranded: int
    newly_expiring: int
    events_left_out: int


@dataclass(frozen=True, slots=True)
class LastScans:
    """The last scan of all VMs of a cluster that was whole, and the fault of the last one, if it was not."""

    whole_at: datetime
    fault_code: str | None
    fault: str | None
    fault_at: datetime | None


def warning_message(vm: DatedVm, due: DueWarning, now: datetime) -> str:
    """The sentence of `ngt.certificate.expiring` and `ngt.certificate.expired`."""
    days = days_left(vm.not_after, now)
    left = plural(days, "day") if days else "less than a day"
    name, day = shorten(vm.name or vm.vm_uuid, _LONGEST_NAME), f"{vm.not_after:%Y-%m-%d}"
    if due.days_before == EXPIRED:
        message = (
            f"The NGT certificate of the VM {name} expired on {day}. NGT does not work there before it is renewed."
        )
    else:
        message = f"The NGT certificate of the VM {name} expires in {left}, on {day}."
    return f"{message} {_COMPUTED}" if vm.certificate_source == CertificateSource.COMPUTED else message


def warning_action(cluster: str, vm: DatedVm) -> str:
    if vm.new_certificate_issued:
        return "A new certificate was issued already: restart the NGT agent in the VM, which then picks it up."
    if vm.certificate_source == CertificateSource.COMPUTED:
        scan, renew = f"POST /clusters/{cluster}/scan", f"POST /vms/{vm.vm_uuid}/ngt/renew"
        return f"Look for its real date with {scan}, or renew it with {renew}."
    return f"Renew it with POST /vms/{vm.vm_uuid}/ngt/renew."


def digest_action(cluster: str, counts: DigestCounts, scans: LastScans) -> str | None:
    steps = []
    if scans.fault_code:
        steps.append("Find out why the last scan was not whole: until then what is said here may be old.")
    if counts.expired or counts.within_30_days:
        steps.append(
            f"Renew what has expired or soon will: GET /vms?cluster={cluster}&expires_within_days=30 lists it."
        )
    if counts.awaiting_pickup:
        steps.append("Restart the NGT agents that have not picked their new certificate up.")
    return " ".join(steps) or None


def digest_message(cluster: str, counts: DigestCounts, scans: LastScans) -> str:
    dates = (
        f"Of {counts.vms} VMs of the cluster {cluster} the NGT certificate of {counts.expired} has expired, "
        f"{counts.within_7_days} more expire within 7 days, {counts.within_30_days} within 30 days and "
        f"{counts.within_90_days} within 90 days; of {counts.unknown} the date is not known."
    )
    left_out = f"{counts.events_left_out} of them had no event of their own"
    new = f"New since the last digest: {counts.newly_expiring}; {left_out}."
    fault = f", and the last one was not whole: {scans.fault_code}" if scans.fault_code else ""
    scan = f"The last whole scan was at {scans.whole_at:%Y-%m-%d %H:%M} UTC{fault}."
    return " ".join((dates, new, scan) if counts.newly_expiring else (dates, scan))


def expiry_line(vm: DatedVm) -> str:
    """The VM and its date, as one of a line of them."""
    computed = " (computed)" if vm.certificate_source == CertificateSource.COMPUTED else ""
    return f"{shorten(vm.name or vm.vm_uuid, _LONGEST_NAME_IN_LINE)} {vm.not_after:%Y-%m-%d}{computed}"

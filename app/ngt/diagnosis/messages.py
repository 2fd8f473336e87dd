"""The sentences of a diagnosis, and their parts."""

from datetime import datetime, timedelta

from app.ngt.diagnosis.facts import JobFacts, KnownCertificateDates, VmFacts
from app.ngt.errors import RULES, FaultCode
from app.ngt.vocabulary import CertificateSource

DAY = timedelta(days=1)

_SOURCES = {
    CertificateSource.GUEST_CERTIFICATE: "as it was read in the guest",
    CertificateSource.PUSHED_CERTIFICATE: "as the certificate that was handed in says",
    CertificateSource.CVM_EXPIRY_DATE: "as the agent reported it to the cluster",
    CertificateSource.COMPUTED: "as it was computed from the last renewal",
}


def days_left(certificate: KnownCertificateDates | None, now: datetime) -> int:
    return 0 if certificate is None else (certificate.not_after - now) // DAY


def name_of(vm: VmFacts) -> str:
    return f"VM {vm.name!r}" if vm.name else f"VM {vm.vm_uuid}"


def sentence(text: str) -> str:
    return text if text.endswith((".", "…", "!", "?")) else f"{text}."


def day(at: datetime | None) -> str:
    return "an unknown day" if at is None else f"{at:%Y-%m-%d}"


def date_of(certificate: KnownCertificateDates | None) -> str:
    if certificate is None:
        return "an unknown day"
    source = _SOURCES[certificate.source]
    return f"good until {certificate.not_after:%Y-%m-%d}, {source} on {certificate.observed_at:%Y-%m-%d}"


def ago(certificate: KnownCertificateDates | None, now: datetime) -> str:
    days = 0 if certificate is None else (now - certificate.not_after) // DAY
    return _count(days) + " ago" if days else "less than a day ago"


def in_days(certificate: KnownCertificateDates | None, now: datetime) -> str:
    days = days_left(certificate, now)
    return f"in {_count(days)}" if days else "in less than a day"


def _count(number: int) -> str:
    return "1 day" if number == 1 else f"{number} days"


def link_of(vm: VmFacts) -> str:
    shown = {True: "active all the same, which proves nothing", False: "not active", None: "unknown"}
    return f"The link is {shown[vm.link_active]}."


def iso_of(vm: VmFacts) -> str:
    shown = {True: "Its ISO is mounted", False: "Its ISO is not mounted", None: "Whether its ISO is mounted is unknown"}
    return f"{shown[vm.iso_mounted]}."


def end_of(job: JobFacts | None) -> str:
    if job is None:
        return ""
    why = job.error_message or job.message
    return sentence(
        f"was cancelled after it had changed the VM: {why}" if job.outcome == "cancelled" else f"failed: {why}"
    )


def step_after(job: JobFacts | None) -> str | None:
    """What is left to do after a job; None: nothing is known."""
    if job is None:
        return None
    if job.remaining_action:
        return sentence(job.remaining_action[:1].upper() + job.remaining_action[1:])
    return None if job.error_code is None else RULES[job.error_code].action


def step_after_look(code: str | None) -> str | None:
    """What to do about the fault of a look, which no job has."""
    if code not in RULES:
        return None
    return RULES[FaultCode(code)].action.replace(", then retry the job.", ".").replace(", then retry.", ".")


def step_after_guest(code: str | None) -> str | None:
    """What to do about the fault of a guest: its login is its own, not that of the cluster."""
    if code == FaultCode.SSH_AUTH_FAILED:
        return (
            "Add this service's public key to the guest's user, or correct the cluster's `guests` in the configuration."
        )
    return step_after_look(code)


def because(reason: str | None) -> str:
    return "." if reason is None else sentence(f": {reason}")

"""The exact call that goes on from a finding: one that is not refused, as far as the stored facts tell."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from app.ngt.diagnosis.facts import Facts, JobFacts, VmFacts
from app.ngt.diagnosis.findings import CallKind
from app.ngt.errors import RULES, FaultCode
from app.ngt.renewal.progress import PICKUP_WAITS
from app.ngt.renewal.request import Mode, RestartAgent
from app.ngt.vocabulary import CertificateSource, PowerState

# The guest was reached over SSH, although its certificate does not count or is missing.
_REACHED = frozenset({FaultCode.GUEST_NAMES_ANOTHER_ENTITY, FaultCode.GUEST_CERTIFICATE_MISSING})


@dataclass(frozen=True, slots=True)
class NextCall:
    """A call to make as it is. `body`: the members of its JSON object; empty: it needs no body."""

    method: str
    path: str
    body: tuple[tuple[str, str | bool], ...] = ()


def call_for(kind: CallKind, facts: Facts, now: datetime) -> NextCall | None:
    """None when no call is needed: an open job does the work, or no call can do it."""
    vm, job = facts.vm, facts.job
    if job is not None and not job.done:
        restarted = job.wait_reason in PICKUP_WAITS
        return NextCall("POST", f"/jobs/{job.id}/agent-restarted") if restarted else None
    # An issued certificate is mounted and awaits its agent: another renewal would issue one more.
    goes_on = kind is not CallKind.RENEW or awaits_pickup(vm)
    if goes_on and job is not None and can_be_retried(job):
        return NextCall("POST", f"/jobs/{job.id}/retry")
    if kind is CallKind.AGENT_RESTARTED:
        return None
    return NextCall("POST", f"/vms/{vm.vm_uuid}/ngt/renew", _renewal(facts, now))


def can_be_retried(job: JobFacts) -> bool:
    again = job.error_code is not None and RULES[job.error_code].retryable
    return job.done and job.outcome in {"failed", "cancelled"} and again


def awaits_pickup(vm: VmFacts) -> bool:
    return vm.awaiting_pickup_since is not None and vm.has_entity is not False


def _renewal(facts: Facts, now: datetime) -> tuple[tuple[str, str | bool], ...]:
    """The members without which the renewal would be refused, as `app.ngt.renewal.before` would refuse it."""
    vm, cluster = facts.vm, facts.cluster
    off = vm.power is PowerState.OFF
    absent = vm.has_entity is False
    recently = timedelta(seconds=cluster.renewed_recently_s)
    reached = vm.guest_fault is None or vm.guest_fault_code in _REACHED
    readable = cluster.guest_access and (off or reached)
    # A cluster shows the date of an entity. A new entity has no earlier date to compare with.
    provable = readable or (CertificateSource.CVM_EXPIRY_DATE in vm.date_sources and not absent)
    rows: tuple[tuple[bool, str, str | bool], ...] = (
        (absent or vm.ngt_enabled is False, "create_if_absent", True),
        (absent and cluster.mode is Mode.REFRESH, "mode", Mode.RECREATE.value),
        (off, "when_powered_off", "proceed"),
        (cluster.restart_agent is RestartAgent.SSH and not readable, "restart_agent", RestartAgent.MANUAL.value),
        (not provable and not cluster.accept_unverified, "accept_unverified", True),
        (vm.renewed_at is not None and now - vm.renewed_at < recently, "force", True),
    )
    return tuple((name, value) for needed, name, value in rows if needed)

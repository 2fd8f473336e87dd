"""The exact call that goes on from a finding: one that is not refused, as far as that is known beforehand."""

from datetime import datetime, timedelta

from app.ngt.diagnosis.facts import Facts, JobFacts, VmFacts, was_reached
from app.ngt.diagnosis.findings import CallKind, NextCall
from app.ngt.errors import RULES
from app.ngt.renewal.progress import PICKUP_WAITS
from app.ngt.renewal.request import Mode, RestartAgent
from app.ngt.vocabulary import CertificateSource, PowerState

# A renewal that was proved so lately is not done again unless it is forced (`app.ngt.renewal.request.Rules`).
_RENEWED_LATELY = timedelta(days=1)


def call_for(kind: CallKind, facts: Facts, now: datetime) -> NextCall | None:
    """None when nobody has to call anything: an open job does it, or nothing is left to do by a call."""
    vm, job = facts.vm, facts.job
    if job is not None and not job.done:
        restarted = job.wait_reason in PICKUP_WAITS
        return NextCall("POST", f"/jobs/{job.id}/agent-restarted") if restarted else None
    # What a job has issued is mounted and awaits its agent: another renewal would begin all over again.
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
    reached = vm.guest_fault is None or was_reached(vm)
    readable = cluster.guest_access and (off or reached)
    # A cluster shows the date of an entity; a new entity has no date from before that it could be later than.
    provable = readable or (CertificateSource.CVM_EXPIRY_DATE in vm.date_sources and not absent)
    rows: tuple[tuple[bool, str, str | bool], ...] = (
        (absent or vm.ngt_enabled is False, "create_if_absent", True),
        (absent and cluster.mode is Mode.REFRESH, "mode", Mode.RECREATE.value),
        (off, "when_powered_off", "proceed"),
        (cluster.restart_agent is RestartAgent.SSH and not readable, "restart_agent", RestartAgent.MANUAL.value),
        (not provable and not cluster.accept_unverified, "accept_unverified", True),
        (vm.renewed_at is not None and now - vm.renewed_at < _RENEWED_LATELY, "force", True),
    )
    return tuple((name, value) for needed, name, value in rows if needed)

"""The diagnosis of a VM's NGT: facts in, findings out. Pure; the caller brings the time."""

from dataclasses import dataclass
from datetime import datetime

from app.ngt.diagnosis.calls import NextCall, call_for
from app.ngt.diagnosis.facts import Facts
from app.ngt.diagnosis.findings import FINDINGS, CallKind, FindingMessage, FindingRule, Severity
from app.ngt.diagnosis.situation import Situation
from app.ngt.sentences import full_stop

_GRAVE = frozenset({Severity.ERROR, Severity.WARNING})


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact about the VM's NGT: its meaning for the VM, and the next step."""

    code: str
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


def diagnose(facts: Facts, now: datetime) -> DiagnosisResult:
    situation = Situation(facts, now)
    findings = tuple(
        _finding(code, rule, held if isinstance(held, FindingMessage) else FindingMessage(held), situation)
        for code, rule in FINDINGS.items()
        if (held := rule.check(situation)) is not None
    )
    grave = [each for each in findings if each.severity in _GRAVE]
    if not grave:
        summary = f"{situation.name}: nothing is wrong with its NGT, as far as it was checked."
        return DiagnosisResult(healthy=True, summary=summary, findings=findings)
    first = FINDINGS[grave[0].code]
    state = "its NGT does not work" if first.severity is Severity.ERROR else "its NGT needs attention"
    more = f" ({len(grave) - 1} more below)" if len(grave) > 1 else ""
    summary = f"{situation.name}: {state}: {first.title}{more}."
    return DiagnosisResult(healthy=False, summary=summary, findings=findings)


def _finding(code: str, rule: FindingRule, held: FindingMessage, situation: Situation) -> Finding:
    facts, job = situation.facts, situation.open_job
    call = call_for(rule.call, facts, situation.now) if rule.call is not None else None
    step = held.next_step or rule.next_step
    if rule.call is CallKind.RENEW and job is not None:
        step = f"Wait for job {job.id}, which renews the certificate: {job.message}"
    elif rule.call is CallKind.RENEW and call is not None and not call.path.endswith("/renew"):
        step = "A new certificate is issued already: have the agent restarted in the guest, then make the call."
    elif rule.call is CallKind.AGENT_RESTARTED and call is None:
        step = "Restart the agent in the guest, or reboot the VM; the next look sees that it picked the certificate up."
    step = step.replace("{vm_uuid}", facts.vm.vm_uuid).replace("{cluster}", facts.vm.cluster)
    return Finding(code, held.text, full_stop(step), call)

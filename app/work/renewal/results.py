"""The results that a job shows: dates, serials and capabilities; and the plan of a job that only validates."""

from dataclasses import asdict
from datetime import timedelta

from app.ngt.renewal.before import can_be_proved, expiry_date, known_not_after, refuse
from app.ngt.renewal.change import calls_of, issuing_step
from app.ngt.renewal.progress import Progress, ProvedBy, StepName
from app.ngt.renewal.request import RestartAgent, Rules
from app.ngt.vocabulary import CERTIFICATE_LIFETIME_DAYS, CertificateSource
from app.store.records.inventory import Observation
from app.store.records.jobs import PlanRecord, Results

_SOURCE_OF_PROOF = {
    ProvedBy.GUEST_CERTIFICATE: CertificateSource.GUEST_CERTIFICATE,
    ProvedBy.PUSHED_CERTIFICATE: CertificateSource.PUSHED_CERTIFICATE,
    ProvedBy.CVM_EXPIRY_DATE: CertificateSource.CVM_EXPIRY_DATE,
    ProvedBy.LINK_ONLY: CertificateSource.COMPUTED,
}


def results_of(p: Progress, rules: Rules) -> Results:
    old = p.before.guest.certificate if p.before is not None and p.before.guest is not None else None
    entity_before = p.before.sighting.entity if p.before is not None else None
    entity_now = p.latest
    proof = p.proof
    renewed = proof is not None and proof.by is not ProvedBy.LINK_ONLY
    return Results(
        mode=p.mode(rules) if p.cluster is not None else None,
        old_not_before=old.not_before if old is not None else None,
        old_not_after=known_not_after(p) or (old.not_after if old is not None else None),
        old_serial=old.serial if old is not None else None,
        new_not_before=proof.not_before if proof is not None and renewed else None,
        new_not_after=proof.not_after if proof is not None and renewed else None,
        new_serial=proof.serial if proof is not None and renewed else None,
        verified_by=proof.by if proof is not None else None,
        link_active=entity_now.link_active if entity_now is not None else None,
        vss_before=entity_before.vss_snapshot if entity_before is not None else None,
        file_level_restore_before=entity_before.file_level_restore if entity_before is not None else None,
        vss_after=entity_now.vss_snapshot if entity_now is not None and p.issued_at is not None else None,
        file_level_restore_after=(
            entity_now.file_level_restore if entity_now is not None and p.issued_at is not None else None
        ),
        plan=_plan(p, rules) if p.request.validate_only and p.before is not None else None,
    )


def certificate_of(p: Progress) -> Observation | None:
    """The certificate that a job has proved; after an active link alone, its end is only computed."""
    proof = p.proof
    if proof is None:
        return None
    source = _SOURCE_OF_PROOF[proof.by]
    if proof.not_after is None:
        assert p.issued_at is not None
        return Observation(p.vm_uuid, source, proof.at, p.issued_at + timedelta(days=CERTIFICATE_LIFETIME_DAYS))
    if proof.by is ProvedBy.PUSHED_CERTIFICATE:
        assert p.pushed is not None
        return Observation(p.vm_uuid, source, proof.at, **asdict(p.pushed.certificate), given_by=p.pushed.given_by)
    shown = p.guest.certificate if p.guest is not None else None
    if shown is None or proof.serial != shown.serial:
        return Observation(p.vm_uuid, source, proof.at, proof.not_after, proof.not_before, proof.serial)
    return Observation(p.vm_uuid, source, proof.at, **asdict(shown))


def _plan(p: Progress, rules: Rules) -> PlanRecord:
    """The exact commands in order, the restart, the proof, and every reason of a refusal."""
    assert p.vm is not None
    calls = (*calls_of(p, rules, issuing_step(p, rules)), *calls_of(p, rules, StepName.MOUNT_ISO))
    by_ssh = p.restart_agent(rules) is RestartAgent.SSH and p.vm.guest_address is not None
    refusals = refuse(p, rules)
    proof = "nothing: the outcome would be unverified"
    if p.before is not None and p.before.guest is not None:
        proof = "the guest's certificate, read over SSH"
    elif p.before is not None and expiry_date(p.before.sighting) is not None and can_be_proved(p):
        proof = "client_cert_expiry_date, as the agent reports it to the cluster"
    elif can_be_proved(p):
        proof = "the new certificate, handed in as one was before (PUT /vms/{vm_uuid}/ngt/certificate)"
    return PlanRecord(
        commands=tuple(call.line for call in calls),
        guest_address=p.vm.guest_address,
        restart=f"over SSH: {p.vm.restart_command}" if by_ssh else p.restart_by_hand,
        proof=proof,
        refusal_codes=tuple(refusal.code for refusal in refusals),
        refusals=tuple(refusal.message for refusal in refusals),
    )

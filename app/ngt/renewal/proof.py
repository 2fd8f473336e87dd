"""After the mount: the restart of the agent, the verification, and the evidence that counts as renewed.

`kNoError` proves that the cluster issued a certificate, not that the guest has it.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from app.ngt.errors import RULES, FaultCode
from app.ngt.renewal.before import can_be_proved, expiry_date, known_not_after
from app.ngt.renewal.change import entity_gone, finish
from app.ngt.renewal.progress import (
    EntityStage,
    Failure,
    GuestSighting,
    Progress,
    Proof,
    ProvedBy,
    PushedCertificate,
    Sighting,
    WaitReason,
)
from app.ngt.renewal.request import RestartAgent, Rules
from app.ngt.renewal.steps import Action, Finish, RestartTheAgent, Resumed, Transition, Verdict, Verified, Verify, Wait
from app.ngt.vocabulary import Certificate, PowerState

# The most that the clocks of a guest and of the cluster may differ.
_CLOCK_TOLERANCE = timedelta(hours=24)
_MOST_RESTART_TRIES = 3


# The next step.


def prove(p: Progress, rules: Rules, now: datetime) -> Action:
    assert p.vm is not None
    assert p.verify_by is not None
    by_ssh = p.restart_agent(rules) is RestartAgent.SSH and not p.vm.is_off
    if now >= p.verify_by and p.last_check:
        return finish(p, rules, now, _not_proved(p))
    handed_in = p.news and p.pushed is not None and proof_by_push(p, p.pushed) is not None
    if by_ssh and p.restarted_at is None and now < p.verify_by and not handed_in:
        return RestartTheAgent()
    read_due = _next_guest_read(p, rules)
    if p.news or p.reported or now >= p.verify_by or (read_due is not None and read_due <= now):
        return Verify(look=p.reported or now >= p.verify_by)
    reason, message = _waiting_for_pickup(p, by_ssh=by_ssh)
    until = p.verify_by if read_due is None else min(read_due, p.verify_by)
    return Wait(reason, message, until, p.verify_by)


def _next_guest_read(p: Progress, rules: Rules) -> datetime | None:
    assert p.vm is not None
    if not p.vm.has_readable_guest or p.mounted_at is None:
        return None
    delays = rules.guest_read_delays_s
    if p.guest_read_at is None:
        return p.restarted_at or p.mounted_at + timedelta(seconds=delays[0])
    return p.guest_read_at + timedelta(seconds=delays[min(p.guest_reads - 1, len(delays) - 1)])


def _waiting_for_pickup(p: Progress, *, by_ssh: bool) -> tuple[WaitReason, str]:
    assert p.vm is not None
    if p.vm.is_off:
        return (
            WaitReason.VM_POWERED_OFF,
            f"the new certificate is mounted; start VM {p.vm.name!r}, its agent picks it up when it boots",
        )
    if by_ssh:
        return WaitReason.PICKUP, f"the agent of VM {p.vm.name!r} was restarted; its new certificate was not seen yet"
    return WaitReason.AGENT_RESTART, p.restart_by_hand


def _not_proved(p: Progress) -> Finish:
    entity = p.seen.entity if p.seen is not None else None
    link = entity.link_active if entity is not None else None
    if p.trouble is not None and p.restarted_at is None and p.trouble.code is not FaultCode.NO_FREE_CDROM:
        return Finish("failed", p.trouble.message, p.trouble)
    seen = "no certificate was read in the guest"
    if p.guest is not None and p.guest.certificate is not None:
        old = p.guest.certificate
        seen = f"the guest still has the certificate {old.serial}, good until {old.not_after:%Y-%m-%d}"
    elif (date := expiry_date(p.seen)) is not None:
        seen = f"the cluster still shows the certificate of {date:%Y-%m-%d}"
    state = {True: "active", False: "not active", None: "unknown"}[link]
    code = FaultCode.LINK_NOT_ACTIVE if link is False else FaultCode.CERTIFICATE_NOT_RENEWED
    message = f"the new certificate was issued, but was not seen in the VM in time: {seen}; the link is {state}."
    return Finish("failed", message, Failure(code, message))


def success(p: Progress) -> Finish:
    assert p.proof is not None
    remarks = [f"{name} was {'on' if old else 'off'} before and was not restored" for name, old in p.lost_capabilities]
    link = p.after.entity.link_active if p.after is not None and p.after.entity is not None else None
    if p.proof.by is ProvedBy.LINK_ONLY:
        said = "the link is active, but the certificate was not seen: unverified"
        return Finish("unverified", "; ".join([said, *remarks]))
    if link is False:
        remarks.append("the communication link is not active yet")
    said = f"certificate renewed; valid until {p.proof.not_after:%Y-%m-%d}"
    return Finish("renewed", "; ".join([said, *remarks]))


# The answers.


def resumed(p: Progress, answer: Resumed, rules: Rules, now: datetime) -> Progress:
    """The progress with the reports and sightings of the time in which the job waited."""
    if p.entity is EntityStage.ISSUED and p.verify_by is None:
        p = replace(p, verify_by=p.verify_deadline(rules, now))
    if answer.reported:
        p = replace(p, reported=True, retry_at=None)
    pushed = answer.pushed if p.proof is None else None
    # The last one may be years old, and one that proves nothing must not cause a verification.
    if pushed is not None and pushed != p.pushed and proof_by_push(p, pushed) is not None:
        p = replace(p, pushed=pushed, news=True, retry_at=None)
    sighting = answer.sighting
    if sighting is None or p.mounted_at is None or sighting.at <= p.mounted_at:
        return p
    if p.seen is not None and sighting.at <= p.seen.at:
        return p
    if p.vm is not None and sighting.power is not PowerState.UNKNOWN:
        p = replace(p, vm=replace(p.vm, power=sighting.power))
    if sighting.entity is None:
        return entity_gone(replace(p, retry_at=None), now)
    return replace(p, seen=sighting, news=True, retry_at=None)


def restarted(p: Progress, now: datetime) -> Transition:
    done = replace(p.without_trouble(), restarted_at=now, guest_reads=0, guest_read_at=None)
    return Transition(done, Verdict.DONE, "the agent was restarted")


def restart_failed(p: Progress, failure: Failure, rules: Rules, now: datetime) -> Transition:
    """A refused restart is given up after a few tries; an unreachable guest is retried until the deadline."""
    refused = failure.code is FaultCode.AGENT_RESTART_FAILED
    give_up = (refused and p.tries + 1 >= _MOST_RESTART_TRIES) or not RULES[failure.code].retryable
    after = replace(p, failed=failure) if give_up else p.back_off(failure, rules, now)
    return Transition(after, Verdict.NOT_YET, failure.message)


def verify_failed(p: Progress, failure: Failure, now: datetime) -> Transition:
    """The job has its proof or its time is over, so the last look at the cluster is good enough to end with."""
    settled = replace(p, after=p.seen or p.between) if p.proof is not None else p
    late = p.verify_by is not None and now >= p.verify_by
    return Transition(replace(settled, reported=False, news=False, last_check=late), Verdict.NOT_YET, failure.message)


def verified(p: Progress, answer: Verified, rules: Rules, now: datetime) -> Transition:
    p = replace(
        p,
        seen=answer.sighting or p.seen,
        clock=answer.clock or p.clock,
        news=False,
        reported=False,
        last_check=p.verify_by is not None and now >= p.verify_by,
        guest=answer.guest or p.guest,
        guest_reads=p.guest_reads + (1 if answer.guest_asked else 0),
        guest_read_at=now if answer.guest_asked else p.guest_read_at,
    )
    if answer.sighting is not None and answer.sighting.entity is None:
        return Transition(entity_gone(p, now), Verdict.NOT_YET, "the VM's tools entity is gone")
    proof = proof_by_guest(p, answer.guest) if answer.guest is not None else None
    if proof is None and p.pushed is not None:
        proof = proof_by_push(p, p.pushed)
    if proof is None and p.seen is not None:
        proof = proof_by_expiry_date(p, p.seen)
    if proof is None and p.seen is not None and _accepts_link_only(p, rules, now):
        proof = link_only(p, p.seen)
    if proof is None:
        return Transition(p, Verdict.NOT_YET, "the new certificate was not seen yet")
    return Transition(replace(p.without_trouble(), proof=proof, seen=None), Verdict.DONE, f"proved by {proof.by}")


def _accepts_link_only(p: Progress, rules: Rules, now: datetime) -> bool:
    """An active link may end the job as `unverified`; where a proof is possible, only after the deadline."""
    late = p.verify_by is not None and now >= p.verify_by
    return p.accepts_unverified(rules) and (late or not can_be_proved(p))


# The evidence.


def proof_by_guest(p: Progress, guest: GuestSighting) -> Proof | None:
    """The guest's own certificate is later than before and another one: the strongest proof."""
    new = guest.certificate
    if new is None or not _is_newer(p, new) or not _is_this_vms_guest(p, guest):
        return None
    return Proof(ProvedBy.GUEST_CERTIFICATE, guest.at, new.not_after, new.not_before, new.serial)


def proof_by_push(p: Progress, pushed: PushedCertificate) -> Proof | None:
    """A certificate that was handed in and issued since the cluster issued, later than before, and another one.

    Its giver vouches for the rest. Where only the old date is known, the new date must be later.
    """
    new = pushed.certificate
    if p.issued_at is None or pushed.at <= p.issued_at or not _is_newer(p, new):
        return None
    if not _issued_for_this(p, new):
        return None
    old = known_not_after(p)
    if old is not None and new.not_after <= old:
        return None
    return Proof(ProvedBy.PUSHED_CERTIFICATE, pushed.at, new.not_after, new.not_before, new.serial)


def proof_by_expiry_date(p: Progress, sighting: Sighting) -> Proof | None:
    """The cluster's date moved forward after the mount; before the mount it may be that of the issued certificate."""
    new, old = expiry_date(sighting), known_not_after(p)
    if new is None or old is None or new <= old or p.between is None or p.mounted_at is None:
        return None
    between = expiry_date(p.between)
    if between is not None and between > old:
        return None
    if sighting.at <= p.between.at:
        return None
    return Proof(ProvedBy.CVM_EXPIRY_DATE, sighting.at, new)


def link_only(p: Progress, sighting: Sighting) -> Proof | None:
    """The link is active after the agent was restarted: not a proof, for an operator who accepts that."""
    entity = sighting.entity
    if entity is None or entity.link_active is not True or p.mounted_at is None:
        return None
    ejected = entity.iso_mounted is False and sighting.at > p.mounted_at
    was_restarted = p.restarted_at is not None and sighting.at > p.restarted_at
    if not (ejected or was_restarted or p.reported):
        return None
    return Proof(ProvedBy.LINK_ONLY, sighting.at)


def _is_newer(p: Progress, new: Certificate) -> bool:
    """Later than the guest's own from before and of another serial; without one, issued for this renewal."""
    if p.issued_at is None:
        return False
    before = p.before.guest if p.before is not None else None
    old = before.certificate if before is not None else None
    if old is None:
        return _issued_for_this(p, new)
    return new.not_after > old.not_after and new.serial != old.serial


def _issued_for_this(p: Progress, new: Certificate) -> bool:
    return p.issued_at is not None and new.not_before >= p.issued_at - _CLOCK_TOLERANCE


def _is_this_vms_guest(p: Progress, guest: GuestSighting) -> bool:
    """The entity that the guest names decides; without it, both readings must share the address and the host key.

    Clones share host keys and addresses move, so a guest that names another VM's entity is never this VM's.
    """
    entities = (p.between, p.seen)
    ngt_uuids = {s.entity.ngt_uuid for s in entities if s is not None and s.entity is not None} - {None}
    if guest.ngt_uuid is not None and ngt_uuids:
        return guest.ngt_uuid in ngt_uuids
    before = p.before.guest if p.before is not None else None
    if before is None:
        return False
    return (before.address, before.host_key) == (guest.address, guest.host_key)

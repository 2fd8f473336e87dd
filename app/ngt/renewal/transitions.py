"""What each answer means for a renewal: `advance` takes what was seen or said and gives the new progress.

Four verdicts: DONE, NOT_YET, REFUSED, and LOST (sent, never answered), the one that a crash or a cut line makes.
A tool that ended without a result word did not refuse: its call may still land, so its answer counts as LOST.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import assert_never

from app.ngt.errors import RULES, FaultCode
from app.ngt.renewal.machine import MOST_LOST_ANSWERS
from app.ngt.renewal.progress import (
    Before,
    CvmClock,
    EntityStage,
    Failure,
    FoundVm,
    GuestSighting,
    Intent,
    Progress,
    PushedCertificate,
    RestartAgent,
    Rules,
    Sighting,
    StepName,
)
from app.ngt.renewal.proof import known_not_after, link_only, proof_by_expiry_date, proof_by_guest, proof_by_push
from app.ngt.renewal.standing import accepts_link_only, is_stranded, lost_capabilities, restart_of
from app.ngt.tools.change_command import ChangeAnswer, ToolAnswer
from app.ngt.tools.ncli_format import read_ncli_error
from app.ngt.tools.result_vec import is_success, read_results
from app.ngt.vocabulary import NO_FREE_CD_ROM_SLOT, PowerState

_MOST_RESTART_TRIES = 3


class Verdict(StrEnum):
    """What became of one step, as it stands in the job's steps."""

    DONE = "succeeded"
    NOT_YET = "not_yet"
    REFUSED = "failed"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Resumed:
    """A worker took the job up; `sighting` is what the watch saw since, `reported`: a caller said to look now.

    `pushed` is the last certificate that was handed in for the VM, also one that was before the job.
    """

    sighting: Sighting | None
    reported: bool
    pushed: PushedCertificate | None = None


@dataclass(frozen=True, slots=True)
class VmFound:
    """Exactly one cluster has the VM."""

    cluster: str
    vm: FoundVm


@dataclass(frozen=True, slots=True)
class BeforeRead:
    """The first reading: the entity, and the guest or why it could not be read."""

    sighting: Sighting
    clock: CvmClock
    guest: GuestSighting | None
    guest_failure: Failure | None


@dataclass(frozen=True, slots=True)
class Looked:
    """A CVM showed the entity, or that there is none."""

    sighting: Sighting
    clock: CvmClock


@dataclass(frozen=True, slots=True)
class Failed:
    """A look, or the sending of a change, did not come about: certainly nothing was changed by it."""

    step: StepName
    failure: Failure


@dataclass(frozen=True, slots=True)
class Changed:
    """The framed answer of the change that the intent is about."""

    answer: ChangeAnswer


@dataclass(frozen=True, slots=True)
class ChangeLost:
    """The change was sent, and no whole answer came."""


@dataclass(frozen=True, slots=True)
class AgentRestarted:
    """The guest's service was restarted."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What a verification saw; either part may be missing."""

    sighting: Sighting | None
    clock: CvmClock | None
    guest: GuestSighting | None
    guest_asked: bool


Answer = Resumed | VmFound | BeforeRead | Looked | Failed | Changed | ChangeLost | AgentRestarted | Verified


@dataclass(frozen=True, slots=True)
class Transition:
    """The new progress, the verdict on the step, and the words to show: `result_vec` and a sentence."""

    progress: Progress
    verdict: Verdict
    message: str = ""
    result_vec: str | None = None


def advance(p: Progress, answer: Answer, rules: Rules, now: datetime) -> Transition:
    """The one place where progress changes."""
    match answer:
        case Resumed():
            return Transition(_woken(p, answer, rules, now), Verdict.DONE)
        case VmFound(cluster, vm):
            return Transition(
                _calm(replace(p, cluster=cluster, vm=vm)), Verdict.DONE, f"found {vm.name!r} on {cluster}"
            )
        case BeforeRead():
            return _before_read(p, answer)
        case Looked(sighting, clock):
            return _looked(replace(p, clock=clock), sighting, rules, now)
        case Failed(step, failure):
            return _failed(p, step, failure, rules, now)
        case Changed():
            assert p.intent is not None
            return _changed(replace(p, intent=None), p.intent, answer.answer, rules, now)
        case ChangeLost():
            assert p.intent is not None
            return _lost(p, p.intent)
        case AgentRestarted():
            restarted = replace(_calm(p), restarted_at=now, guest_reads=0, guest_read_at=None)
            return Transition(restarted, Verdict.DONE, "the agent was restarted")
        case Verified():
            return _verified(p, answer, rules, now)
        case _:
            assert_never(answer)


def _calm(p: Progress) -> Progress:
    """What was tried came about, so the next thing starts without back-off."""
    return replace(p, tries=0, retry_at=None, trouble=None)


def _try_again(p: Progress, failure: Failure, rules: Rules, now: datetime) -> Progress:
    delay_s = min(rules.retry_first_s * 2.0 ** min(p.tries, 30), rules.retry_last_s)
    return replace(p, tries=p.tries + 1, retry_at=now + timedelta(seconds=delay_s), trouble=failure)


def _verify_by(p: Progress, rules: Rules, now: datetime) -> datetime:
    off = p.vm is not None and p.vm.power is PowerState.OFF
    by_hand = off or restart_of(p, rules) is RestartAgent.MANUAL
    return now + timedelta(seconds=rules.verify_timeout_manual_s if by_hand else rules.verify_timeout_ssh_s)


# Looks.


def _woken(p: Progress, woken: Resumed, rules: Rules, now: datetime) -> Progress:
    if p.intent is not None:
        # Whoever sent it is gone without storing an answer: it may be at work still.
        return replace(p, intent=replace(p.intent, lost=True))
    if p.entity is EntityStage.ISSUED and p.verify_by is None:
        p = replace(p, verify_by=_verify_by(p, rules, now))
    if woken.reported:
        p = replace(p, reported=True, retry_at=None)
    pushed = woken.pushed if p.proof is None else None
    # The last one may be of years ago, and one that proves nothing is no news.
    if pushed is not None and pushed != p.pushed and proof_by_push(p, pushed) is not None:
        p = replace(p, pushed=pushed, news=True, retry_at=None)
    sighting = woken.sighting
    if sighting is None or p.mounted_at is None or sighting.at <= p.mounted_at:
        return p
    if p.seen is not None and sighting.at <= p.seen.at:
        return p
    if p.vm is not None and sighting.power is not PowerState.UNKNOWN:
        p = replace(p, vm=replace(p.vm, power=sighting.power))
    if sighting.entity is None:
        return _gone(replace(p, retry_at=None), now)
    return replace(p, seen=sighting, news=True, retry_at=None)


def _before_read(p: Progress, answer: BeforeRead) -> Transition:
    fault = answer.guest_failure
    before = Before(
        sighting=answer.sighting,
        guest=answer.guest,
        guest_fault=fault.message if fault is not None else None,
        guest_fault_code=fault.code if fault is not None else None,
    )
    known = replace(_calm(p), before=before, seen=answer.sighting, clock=answer.clock)
    old = known_not_after(known)
    said = f"the certificate is valid until {old:%Y-%m-%d}" if old is not None else "no certificate's date is known"
    if answer.sighting.entity is None:
        said = "the VM has no tools entity"
    return Transition(known, Verdict.DONE, f"{said}; {fault.message}" if fault is not None else said)


def _looked(p: Progress, sighting: Sighting, rules: Rules, now: datetime) -> Transition:
    p = replace(p, seen=sighting, retry_at=None)
    if p.intent is not None:
        return _look_after_lost_answer(p, p.intent, sighting, rules, now)
    if p.entity is EntityStage.MISSING and sighting.entity is not None:
        return Transition(_calm(_issued(p, rules, now)), Verdict.DONE, "the VM has its tools entity")
    if p.entity is EntityStage.UNTOUCHED and p.delete_begun and sighting.entity is None:
        missing = replace(_missing(p, now), refused=None)
        return Transition(missing, Verdict.DONE, "the VM has no tools entity")
    if p.entity is EntityStage.UNTOUCHED and p.refused is not None:
        p = replace(p, failed=p.refused)
    if p.entity is EntityStage.ISSUED and sighting.entity is None:
        return Transition(_gone(p, now), Verdict.DONE, "the VM's tools entity is gone")
    if p.entity is EntityStage.ISSUED and p.between is None:
        p = replace(p, between=sighting)
    if p.entity is EntityStage.ISSUED and p.mounted_at is None and p.was_mounted and _iso_mounted(sighting):
        p = replace(p, mounted_at=now, verify_by=_verify_by(p, rules, now))
    if p.proof is not None and p.after is None:
        p = replace(p, after=sighting)
    return Transition(p, Verdict.DONE)


def _iso_mounted(sighting: Sighting) -> bool:
    return sighting.entity is not None and sighting.entity.iso_mounted is True


def _missing(p: Progress, now: datetime) -> Progress:
    """The VM has no entity: from now on there is only forward, to a create that says so."""
    return replace(p, entity=EntityStage.MISSING, missing_since=p.missing_since or now, failed=None)


def _gone(p: Progress, now: datetime) -> Progress:
    """Somebody deleted the entity that was issued; the VM must not be left without one."""
    return replace(_missing(p, now), delete_begun=True, mounted_at=None, between=None, proof=None, after=None)


def _issued(p: Progress, rules: Rules, now: datetime) -> Progress:
    """The cluster has issued a new certificate: from now on it only has to reach the guest.

    What was mounted, restarted or even proved before, where somebody deleted the entity meanwhile, was of another one.
    """
    return replace(
        p,
        entity=EntityStage.ISSUED,
        issued_at=now,
        missing_since=None,
        between=None,
        mounted_at=None,
        was_mounted=False,
        refused=None,
        verify_by=_verify_by(p, rules, now),
        restarted_at=None,
        guest_reads=0,
        guest_read_at=None,
        proof=None,
        after=None,
        capabilities_tried=False,
    )


def _look_after_lost_answer(p: Progress, intent: Intent, sighting: Sighting, rules: Rules, now: datetime) -> Transition:
    """Two looks that agree decide what the lost change left behind; a call that was on its way may land between."""
    looks = (*intent.looks, sighting)
    settled = len(looks) > 1 and _agree(looks[-2], looks[-1])
    if not settled:
        looking = replace(intent, lost=True, looks=looks[-2:])
        return Transition(replace(p, intent=looking), Verdict.NOT_YET, "looking again")
    p = replace(p, intent=None, lost_answers=p.lost_answers + 1, retry_at=None)
    if sighting.entity is None and p.delete_begun:
        missing = replace(_missing(p, now), mounted_at=None, between=None)
        return Transition(missing, Verdict.LOST, "the VM has no tools entity")
    if intent.step is StepName.MOUNT_ISO:
        if _iso_mounted(sighting):
            return Transition(replace(p, mounted_at=now, verify_by=_verify_by(p, rules, now)), Verdict.DONE, "mounted")
        return Transition(p, Verdict.LOST, "the ISO is not mounted; it will be mounted again")
    if intent.step is StepName.RESTORE_CAPABILITIES:
        p = replace(p, after=sighting if p.proof is not None else p.after)
        if not lost_capabilities(p):
            return Transition(replace(p, capabilities_tried=True), Verdict.DONE)
        # They are worth another try, but not a job without an end.
        given_up = p.lost_answers >= MOST_LOST_ANSWERS
        return Transition(
            replace(p, capabilities_tried=given_up), Verdict.LOST, "nothing was put back; it is tried again"
        )
    if intent.step is StepName.RECREATE_ENTITY and _is_new_entity(p, sighting):
        return Transition(_issued(p, rules, now), Verdict.DONE, "the VM has a new tools entity")
    # A refresh leaves no sign on the entity. Another one does no harm, but one that was never done would be missed.
    said = "the VM has its tools entity, perhaps still the one from before; it is tried again"
    return Transition(replace(p, entity=EntityStage.UNTOUCHED), Verdict.LOST, said)


def _agree(one: Sighting, other: Sighting) -> bool:
    first, second = one.entity, other.entity
    if first is None or second is None:
        return first is second
    return (first.ngt_uuid, first.iso_mounted) == (second.ngt_uuid, second.iso_mounted)


def _is_new_entity(p: Progress, sighting: Sighting) -> bool:
    """Not the entity from before; where no `ngt_uuid` is shown, only an entity that was missing is known to be new."""
    if sighting.entity is None:
        return False
    before = p.before.sighting.entity if p.before is not None else None
    if before is None or p.entity is EntityStage.MISSING:
        return True
    old, new = before.ngt_uuid, sighting.entity.ngt_uuid
    return old is not None and new is not None and old != new


# Changes.


def _lost(p: Progress, intent: Intent) -> Transition:
    message = f"the answer was lost; the VM is not touched again before {intent.remote_until_at:%H:%M:%S}Z"
    return Transition(replace(p, intent=replace(intent, lost=True)), Verdict.LOST, message)


def _verdict_of(answer: ToolAnswer) -> tuple[Verdict, str | None]:
    """The verdict on one tool, and its result words."""
    results = read_results(answer.output)
    words = " ".join(results) or None
    if is_success(results):
        # A tool that says `kNoError` and fails contradicts itself: only a look can tell.
        return (Verdict.DONE if answer.exit_status == 0 else Verdict.LOST), words
    return (Verdict.REFUSED, words) if results else (Verdict.LOST, None)


def _verdict_of_ncli_mount(answer: ToolAnswer) -> tuple[Verdict, str | None]:
    """An operator may have ncli mount, which prints no result word but names a taken slot in its error."""
    error = read_ncli_error(answer.output)
    if error is not None and NO_FREE_CD_ROM_SLOT in error:
        return Verdict.REFUSED, NO_FREE_CD_ROM_SLOT
    return (Verdict.DONE if error is None and answer.exit_status == 0 else Verdict.LOST), None


def _changed(p: Progress, intent: Intent, answer: ChangeAnswer, rules: Rules, now: datetime) -> Transition:
    if answer.late:
        late = Failure(FaultCode.COMMAND_TIMEOUT, f"the text reached {intent.cvm} too late and refused to begin")
        return _failed(p, intent.step, late, rules, now)
    if intent.step is StepName.RESTORE_CAPABILITIES:
        errors = "; ".join(filter(None, (read_ncli_error(tool.output) for tool in answer.tools)))
        names = ", ".join(tool.name for tool in answer.tools)
        return Transition(replace(p, capabilities_tried=True, after=None), Verdict.DONE, errors or names)
    if not answer.tools:
        return _lost(replace(p, intent=intent), intent)
    last = answer.tools[-1]
    verdict, words = _verdict_of(last)
    if verdict is Verdict.LOST and last.name == "mount" and "ncli" in rules.tools.mount.split()[0]:
        verdict, words = _verdict_of_ncli_mount(last)
    match verdict, last.name:
        case Verdict.LOST, _:
            return _lost(replace(p, intent=intent), intent)
        case Verdict.DONE, "delete":
            # Delete was done and create did not follow: the text was cut down before it.
            return _lost(replace(p, intent=intent), intent)
        case Verdict.DONE, "mount":
            mounted = replace(_calm(p), mounted_at=now, verify_by=_verify_by(p, rules, now))
            return Transition(mounted, Verdict.DONE, "the ISO is mounted", words)
        case Verdict.DONE, _:
            return Transition(_calm(_issued(p, rules, now)), Verdict.DONE, "a new certificate was issued", words)
        case _:
            refused = _refused(p, last.name, words or "", rules, now)
            said = refused.trouble or refused.refused or refused.failed
            return Transition(refused, Verdict.REFUSED, said.message if said is not None else "", words)


def _refused(p: Progress, tool: str, words: str, rules: Rules, now: datetime) -> Progress:
    code = FaultCode
    match tool:
        case "delete":
            message = f"delete_vm_tools_entity answered {words}; the VM keeps its tools entity and nothing was changed."
            return replace(p, refused=Failure(code.ENTITY_DELETE_FAILED, message))
        case "refresh":
            message = f"refresh_vm_tools_entity answered {words}; the VM keeps its tools entity."
            return replace(p, refused=Failure(code.ENTITY_REFRESH_FAILED, message))
        case "create" if p.delete_begun:
            failure = Failure(code.ENTITY_CREATE_FAILED, f"create_vm_tools_entity answered {words}")
            return _missing(_try_again(p, failure, rules, now), now)
        case "create":
            message = f"create_vm_tools_entity answered {words}; the VM had no tools entity before, and has none now."
            return replace(p, refused=Failure(code.ENTITY_CREATE_FAILED, message))
        case _ if words == NO_FREE_CD_ROM_SLOT:
            message = (
                "the certificate is issued, but the VM has no free CD-ROM slot for the NGT ISO (kNoFreeCdRomSlot): "
                "eject the medium from the VM's CD-ROM, or add an empty one; the mount is tried again by itself"
            )
            return _try_again(p, Failure(code.NO_FREE_CDROM, message), rules, now)
        case _:
            message = f"the new certificate is issued, but mounting its ISO answered {words}."
            return replace(p, failed=Failure(code.ISO_MOUNT_FAILED, message))


# What did not come about.


def _failed(p: Progress, step: StepName, failure: Failure, rules: Rules, now: datetime) -> Transition:
    said = Transition(p, Verdict.NOT_YET, failure.message)
    if step is StepName.RESTORE_CAPABILITIES:
        return replace(said, progress=replace(p, intent=None, capabilities_tried=True), verdict=Verdict.REFUSED)
    if step is StepName.VERIFY:
        # The proof stands, or the time is over: what the cluster shows last is good enough to end with.
        settled = replace(p, after=p.seen or p.between) if p.proof is not None else p
        late = p.verify_by is not None and now >= p.verify_by
        return replace(said, progress=replace(settled, reported=False, news=False, last_check=late))
    if step is StepName.RESTART_AGENT:
        return replace(said, progress=_restart_failed(p, failure, rules, now))
    sent_nothing = replace(p, intent=None) if p.intent is not None and not p.intent.lost else p
    # After a refusal nothing is known before somebody has looked, however long that takes.
    untouched = p.entity is EntityStage.UNTOUCHED and sent_nothing.intent is None and p.refused is None
    give_up = not RULES[failure.code].retryable or p.tries >= rules.unreachable_retries
    if untouched and give_up and not is_stranded(sent_nothing):
        return replace(said, progress=replace(sent_nothing, failed=failure), verdict=Verdict.REFUSED)
    return replace(said, progress=_try_again(sent_nothing, failure, rules, now))


def _restart_failed(p: Progress, failure: Failure, rules: Rules, now: datetime) -> Progress:
    """A refused restart is given up after a few tries; a guest that is not reached is tried until the deadline."""
    refused = failure.code is FaultCode.AGENT_RESTART_FAILED
    if (refused and p.tries + 1 >= _MOST_RESTART_TRIES) or not RULES[failure.code].retryable:
        return replace(p, failed=failure)
    return _try_again(p, failure, rules, now)


# Proving it.


def _verified(p: Progress, answer: Verified, rules: Rules, now: datetime) -> Transition:
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
        return Transition(_gone(p, now), Verdict.NOT_YET, "the VM's tools entity is gone")
    proof = proof_by_guest(p, answer.guest) if answer.guest is not None else None
    if proof is None and p.pushed is not None:
        proof = proof_by_push(p, p.pushed)
    if proof is None and p.seen is not None:
        proof = proof_by_expiry_date(p, p.seen)
    if proof is None and p.seen is not None and accepts_link_only(p, rules, now):
        proof = link_only(p, p.seen)
    if proof is None:
        return Transition(p, Verdict.NOT_YET, "the new certificate was not seen yet")
    return Transition(replace(_calm(p), proof=proof, seen=None), Verdict.DONE, f"proved by {proof.by}")

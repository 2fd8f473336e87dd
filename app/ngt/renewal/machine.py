"""The renewal as a state machine: `next_action` decides, `advance` takes the answer. Pure: the caller brings the time.

`before`, `change` and `proof` hold the rules of the three phases.
"""

from datetime import datetime
from typing import assert_never

from app.ngt.errors import FaultCode
from app.ngt.renewal import before, change, proof
from app.ngt.renewal.progress import EntityStage, Progress, StepName, WaitReason
from app.ngt.renewal.request import Rules
from app.ngt.renewal.steps import (
    Action,
    AgentRestarted,
    Answer,
    BeforeRead,
    Changed,
    ChangeLost,
    Failed,
    FindVm,
    Finish,
    LookAtEntity,
    Looked,
    ReadBefore,
    Resumed,
    Transition,
    Verdict,
    Verified,
    VmFound,
    Wait,
)

# The steps in order, each with the percent that a job shows when it begins.
PROCEDURE = {
    StepName.FIND_VM: 5,
    StepName.READ_NGT_BEFORE: 15,
    StepName.RECREATE_ENTITY: 30,
    StepName.REFRESH_ENTITY: 30,
    StepName.MOUNT_ISO: 50,
    StepName.RESTART_AGENT: 65,
    StepName.VERIFY: 80,
    StepName.RESTORE_CAPABILITIES: 95,
}


def next_action(p: Progress, rules: Rules, now: datetime) -> Action:
    """The whole order of the procedure."""
    if p.intent is not None:
        return change.wait_for_lost_answer(p, p.intent, rules, now)
    if p.failed is not None:
        return change.finish(p, rules, now, Finish("failed", p.failed.message, p.failed))
    if p.retry_at is not None and now < p.retry_at:
        return _wait_to_retry(p)
    if p.vm is None:
        return FindVm()
    if p.before is None:
        return ReadBefore()
    if p.entity is EntityStage.UNTOUCHED:
        look = change.look_after_own_delete(p, rules, now)
        return look or before.end_before_change(p, rules, now) or change.issue(p, rules, now)
    if p.entity is EntityStage.MISSING:
        return change.make(p, rules, now, StepName.RECREATE_ENTITY)
    if p.mounted_at is None:
        return change.mount(p, rules, now)
    if p.proof is None:
        return proof.prove(p, rules, now)
    if p.after is None:
        return LookAtEntity(StepName.VERIFY)
    return change.finish(p, rules, now, proof.success(p))


def advance(p: Progress, answer: Answer, rules: Rules, now: datetime) -> Transition:
    """The only function that changes the progress of a running renewal."""
    match answer:
        case Resumed():
            if p.intent is not None:
                return Transition(change.sender_gone(p, p.intent), Verdict.DONE)
            return Transition(proof.resumed(p, answer, rules, now), Verdict.DONE)
        case VmFound():
            return before.found(p, answer)
        case BeforeRead():
            return before.read(p, answer)
        case Looked():
            return change.looked(p, answer, rules, now)
        case Changed():
            assert p.intent is not None
            return change.answered(p, p.intent, answer.answer, rules, now)
        case ChangeLost():
            assert p.intent is not None
            return change.lost(p, p.intent)
        case AgentRestarted():
            return proof.restarted(p, now)
        case Verified():
            return proof.verified(p, answer, rules, now)
        case Failed():
            return _failed(p, answer, rules, now)
        case _:
            assert_never(answer)


def _failed(p: Progress, answer: Failed, rules: Rules, now: datetime) -> Transition:
    match answer.step:
        case StepName.VERIFY:
            return proof.verify_failed(p, answer.failure, now)
        case StepName.RESTART_AGENT:
            return proof.restart_failed(p, answer.failure, rules, now)
        case step:
            return change.failed(p, step, answer.failure, rules, now)


def _wait_to_retry(p: Progress) -> Wait:
    said = p.trouble.message if p.trouble is not None else "a try failed"
    if p.entity is EntityStage.MISSING:
        message = f"the VM has no tools entity at the moment; create is tried again: {said}"
        return Wait(WaitReason.ENTITY_MISSING, message, p.retry_at)
    if p.is_stranded:
        message = f"the VM may have no tools entity; a CVM has to show it first: {said}"
        return Wait(WaitReason.ENTITY_MISSING, message, p.retry_at)
    reason = WaitReason.CVM_UNREACHABLE
    if p.trouble is not None and p.trouble.code is FaultCode.NO_FREE_CDROM:
        reason = WaitReason.NO_FREE_CDROM_SLOT
    elif p.mounted_at is not None:
        reason = WaitReason.GUEST_UNREACHABLE
    return Wait(reason, said, p.retry_at, p.verify_by)

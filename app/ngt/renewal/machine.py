"""The renewal as a table, and what to do next. Pure: the caller brings the time, acts, and brings the answer back.

Past delete there is only forward. A change whose answer is missing may still be at work, so nobody sends another one
before its time is over and two looks, a minute apart, agree on what it left behind.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from app.ngt.errors import FaultCode
from app.ngt.renewal.progress import (
    EntityStage,
    Failure,
    Intent,
    Mode,
    Progress,
    ProvedBy,
    RestartAgent,
    Rules,
    StepName,
    WaitReason,
)
from app.ngt.renewal.proof import expiry_date, proof_by_push
from app.ngt.renewal.refusals import already_valid, refuse
from app.ngt.renewal.standing import is_stranded, lost_capabilities, mode_of, restart_by_hand, restart_of
from app.ngt.tools.change_command import ToolCall
from app.ngt.tools.command_lines import for_vm
from app.ngt.vocabulary import PowerState

# A change that is lost again and again although nothing was deleted is given up after so many.
MOST_LOST_ANSWERS = 5


@dataclass(frozen=True, slots=True)
class ProcedureStep:
    """One row of the procedure. `changes`: it sends a changing text to a CVM."""

    name: StepName
    changes: bool
    percent: int


PROCEDURE = (
    ProcedureStep(StepName.FIND_VM, changes=False, percent=5),
    ProcedureStep(StepName.READ_NGT_BEFORE, changes=False, percent=15),
    ProcedureStep(StepName.RECREATE_ENTITY, changes=True, percent=30),
    ProcedureStep(StepName.REFRESH_ENTITY, changes=True, percent=30),
    ProcedureStep(StepName.MOUNT_ISO, changes=True, percent=50),
    ProcedureStep(StepName.RESTART_AGENT, changes=False, percent=65),
    ProcedureStep(StepName.VERIFY, changes=False, percent=80),
    ProcedureStep(StepName.RESTORE_CAPABILITIES, changes=True, percent=95),
)


@dataclass(frozen=True, slots=True)
class FindVm:
    """Ask the listings of the clusters for the VM."""

    step = StepName.FIND_VM


@dataclass(frozen=True, slots=True)
class ReadBefore:
    """Look at the entity and, where the guest can be reached, at its certificate."""

    step = StepName.READ_NGT_BEFORE


@dataclass(frozen=True, slots=True)
class LookAtEntity:
    """Look at the entity and at the CVM's clock. `step` is the one that needs it."""

    step: StepName


@dataclass(frozen=True, slots=True)
class MakeChange:
    """Send a changing text to the CVM of the last look. `deletes`: after it the VM may be without its entity."""

    step: StepName
    calls: tuple[ToolCall, ...]
    deletes: bool


@dataclass(frozen=True, slots=True)
class RestartTheAgent:
    """Restart the agent in the guest over SSH."""

    step = StepName.RESTART_AGENT


@dataclass(frozen=True, slots=True)
class Verify:
    """See whether the certificate is the new one. `look`: ask a CVM too, not only the guest."""

    look: bool
    step = StepName.VERIFY


@dataclass(frozen=True, slots=True)
class Wait:
    """Put the job back. `until` None: something else wakes it; `deadline`: when it is given up."""

    reason: WaitReason
    message: str
    until: datetime | None
    deadline: datetime | None = None


@dataclass(frozen=True, slots=True)
class Finish:
    """The job ends: `outcome` is renewed, unverified, already_valid, planned or failed."""

    outcome: str
    message: str
    failure: Failure | None = None


Action = FindVm | ReadBefore | LookAtEntity | MakeChange | RestartTheAgent | Verify | Wait | Finish


def next_action(p: Progress, rules: Rules, now: datetime) -> Action:
    """What the renewal does next; the whole order of the procedure stands here."""
    if p.intent is not None:
        return _wait_for_lost_answer(p, p.intent, rules, now)
    if p.failed is not None:
        return _finish(p, rules, now, Finish("failed", p.failed.message, p.failed))
    if p.retry_at is not None and now < p.retry_at:
        return _wait_to_try_again(p, rules)
    if p.vm is None:
        return FindVm()
    if p.before is None:
        return ReadBefore()
    if p.entity is EntityStage.UNTOUCHED:
        return _look_after_own_delete(p, rules, now) or _end_before_any_change(p, rules, now) or _begin(p, rules, now)
    if p.entity is EntityStage.MISSING:
        return _change(p, rules, now, StepName.RECREATE_ENTITY)
    if p.mounted_at is None:
        return _mount(p, rules, now)
    if p.proof is None:
        return _prove(p, rules, now)
    if p.after is None:
        return LookAtEntity(StepName.VERIFY)
    return _finish(p, rules, now, _success(p))


# What ends a renewal before anything was changed.


def _look_after_own_delete(p: Progress, rules: Rules, now: datetime) -> LookAtEntity | None:
    """Once a delete of ours was on its way, nothing is said of the VM before it was looked at."""
    return LookAtEntity(StepName.RECREATE_ENTITY) if p.delete_begun and not _is_fresh(p, rules, now) else None


def _end_before_any_change(p: Progress, rules: Rules, now: datetime) -> Finish | None:
    if p.request.validate_only:
        return Finish("planned", "this is what a renewal would do; nothing was changed")
    if (valid := already_valid(p, rules, now)) is not None:
        return Finish("already_valid", valid)
    refusals = refuse(p, rules)
    return Finish("failed", refusals[0].message, refusals[0]) if refusals else None


# Changes on the cluster.


def _begin(p: Progress, rules: Rules, now: datetime) -> Action:
    step = StepName.REFRESH_ENTITY if mode_of(p, rules) is Mode.REFRESH else StepName.RECREATE_ENTITY
    if p.lost_answers >= MOST_LOST_ANSWERS:
        message = f"the answer to {step} was lost {p.lost_answers} times; the VM still has its tools entity."
        return Finish("failed", message, Failure(FaultCode.ANSWER_LOST, message))
    return _change(p, rules, now, step)


def _change(p: Progress, rules: Rules, now: datetime, step: StepName) -> Action:
    """The change, after a look that is fresh enough to know the CVM's clock and the entity by."""
    if not _is_fresh(p, rules, now):
        return LookAtEntity(step)
    calls = calls_of(p, rules, step)
    return MakeChange(step, calls, deletes=any(call.name in {"delete", "refresh"} for call in calls))


def _mount(p: Progress, rules: Rules, now: datetime) -> Action:
    if p.verify_by is not None and now >= p.verify_by:
        unanswered = "the new certificate is issued, but mounting its ISO was never answered in time."
        trouble = p.trouble or Failure(FaultCode.ISO_MOUNT_FAILED, unanswered)
        return _finish(p, rules, now, Finish("failed", trouble.message, trouble))
    if p.between is None:
        return LookAtEntity(StepName.MOUNT_ISO)
    return _change(p, rules, now, StepName.MOUNT_ISO)


def _is_fresh(p: Progress, rules: Rules, now: datetime) -> bool:
    if p.clock is None or p.seen is None:
        return False
    return now - p.clock.read_at <= timedelta(seconds=rules.clock_max_age_s) and p.seen.at >= p.clock.read_at


def calls_of(p: Progress, rules: Rules, step: StepName) -> tuple[ToolCall, ...]:
    """The tools of a changing step, as the entity was last seen."""
    tools, uuid = rules.tools, p.vm_uuid
    delete = ToolCall("delete", for_vm(tools.delete, uuid), rules.delete_timeout_s)
    create = ToolCall("create", for_vm(tools.create, uuid), rules.create_timeout_s)
    absent = p.seen is not None and p.seen.entity is None
    match step:
        case StepName.RECREATE_ENTITY:
            return (create,) if absent else (delete, replace(create, needs_previous=True))
        case StepName.REFRESH_ENTITY:
            return (ToolCall("refresh", for_vm(tools.refresh, uuid), rules.refresh_timeout_s),)
        case StepName.MOUNT_ISO:
            return (ToolCall("mount", for_vm(tools.mount, uuid), rules.mount_timeout_s),)
        case StepName.RESTORE_CAPABILITIES:
            return tuple(
                ToolCall(f"{verb}-{application}", for_vm(line, uuid, application=application), rules.mount_timeout_s)
                for application, wanted in lost_capabilities(p)
                for verb, line in (
                    [("enable", tools.enable_application)] if wanted else [("disable", tools.disable_application)]
                )
            )
        case _:
            message = f"{step} changes nothing"
            raise ValueError(message)


def begin(p: Progress, action: MakeChange, rules: Rules, now: datetime, marker: str) -> Progress:
    """The intent to change, to be stored before anything is sent."""
    assert p.clock is not None
    limit_s = sum(call.limit_s for call in action.calls)
    not_after = now + timedelta(seconds=rules.start_window_s)
    intent = Intent(
        step=action.step,
        marker=marker,
        cvm=p.clock.cvm,
        not_after_s=int(not_after.timestamp() + p.clock.offset_s),
        remote_until_at=not_after + timedelta(seconds=limit_s + rules.change_margin_s),
        deletes=action.deletes or (p.delete_begun and p.entity is not EntityStage.ISSUED),
    )
    return replace(p, intent=intent, delete_begun=p.delete_begun or action.deletes, seen=None)


def _wait_for_lost_answer(p: Progress, intent: Intent, rules: Rules, now: datetime) -> Action:
    settle = timedelta(seconds=rules.settle_s)
    due = intent.remote_until_at if not intent.looks else intent.looks[-1].at + settle
    if p.retry_at is not None:
        due = max(due, p.retry_at)
    if now < due:
        message = (
            f"the answer to {intent.step} on {intent.cvm} was lost; it may be at work until "
            f"{intent.remote_until_at:%H:%M:%S}Z, then the cluster is looked at twice before anything else is sent"
        )
        return Wait(WaitReason.UNANSWERED_CHANGE, message, due)
    return LookAtEntity(intent.step)


# Proving it.


def _prove(p: Progress, rules: Rules, now: datetime) -> Action:
    assert p.vm is not None
    assert p.verify_by is not None
    by_ssh = restart_of(p, rules) is RestartAgent.SSH and p.vm.power is not PowerState.OFF
    if now >= p.verify_by and p.last_check:
        return _finish(p, rules, now, _not_proved(p))
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
    if p.vm.guest_address is None or p.mounted_at is None or p.vm.power is PowerState.OFF:
        return None
    delays = rules.guest_read_delays_s
    if p.guest_read_at is None:
        by_hand = p.restarted_at is None
        return p.mounted_at + timedelta(seconds=delays[0]) if by_hand else p.restarted_at
    return p.guest_read_at + timedelta(seconds=delays[min(p.guest_reads - 1, len(delays) - 1)])


def _waiting_for_pickup(p: Progress, *, by_ssh: bool) -> tuple[WaitReason, str]:
    assert p.vm is not None
    if p.vm.power is PowerState.OFF:
        return (
            WaitReason.VM_POWERED_OFF,
            f"the new certificate is mounted; start VM {p.vm.name!r}, its agent picks it up when it boots",
        )
    if by_ssh:
        return WaitReason.PICKUP, f"the agent of VM {p.vm.name!r} was restarted; its new certificate was not seen yet"
    return WaitReason.AGENT_RESTART, restart_by_hand(p)


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
    message = f"the new certificate was issued, but in time nobody saw it in the VM: {seen}; the link is {state}."
    return Finish("failed", message, Failure(code, message))


# The end.


def _finish(p: Progress, rules: Rules, now: datetime, finish: Finish) -> Action:
    """Ends the job, after the capabilities that the new entity lost were put back."""
    if p.entity is EntityStage.ISSUED and not p.capabilities_tried and lost_capabilities(p):
        return _change(p, rules, now, StepName.RESTORE_CAPABILITIES)
    return finish


def _success(p: Progress) -> Finish:
    assert p.proof is not None
    remarks = [
        f"{name} was {'on' if old else 'off'} before and could not be put back" for name, old in lost_capabilities(p)
    ]
    link = p.after.entity.link_active if p.after is not None and p.after.entity is not None else None
    if p.proof.by is ProvedBy.LINK_ONLY:
        said = "the link is active, but the certificate was not seen: unverified"
        return Finish("unverified", "; ".join([said, *remarks]))
    if link is False:
        remarks.append("the communication link is not active yet")
    said = f"certificate renewed; valid until {p.proof.not_after:%Y-%m-%d}"
    return Finish("renewed", "; ".join([said, *remarks]))


def percent_of(p: Progress, current: StepName) -> int:
    return next(step.percent for step in PROCEDURE if step.name is current)


def _wait_to_try_again(p: Progress, rules: Rules) -> Wait:
    said = p.trouble.message if p.trouble is not None else "a try failed"
    if p.entity is EntityStage.MISSING:
        message = f"the VM has no tools entity at the moment; create is tried again: {said}"
        return Wait(WaitReason.ENTITY_MISSING, message, p.retry_at)
    if is_stranded(p):
        message = f"whether the VM has its tools entity is not known before a CVM shows it: {said}"
        return Wait(WaitReason.ENTITY_MISSING, message, p.retry_at)
    reason = WaitReason.CVM_UNREACHABLE
    if p.trouble is not None and p.trouble.code is FaultCode.NO_FREE_CDROM:
        reason = WaitReason.NO_FREE_CDROM_SLOT
    elif p.mounted_at is not None:
        reason = WaitReason.GUEST_UNREACHABLE
    return Wait(reason, said, p.retry_at, p.verify_by)

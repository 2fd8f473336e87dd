"""Changes on the cluster: the intent, the tools, their answers, and the recovery of a lost answer.

A job that has begun a delete does not end before the VM has an entity again. A change whose answer was lost may still
run on the CVM, so the next change is sent only after its time is over and two looks, a minute apart, agree on the
result. A tool that ended without a result word did not refuse: its call may still take effect, so its answer counts as
lost.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from app.ngt.errors import RULES, FaultCode
from app.ngt.renewal.progress import EntityStage, Failure, Intent, Progress, Sighting, StepName, WaitReason
from app.ngt.renewal.request import Mode, Rules
from app.ngt.renewal.steps import Action, Finish, LookAtEntity, Looked, MakeChange, Transition, Verdict, Wait
from app.ngt.tools.change_command import ChangeAnswer, ToolAnswer, ToolCall
from app.ngt.tools.command_lines import for_vm
from app.ngt.tools.ncli_format import read_ncli_error
from app.ngt.tools.result_vec import is_success, read_results
from app.ngt.vocabulary import NO_FREE_CD_ROM_SLOT

CHANGING_STEPS = frozenset(
    {StepName.RECREATE_ENTITY, StepName.REFRESH_ENTITY, StepName.MOUNT_ISO, StepName.RESTORE_CAPABILITIES}
)
# A change whose answer is lost repeatedly is given up after so many times, unless a delete was begun.
_MOST_LOST_ANSWERS = 5


# The next change.


def look_after_own_delete(p: Progress, rules: Rules, now: datetime) -> LookAtEntity | None:
    """Once a delete was sent, only a fresh look can tell the state of the VM."""
    return LookAtEntity(StepName.RECREATE_ENTITY) if p.delete_begun and not _is_fresh(p, rules, now) else None


def issue(p: Progress, rules: Rules, now: datetime) -> Action:
    step = issuing_step(p, rules)
    if p.lost_answers >= _MOST_LOST_ANSWERS:
        message = f"the answer to {step} was lost {p.lost_answers} times; the VM still has its tools entity."
        return Finish("failed", message, Failure(FaultCode.ANSWER_LOST, message))
    return make(p, rules, now, step)


def issuing_step(p: Progress, rules: Rules) -> StepName:
    return StepName.REFRESH_ENTITY if p.mode(rules) is Mode.REFRESH else StepName.RECREATE_ENTITY


def mount(p: Progress, rules: Rules, now: datetime) -> Action:
    if p.verify_by is not None and now >= p.verify_by:
        unanswered = "the new certificate is issued, but mounting its ISO was never answered in time."
        trouble = p.trouble or Failure(FaultCode.ISO_MOUNT_FAILED, unanswered)
        return finish(p, rules, now, Finish("failed", trouble.message, trouble))
    if p.between is None:
        return LookAtEntity(StepName.MOUNT_ISO)
    return make(p, rules, now, StepName.MOUNT_ISO)


def finish(p: Progress, rules: Rules, now: datetime, end: Finish) -> Action:
    """The end of the job, after the capabilities that the new entity has lost were restored."""
    if p.entity is EntityStage.ISSUED and not p.capabilities_tried and p.lost_capabilities:
        return make(p, rules, now, StepName.RESTORE_CAPABILITIES)
    return end


def make(p: Progress, rules: Rules, now: datetime, step: StepName) -> LookAtEntity | MakeChange:
    """The change, after a look that is fresh enough for the CVM's clock and the entity."""
    if not _is_fresh(p, rules, now):
        return LookAtEntity(step)
    calls = calls_of(p, rules, step)
    return MakeChange(step, calls, deletes=any(call.name in {"delete", "refresh"} for call in calls))


def _is_fresh(p: Progress, rules: Rules, now: datetime) -> bool:
    if p.clock is None or p.seen is None:
        return False
    return now - p.clock.read_at <= timedelta(seconds=rules.clock_max_age_s) and p.seen.at >= p.clock.read_at


def calls_of(p: Progress, rules: Rules, step: StepName) -> tuple[ToolCall, ...]:
    """The tools of a changing step, for the entity as it was last seen."""
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
        case _:
            return tuple(
                ToolCall(f"{verb}-{application}", for_vm(line, uuid, application=application), rules.mount_timeout_s)
                for application, wanted in p.lost_capabilities
                for verb, line in (
                    [("enable", tools.enable_application)] if wanted else [("disable", tools.disable_application)]
                )
            )


def begin(p: Progress, action: MakeChange, rules: Rules, now: datetime, marker: str) -> Progress:
    """The progress with the intent to change; it must be committed before anything is sent."""
    assert p.clock is not None
    assert action.step in CHANGING_STEPS
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


# The answer.


def answered(p: Progress, intent: Intent, answer: ChangeAnswer, rules: Rules, now: datetime) -> Transition:
    done = replace(p, intent=None)
    if answer.late:
        late = Failure(FaultCode.COMMAND_TIMEOUT, f"the text reached {intent.cvm} too late and refused to begin")
        return failed(done, intent.step, late, rules, now)
    if intent.step is StepName.RESTORE_CAPABILITIES:
        errors = "; ".join(filter(None, (read_ncli_error(tool.output) for tool in answer.tools)))
        names = ", ".join(tool.name for tool in answer.tools)
        return Transition(replace(done, capabilities_tried=True, after=None), Verdict.DONE, errors or names)
    if not answer.tools:
        return lost(p, intent)
    last = answer.tools[-1]
    verdict, words = _verdict_of(last)
    if verdict is Verdict.LOST and last.name == "mount" and "ncli" in rules.tools.mount.split()[0]:
        verdict, words = _verdict_of_ncli_mount(last)
    match verdict, last.name:
        case (Verdict.LOST, _) | (Verdict.DONE, "delete"):
            # After a delete that was done alone, the text was cut off before the create.
            return lost(p, intent)
        case Verdict.DONE, "mount":
            return Transition(_mounted(done.without_trouble(), rules, now), Verdict.DONE, "the ISO is mounted", words)
        case Verdict.DONE, _:
            issued = _issued(done, rules, now).without_trouble()
            return Transition(issued, Verdict.DONE, "a new certificate was issued", words)
        case _:
            refused = _refused(done, last.name, words or "", rules, now)
            said = refused.trouble or refused.refused or refused.failed
            return Transition(refused, Verdict.REFUSED, said.message if said is not None else "", words)


def _verdict_of(answer: ToolAnswer) -> tuple[Verdict, str | None]:
    """The verdict on one tool, and its result words."""
    results = read_results(answer.output)
    words = " ".join(results) or None
    if is_success(results):
        # A tool that prints `kNoError` and fails contradicts itself: only a look can tell.
        return (Verdict.DONE if answer.exit_status == 0 else Verdict.LOST), words
    return (Verdict.REFUSED, words) if results else (Verdict.LOST, None)


def _verdict_of_ncli_mount(answer: ToolAnswer) -> tuple[Verdict, str | None]:
    """An operator may have configured ncli for the mount; it prints no result word, and names a taken slot."""
    error = read_ncli_error(answer.output)
    if error is not None and NO_FREE_CD_ROM_SLOT in error:
        return Verdict.REFUSED, NO_FREE_CD_ROM_SLOT
    return (Verdict.DONE if error is None and answer.exit_status == 0 else Verdict.LOST), None


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
            return _missing(p.back_off(failure, rules, now), now)
        case "create":
            message = f"create_vm_tools_entity answered {words}; the VM had no tools entity before, and has none now."
            return replace(p, refused=Failure(code.ENTITY_CREATE_FAILED, message))
        case _ if words == NO_FREE_CD_ROM_SLOT:
            message = (
                "the certificate is issued, but the VM has no free CD-ROM slot for the NGT ISO (kNoFreeCdRomSlot): "
                "eject the medium from the VM's CD-ROM, or add an empty one; the mount is retried automatically"
            )
            return p.back_off(Failure(code.NO_FREE_CDROM, message), rules, now)
        case _:
            message = f"the new certificate is issued, but mounting its ISO answered {words}."
            return replace(p, failed=Failure(code.ISO_MOUNT_FAILED, message))


def failed(p: Progress, step: StepName, failure: Failure, rules: Rules, now: datetime) -> Transition:
    """A look, or the sending of a change, failed: nothing was changed by it."""
    said = Transition(p, Verdict.NOT_YET, failure.message)
    if step is StepName.RESTORE_CAPABILITIES:
        return replace(said, progress=replace(p, intent=None, capabilities_tried=True), verdict=Verdict.REFUSED)
    sent_nothing = replace(p, intent=None) if p.intent is not None and not p.intent.lost else p
    # After a refusal the state is unknown until a look succeeds, however long that takes.
    untouched = p.entity is EntityStage.UNTOUCHED and sent_nothing.intent is None and p.refused is None
    give_up = not RULES[failure.code].retryable or p.tries >= rules.unreachable_retries
    if untouched and give_up and not sent_nothing.is_stranded:
        return replace(said, progress=replace(sent_nothing, failed=failure), verdict=Verdict.REFUSED)
    return replace(said, progress=sent_nothing.back_off(failure, rules, now))


# A lost answer.


def sender_gone(p: Progress, intent: Intent) -> Progress:
    """The worker that sent the change has stored no answer: the change may still be running."""
    return replace(p, intent=replace(intent, lost=True))


def lost(p: Progress, intent: Intent) -> Transition:
    message = f"the answer was lost; the VM is not touched again before {intent.remote_until_at:%H:%M:%S}Z"
    return Transition(sender_gone(p, intent), Verdict.LOST, message)


def wait_for_lost_answer(p: Progress, intent: Intent, rules: Rules, now: datetime) -> Wait | LookAtEntity:
    settle = timedelta(seconds=rules.settle_s)
    due = intent.remote_until_at if not intent.looks else intent.looks[-1].at + settle
    if p.retry_at is not None:
        due = max(due, p.retry_at)
    if now < due:
        message = (
            f"the answer to {intent.step} on {intent.cvm} was lost; the command may run until "
            f"{intent.remote_until_at:%H:%M:%S}Z, and two looks at the cluster must follow before the next command"
        )
        return Wait(WaitReason.UNANSWERED_CHANGE, message, due)
    return LookAtEntity(intent.step)


def _look_after_lost_answer(p: Progress, intent: Intent, sighting: Sighting, rules: Rules, now: datetime) -> Transition:
    """Two looks that agree decide on the result of the lost change; a late call may take effect between them."""
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
        if sighting.iso_mounted:
            return Transition(_mounted(p, rules, now), Verdict.DONE, "mounted")
        return Transition(p, Verdict.LOST, "the ISO is not mounted; it will be mounted again")
    if intent.step is StepName.RESTORE_CAPABILITIES:
        p = replace(p, after=sighting if p.proof is not None else p.after)
        if not p.lost_capabilities:
            return Transition(replace(p, capabilities_tried=True), Verdict.DONE)
        # The number of tries is bounded, so that the job ends.
        given_up = p.lost_answers >= _MOST_LOST_ANSWERS
        return Transition(
            replace(p, capabilities_tried=given_up), Verdict.LOST, "the capabilities were not restored; trying again"
        )
    if intent.step is StepName.RECREATE_ENTITY and _is_new_entity(p, sighting):
        return Transition(_issued(p, rules, now), Verdict.DONE, "the VM has a new tools entity")
    # A refresh leaves no trace on the entity. A second refresh is harmless; a missing one would end as a failure.
    said = "the VM has its tools entity, perhaps still the one from before; trying again"
    return Transition(replace(p, entity=EntityStage.UNTOUCHED), Verdict.LOST, said)


def _agree(one: Sighting, other: Sighting) -> bool:
    first, second = one.entity, other.entity
    if first is None or second is None:
        return first is second
    return (first.ngt_uuid, first.iso_mounted) == (second.ngt_uuid, second.iso_mounted)


def _is_new_entity(p: Progress, sighting: Sighting) -> bool:
    """Without an `ngt_uuid` on both sides, only an entity that was missing before counts as new."""
    if sighting.entity is None:
        return False
    before = p.before.sighting.entity if p.before is not None else None
    if before is None or p.entity is EntityStage.MISSING:
        return True
    old, new = before.ngt_uuid, sighting.entity.ngt_uuid
    return old is not None and new is not None and old != new


# A look, and the stages of the entity.


def looked(p: Progress, answer: Looked, rules: Rules, now: datetime) -> Transition:
    sighting = answer.sighting
    p = replace(p, clock=answer.clock, seen=sighting, retry_at=None)
    if p.intent is not None:
        return _look_after_lost_answer(p, p.intent, sighting, rules, now)
    if p.entity is EntityStage.MISSING and sighting.entity is not None:
        return Transition(_issued(p, rules, now).without_trouble(), Verdict.DONE, "the VM has its tools entity")
    if p.entity is EntityStage.UNTOUCHED and p.delete_begun and sighting.entity is None:
        return Transition(replace(_missing(p, now), refused=None), Verdict.DONE, "the VM has no tools entity")
    if p.entity is EntityStage.UNTOUCHED and p.refused is not None:
        p = replace(p, failed=p.refused)
    if p.entity is EntityStage.ISSUED and sighting.entity is None:
        return Transition(entity_gone(p, now), Verdict.DONE, "the VM's tools entity is gone")
    if p.entity is EntityStage.ISSUED and p.between is None:
        p = replace(p, between=sighting)
    if p.entity is EntityStage.ISSUED and p.mounted_at is None and p.was_mounted and sighting.iso_mounted:
        p = _mounted(p, rules, now)
    if p.proof is not None and p.after is None:
        p = replace(p, after=sighting)
    return Transition(p, Verdict.DONE)


def entity_gone(p: Progress, now: datetime) -> Progress:
    """Another party deleted the issued entity; the VM must not be left without one."""
    return replace(_missing(p, now), delete_begun=True, mounted_at=None, between=None, proof=None, after=None)


def _missing(p: Progress, now: datetime) -> Progress:
    """The VM has no entity: the job cannot end before a create succeeds."""
    return replace(p, entity=EntityStage.MISSING, missing_since=p.missing_since or now, failed=None)


def _mounted(p: Progress, rules: Rules, now: datetime) -> Progress:
    return replace(p, mounted_at=now, verify_by=p.verify_deadline(rules, now))


def _issued(p: Progress, rules: Rules, now: datetime) -> Progress:
    """The cluster has issued a new certificate, which now has to reach the guest.

    A mount, a restart or a proof of an earlier entity does not count for this one.
    """
    return replace(
        p, entity=EntityStage.ISSUED, issued_at=now, missing_since=None, between=None, mounted_at=None,
        was_mounted=False, refused=None, verify_by=p.verify_deadline(rules, now), restarted_at=None, guest_reads=0,
        guest_read_at=None, proof=None, after=None, capabilities_tried=False,
    )  # fmt: skip

"""A VM that was destroyed after its entity was deleted: it holds no other renewal, and gets its entity when it is back.

A create for a VM that its cluster does not have is refused for ever. Two whole listings without the VM, some time
apart, tell that from a refusal that passes.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from app.ngt.errors import FaultCode
from app.ngt.renewal.progress import Failure, Progress, WaitReason
from app.ngt.renewal.request import Rules
from app.ngt.renewal.steps import Failed, Finish, LookForVm, Transition, Verdict, VmListed, Wait


def before_create(p: Progress, rules: Rules, now: datetime) -> LookForVm | Wait | Finish | None:
    """The step before the next create of a deleted entity; None: create it now."""
    if not p.listing_checked:
        return LookForVm()
    if p.unlisted_since is None:
        return None
    once_more_at = p.unlisted_since + timedelta(seconds=rules.settle_s)
    if p.vanished_at is None and now >= once_more_at:
        return LookForVm()
    if p.vanished_at is None:
        message = "the VM has no tools entity, and its cluster did not list the VM; the cluster is asked once more"
        return Wait(WaitReason.ENTITY_MISSING, message, once_more_at)
    name = f"VM {p.vm.name!r}" if p.vm is not None else f"VM {p.vm_uuid}"
    since = f"cluster {p.cluster} does not list {name} since {p.unlisted_since:%Y-%m-%d %H:%M}Z"
    deadline = p.vanished_at + timedelta(seconds=rules.vanished_timeout_s)
    promise = "when the VM is seen there again, its tools entity is created"
    if now >= deadline:
        message = f"{since}; {promise}, also after the end of this job."
        return Finish("failed", message, Failure(FaultCode.VM_VANISHED, message))
    again = min(now + timedelta(seconds=rules.retry_last_s), deadline)
    return Wait(WaitReason.VM_VANISHED, f"{since}; {promise}", again, deadline)


def listed(p: Progress, answer: VmListed, rules: Rules) -> Transition:
    p = replace(p.without_trouble(), listing_checked=True)
    if answer.cluster is None:
        since = p.unlisted_since or answer.at
        vanished = answer.at - since >= timedelta(seconds=rules.settle_s)
        gone = replace(p, unlisted_since=since, vanished_at=p.vanished_at or (answer.at if vanished else None))
        return Transition(gone, Verdict.NOT_YET, "the cluster does not list the VM")
    here = replace(p, unlisted_since=None, vanished_at=None)
    if answer.cluster != p.cluster:
        # It was moved there, and has no entity there either.
        here = replace(here, cluster=answer.cluster, seen=None, uptime=None)
    return Transition(here, Verdict.DONE)


def not_listed(p: Progress, answer: Failed) -> Transition:
    """Without a listing the create is tried all the same: it does no harm, and a VM that is there needs it."""
    since = p.unlisted_since if p.vanished_at is not None else None
    return Transition(replace(p, listing_checked=True, unlisted_since=since), Verdict.NOT_YET, answer.failure.message)


def resumed(p: Progress) -> Progress:
    """After each wait the listing is read again."""
    return replace(p, listing_checked=False) if p.unlisted_since is not None else p

"""Where a renewal stands: what follows from its progress, its request and the cluster's configuration."""

from dataclasses import replace
from datetime import datetime

from app.ngt.renewal.progress import EntityStage, Mode, Progress, RestartAgent, Rules
from app.ngt.renewal.proof import can_be_proved
from app.ngt.vocabulary import PowerState


def mode_of(p: Progress, rules: Rules) -> Mode:
    return p.request.mode or rules.mode


def restart_of(p: Progress, rules: Rules) -> RestartAgent:
    return p.request.restart_agent or rules.restart_agent


def accepts_unverified(p: Progress, rules: Rules) -> bool:
    return rules.accept_unverified if p.request.accept_unverified is None else p.request.accept_unverified


def accepts_link_only(p: Progress, rules: Rules, now: datetime) -> bool:
    """May an active link end the job as `unverified`? Where a proof is possible, only once its time is over."""
    late = p.verify_by is not None and now >= p.verify_by
    return accepts_unverified(p, rules) and (late or not can_be_proved(p))


def is_stranded(p: Progress) -> bool:
    """A delete of ours may have happened, and the change that should have created the entity did not say so.

    It stays so while another create is on its way: only the answer to that one, or a look, ends it.
    """
    if p.intent is not None and p.intent.lost:
        return p.intent.deletes
    if p.refused is not None and p.seen is None:
        return p.delete_begun
    return p.entity is EntityStage.MISSING and p.delete_begun


def has_begun_to_change(p: Progress) -> bool:
    """Something was changed, or may be at this moment; until then a pause holds the job, and it can be cancelled."""
    return p.intent is not None or p.entity is not EntityStage.UNTOUCHED or is_stranded(p)


def takes_slot(p: Progress) -> bool:
    """It still has changes to make that can leave the VM without NGT; later steps cost the cluster nothing."""
    return not p.request.validate_only and p.mounted_at is None


def lost_capabilities(p: Progress) -> tuple[tuple[str, bool], ...]:
    """(application, value before) of each capability that the VM's entity had otherwise before."""
    before = p.before.sighting.entity if p.before is not None else None
    latest = p.after or p.seen or p.between
    after = latest.entity if latest is not None else None
    if before is None or after is None:
        return ()
    pairs = (
        ("vss_snapshot", before.vss_snapshot, after.vss_snapshot),
        ("file_level_restore", before.file_level_restore, after.file_level_restore),
    )
    return tuple((name, old) for name, old, new in pairs if old is not None and new is not None and old is not new)


def remaining_action(p: Progress) -> str | None:
    """What is left to do by hand when a job ends here; None when nothing was changed."""
    if p.entity is EntityStage.UNTOUCHED or p.vm is None:
        return None
    off = p.vm.power is PowerState.OFF
    pick_up = f"start VM {p.vm.name!r}, its agent picks it up when it boots" if off else restart_by_hand(p)
    if p.mounted_at is None:
        return f"mount the NGT ISO in VM {p.vm.name!r} (a new certificate was issued), then {pick_up}"
    return f"the new certificate is mounted: {pick_up}"


def restart_by_hand(p: Progress) -> str:
    """What a person has to do in the guest, with the exact command where it is known."""
    assert p.vm is not None
    where = f"VM {p.vm.name!r}" + (f" ({', '.join(p.vm.addresses)})" if p.vm.addresses else "")
    if p.vm.restart_command is not None:
        return f"restart the agent in {where}: {p.vm.restart_command}"
    return (
        f"restart the agent in {where}: on Linux `sudo systemctl restart ngt_guest_agent`, "
        'on Windows `Restart-Service -Name "Nutanix Guest Tools Agent"`'
    )


def begin_retry(p: Progress) -> Progress:
    """The same job once more: it keeps its first reading and what was changed, and looks at everything else anew."""
    fresh = replace(
        p, failed=None, trouble=None, refused=None, tries=0, retry_at=None, lost_answers=0,
        seen=None, clock=None, last_check=False, news=False, reported=False,
        guest_reads=0, guest_read_at=None, restarted_at=None, verify_by=None, capabilities_tried=False,
    )  # fmt: skip
    if p.entity is EntityStage.UNTOUCHED:
        return replace(fresh, vm=None, before=p.before if p.delete_begun else None)
    # The ISO is mounted again only where a look shows that it is not there any more.
    return replace(fresh, mounted_at=None, was_mounted=p.was_mounted or p.mounted_at is not None)

"""Before any change: the search, the first reading, and every reason to leave the VM untouched."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from app.ngt.errors import FaultCode
from app.ngt.inventory import ends_too_late, names_another_entity
from app.ngt.renewal.change import entity_gone
from app.ngt.renewal.progress import Before, EntityStage, Failure, Progress, Sighting
from app.ngt.renewal.request import Mode, RestartAgent, Rules, WhenPoweredOff
from app.ngt.renewal.steps import Action, BeforeRead, FindVm, Finish, MakeChange, Transition, Verdict, VmFound
from app.ngt.vocabulary import Certificate

# The power, the place and the number of records of a VM are not older than this when a change of it is sent.
_LISTING_MAX_AGE = timedelta(seconds=30)


def found(p: Progress, answer: VmFound) -> Transition:
    known = replace(p.without_trouble(), cluster=answer.cluster, vm=answer.vm)
    if p.vm is not None and not p.delete_begun and _was_another(p, answer):
        # A VM that was moved, started, stopped or given another address is read anew.
        known = replace(known, before=None, seen=None, uptime=None)
    return Transition(known, Verdict.DONE, f"found {answer.vm.name!r} on {answer.cluster}")


def _was_another(p: Progress, answer: VmFound) -> bool:
    assert p.vm is not None
    old, new = p.vm, answer.vm
    return (p.cluster, old.power, old.guest_address) != (answer.cluster, new.power, new.guest_address)


def with_fresh_listing(p: Progress, action: Action, now: datetime) -> Action:
    """The action, or a new search: neither a change nor a refusal rests on a listing that is older than its limit."""
    rests_on_it = isinstance(action, MakeChange) or (isinstance(action, Finish) and action.outcome == "failed")
    if p.vm is None or p.delete_begun or not rests_on_it:
        return action
    is_fresh = p.vm.seen_at is not None and now - p.vm.seen_at <= _LISTING_MAX_AGE
    return action if is_fresh else FindVm()


def resumed(p: Progress) -> Progress:
    """The database's clock may have been set since the last claim, so the age of the listing is not known."""
    if p.entity is not EntityStage.UNTOUCHED or p.vm is None:
        return p
    return replace(p, vm=replace(p.vm, seen_at=None))


def read(p: Progress, answer: BeforeRead, now: datetime) -> Transition:
    fault = answer.guest_failure
    before = Before(
        sighting=answer.sighting,
        guest=answer.guest,
        guest_fault=fault.message if fault is not None else None,
        guest_fault_code=fault.code if fault is not None else None,
        restart_fault=answer.restart_failure.message if answer.restart_failure is not None else None,
    )
    known = replace(p.without_trouble(), before=before, seen=answer.sighting, uptime=answer.uptime)
    old = known_not_after(known)
    said = f"the certificate is valid until {old:%Y-%m-%d}" if old is not None else "no certificate's date is known"
    if answer.sighting.entity is None:
        said = "the VM has no tools entity"
        if p.vm is not None and p.vm.entity_owed and not p.request.validate_only:
            return Transition(entity_gone(known, now), Verdict.DONE, f"{said}: an earlier renewal deleted it")
    return Transition(known, Verdict.DONE, f"{said}; {fault.message}" if fault is not None else said)


def end_before_change(p: Progress, rules: Rules, now: datetime) -> Finish | None:
    if p.request.validate_only:
        return Finish("planned", "this is what a renewal would do; nothing was changed")
    if (valid := already_valid(p, rules, now)) is not None:
        return Finish("already_valid", valid)
    refusals = refuse(p, rules)
    return Finish("failed", refusals[0].message, refusals[0]) if refusals else None


def already_valid(p: Progress, rules: Rules, now: datetime) -> str | None:
    assert p.vm is not None
    if p.request.force:
        return None
    renewed_at = p.vm.renewed_at
    if renewed_at is not None and now - renewed_at < timedelta(seconds=rules.renewed_recently_s):
        return f"the certificate was renewed and proved at {renewed_at:%Y-%m-%d %H:%M}Z; send force to renew it again"
    not_after, days = _good_until(p), p.request.skip_if_valid_days
    if days is not None and not_after is not None and not_after > now + timedelta(days=days):
        return f"the certificate is good until {not_after:%Y-%m-%d}, longer than {days} days from now"
    return None


def refuse(p: Progress, rules: Rules) -> tuple[Failure, ...]:
    """Every reason not to touch this VM, in the order in which the reasons count."""
    assert p.vm is not None
    assert p.before is not None
    vm, request, entity = p.vm, p.request, p.before.sighting.entity
    has_entity = entity is not None
    switched_off = entity is not None and entity.enabled is False
    manual = p.restart_agent(rules) is RestartAgent.MANUAL
    off = vm.is_off
    accept = p.accepts_unverified(rules)
    refresh = p.mode(rules) is Mode.REFRESH
    no_refresh = refresh and p.uptime is not None and p.uptime.refresh_offered is False
    name = f"VM {vm.name!r}"
    nothing, why = "nothing was changed.", p.before.guest_fault or ""
    code = FaultCode
    rows = (
        (
            off and request.when_powered_off is WhenPoweredOff.REFUSE,
            code.VM_POWERED_OFF,
            f"{name} is powered off, so its agent cannot pick a new certificate up; {nothing}",
        ),
        (
            not has_entity and not request.create_if_absent,
            code.NGT_NOT_ENABLED,
            f"{name} has no VM tools entity: NGT is not enabled for it; {nothing}",
        ),
        (
            switched_off and not request.create_if_absent,
            code.NGT_NOT_ENABLED,
            f"NGT is switched off for {name}, as its VM tools entity says; {nothing}",
        ),
        (
            not has_entity and refresh,
            code.NGT_NOT_ENABLED,
            f"{name} has no VM tools entity, and a refresh does not create one; {nothing}",
        ),
        (
            no_refresh,
            code.ENTITY_REFRESH_FAILED,
            f"this cluster's nutanix_guest_tools_cli has no refresh_vm_tools_entity; {nothing}",
        ),
        (
            not manual and vm.guest_address is None,
            code.AGENT_RESTART_NOT_POSSIBLE,
            f"no SSH access to the guest of {name} is configured, so its agent could not be restarted; {nothing}",
        ),
        (
            not manual and vm.has_readable_guest and p.before.guest is None,
            p.before.guest_fault_code or code.GUEST_NOT_REACHED,
            f"the guest of {name} cannot be reached, so its agent could not be restarted; {nothing} {why}",
        ),
        (
            not manual and vm.has_readable_guest and p.before.restart_fault is not None,
            code.AGENT_RESTART_NOT_POSSIBLE,
            f"the agent of {name} could not be restarted; {nothing} {p.before.restart_fault}",
        ),
        (
            not accept and not can_be_proved(p) and not (off and vm.guest_address is not None),
            code.NOT_VERIFIABLE,
            f"no certificate's date is shown for {name}, so a renewal could not be proved; {nothing}",
        ),
    )
    return tuple(Failure(fault, sentence) for holds, fault, sentence in rows if holds)


def can_be_proved(p: Progress) -> bool:
    """The new certificate will be visible: in the guest, on the cluster, or handed in as the old one was."""
    if p.before is None:
        return False
    seen = p.before.guest is not None or expiry_date(p.before.sighting) is not None
    return seen or _handed_in(p) is not None


def expiry_date(sighting: Sighting | None) -> datetime | None:
    """`client_cert_expiry_date`: the agent's last report about its certificate."""
    if sighting is None or sighting.entity is None or sighting.entity.client_cert_expiry_date is None:
        return None
    return datetime.fromtimestamp(sighting.entity.client_cert_expiry_date, UTC)


def known_not_after(p: Progress) -> datetime | None:
    """The end of the certificate from before, by the best source: the guest, the cluster, a certificate handed in."""
    if p.before is None:
        return None
    seen, handed_in = _seen_not_after(p.before), _handed_in(p)
    return handed_in.not_after if seen is None and handed_in is not None else seen


def _good_until(p: Progress) -> datetime | None:
    """The end of the VM's certificate, where it is certain enough to leave the VM untouched.

    The cluster's date may be of an issued certificate that the guest does not have, and a certificate that was handed
    in may have been replaced since.
    """
    assert p.vm is not None
    if p.before is None:
        return None
    guest = p.before.guest
    in_guest = guest is not None and guest.own_certificate is not None
    if _names_another(p.before) or (guest is not None and guest.foreign is not None):
        return None
    if p.vm.awaiting_pickup and not in_guest:
        return None
    seen = _seen_not_after(p.before)
    if seen is not None and not in_guest and ends_too_late(seen, p.before.sighting.at):
        return None
    return seen


def guest_certificate_of(before: Before) -> Certificate | None:
    """The VM's own certificate, as its guest showed it before the change."""
    return before.guest.own_certificate if before.guest is not None and not _names_another(before) else None


def _seen_not_after(before: Before) -> datetime | None:
    own = guest_certificate_of(before)
    return expiry_date(before.sighting) if own is None else own.not_after


def _names_another(before: Before) -> bool:
    """A guest that names another entity may be another VM's (addresses move), or carry a clone's certificate."""
    guest, entity = before.guest, before.sighting.entity
    return guest is not None and entity is not None and names_another_entity(guest.ngt_uuid, entity.ngt_uuid)


def _handed_in(p: Progress) -> Certificate | None:
    return p.vm.handed_in if p.vm is not None else None

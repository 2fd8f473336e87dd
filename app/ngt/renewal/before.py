"""Before any change: the search, the first reading, and every reason to leave the VM untouched."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from app.ngt.errors import FaultCode
from app.ngt.inventory import names_another_entity
from app.ngt.renewal.progress import Before, Failure, Progress, Sighting
from app.ngt.renewal.request import Mode, RestartAgent, Rules, WhenPoweredOff
from app.ngt.renewal.steps import BeforeRead, Finish, Transition, Verdict, VmFound
from app.ngt.vocabulary import Certificate


def found(p: Progress, answer: VmFound) -> Transition:
    known = replace(p.without_trouble(), cluster=answer.cluster, vm=answer.vm)
    return Transition(known, Verdict.DONE, f"found {answer.vm.name!r} on {answer.cluster}")


def read(p: Progress, answer: BeforeRead) -> Transition:
    fault = answer.guest_failure
    before = Before(
        sighting=answer.sighting,
        guest=answer.guest,
        guest_fault=fault.message if fault is not None else None,
        guest_fault_code=fault.code if fault is not None else None,
    )
    known = replace(p.without_trouble(), before=before, seen=answer.sighting, clock=answer.clock)
    old = known_not_after(known)
    said = f"the certificate is valid until {old:%Y-%m-%d}" if old is not None else "no certificate's date is known"
    if answer.sighting.entity is None:
        said = "the VM has no tools entity"
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
    no_refresh = refresh and p.clock is not None and p.clock.refresh_offered is False
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
    in_guest = guest is not None and guest.certificate is not None
    if _names_another(p.before) or (p.vm.awaiting_pickup and not in_guest):
        return None
    return _seen_not_after(p.before)


def _seen_not_after(before: Before) -> datetime | None:
    if before.guest is not None and before.guest.certificate is not None and not _names_another(before):
        return before.guest.certificate.not_after
    return expiry_date(before.sighting)


def _names_another(before: Before) -> bool:
    """A guest that names another entity may be another VM's (addresses move), or carry a clone's certificate."""
    guest, entity = before.guest, before.sighting.entity
    return guest is not None and entity is not None and names_another_entity(guest.ngt_uuid, entity.ngt_uuid)


def _handed_in(p: Progress) -> Certificate | None:
    return p.vm.handed_in if p.vm is not None else None

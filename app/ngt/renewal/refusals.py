"""What ends a renewal before anything was changed: a certificate that is good, and every reason not to touch a VM."""

from datetime import datetime, timedelta

from app.ngt.errors import FaultCode
from app.ngt.renewal.progress import Failure, Mode, Progress, RestartAgent, Rules, WhenPoweredOff
from app.ngt.renewal.proof import can_be_proved, good_until
from app.ngt.renewal.standing import accepts_unverified, mode_of, restart_of
from app.ngt.vocabulary import PowerState


def already_valid(p: Progress, rules: Rules, now: datetime) -> str | None:
    assert p.vm is not None
    if p.request.force:
        return None
    renewed_at = p.vm.renewed_at
    if renewed_at is not None and now - renewed_at < timedelta(seconds=rules.renewed_recently_s):
        return f"the certificate was renewed and proved at {renewed_at:%Y-%m-%d %H:%M}Z; send force to renew it again"
    not_after, days = good_until(p), p.request.skip_if_valid_days
    if days is not None and not_after is not None and not_after > now + timedelta(days=days):
        return f"the certificate is good until {not_after:%Y-%m-%d}, longer than {days} days from now"
    return None


def refuse(p: Progress, rules: Rules) -> tuple[Failure, ...]:
    """Every reason not to touch this VM; all hold before anything was changed."""
    assert p.vm is not None
    assert p.before is not None
    vm, request, entity = p.vm, p.request, p.before.sighting.entity
    has_entity = entity is not None
    switched_off = entity is not None and entity.enabled is False
    manual = restart_of(p, rules) is RestartAgent.MANUAL
    off = vm.power is PowerState.OFF
    accept = accepts_unverified(p, rules)
    refresh = mode_of(p, rules) is Mode.REFRESH
    no_refresh = refresh and p.clock is not None and p.clock.refresh_offered is False
    name = f"VM {vm.name!r}"
    nothing, why = "nothing was changed.", p.before.guest_fault or ""
    code = FaultCode
    rows = (
        (
            off and request.when_powered_off is WhenPoweredOff.REFUSE,
            code.VM_POWERED_OFF,
            f"{name} is powered off, so its agent cannot pick a new certificate up; nothing was changed.",
        ),
        (
            not has_entity and not request.create_if_absent,
            code.NGT_NOT_ENABLED,
            f"{name} has no VM tools entity: NGT is not enabled for it; nothing was changed.",
        ),
        (
            switched_off and not request.create_if_absent,
            code.NGT_NOT_ENABLED,
            f"NGT is switched off for {name}, as its VM tools entity says; {nothing}",
        ),
        (
            not has_entity and refresh,
            code.NGT_NOT_ENABLED,
            f"{name} has no VM tools entity, and a refresh does not create one; nothing was changed.",
        ),
        (
            no_refresh,
            code.ENTITY_REFRESH_FAILED,
            "this cluster's nutanix_guest_tools_cli has no refresh_vm_tools_entity; nothing was changed.",
        ),
        (
            not manual and vm.guest_address is None,
            code.AGENT_RESTART_NOT_POSSIBLE,
            f"no SSH access to the guest of {name} is configured, so nobody could restart its agent; {nothing}",
        ),
        (
            not manual and not off and vm.guest_address is not None and p.before.guest is None,
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

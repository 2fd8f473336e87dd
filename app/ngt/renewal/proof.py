"""What counts as renewed. `kNoError` proves that the cluster issued a certificate, not that the guest has it."""

from datetime import UTC, datetime, timedelta

from app.ngt.inventory import names_another_entity
from app.ngt.renewal.progress import Before, GuestSighting, Progress, Proof, ProvedBy, PushedCertificate, Sighting
from app.ngt.vocabulary import Certificate

# How far the clocks of a guest and of the cluster may be apart.
_CLOCK_TOLERANCE = timedelta(hours=24)


def expiry_date(sighting: Sighting | None) -> datetime | None:
    """`client_cert_expiry_date`: what the agent last reported of its certificate."""
    if sighting is None or sighting.entity is None or sighting.entity.client_cert_expiry_date is None:
        return None
    return datetime.fromtimestamp(sighting.entity.client_cert_expiry_date, UTC)


def known_not_after(progress: Progress) -> datetime | None:
    """Until when the certificate from before is good, by the best source there is: guest, cluster, handed in."""
    if progress.before is None:
        return None
    seen = _seen_not_after(progress.before)
    handed_in = _handed_in(progress)
    return handed_in.not_after if seen is None and handed_in is not None else seen


def _seen_not_after(before: Before) -> datetime | None:
    """As the job itself saw it."""
    if before.guest is not None and before.guest.certificate is not None and not _names_another(before):
        return before.guest.certificate.not_after
    return expiry_date(before.sighting)


def _handed_in(progress: Progress) -> Certificate | None:
    return progress.vm.handed_in if progress.vm is not None else None


def good_until(progress: Progress) -> datetime | None:
    """Until when the certificate that the VM has is good, where that is certain enough to leave the VM alone.

    The cluster's date may be that of a certificate that was issued and that the guest has not got; and what was handed
    in may have been replaced since.
    """
    assert progress.vm is not None
    if progress.before is None:
        return None
    guest = progress.before.guest
    in_guest = guest is not None and guest.certificate is not None
    if _names_another(progress.before) or (progress.vm.awaiting_pickup and not in_guest):
        return None
    return _seen_not_after(progress.before)


def _names_another(before: Before) -> bool:
    """A guest that names another entity may be another VM's (addresses move), or carry a clone's certificate."""
    guest, entity = before.guest, before.sighting.entity
    return guest is not None and entity is not None and names_another_entity(guest.ngt_uuid, entity.ngt_uuid)


def can_be_proved(progress: Progress) -> bool:
    """Will it be possible to see the new certificate? Asked before anything is changed.

    Who handed one in before can do so again.
    """
    if progress.before is None:
        return False
    seen = progress.before.guest is not None or expiry_date(progress.before.sighting) is not None
    return seen or _handed_in(progress) is not None


def _is_this_vms_guest(progress: Progress, guest: GuestSighting) -> bool:
    """The entity that the guest itself names decides; without that, both readings came over one address and host key.

    Clones share host keys and addresses move, so a guest that names another VM's entity is never this VM's.
    """
    entities = (progress.between, progress.seen)
    ngt_uuids = {s.entity.ngt_uuid for s in entities if s is not None and s.entity is not None} - {None}
    if guest.ngt_uuid is not None and ngt_uuids:
        return guest.ngt_uuid in ngt_uuids
    before = progress.before.guest if progress.before is not None else None
    if before is None:
        return False
    return (before.address, before.host_key) == (guest.address, guest.host_key)


def proof_by_guest(progress: Progress, guest: GuestSighting) -> Proof | None:
    """The guest's own certificate is later than before and another one: the strongest proof."""
    new = guest.certificate
    if new is None or not _is_newer(progress, new) or not _is_this_vms_guest(progress, guest):
        return None
    return Proof(ProvedBy.GUEST_CERTIFICATE, guest.at, new.not_after, new.not_before, new.serial)


def proof_by_push(progress: Progress, pushed: PushedCertificate) -> Proof | None:
    """What was handed in since the cluster issued was issued then too, is later than before, and another one.

    Its giver vouches for the rest. Where only the date of the one from before is known, it is later than that.
    """
    new = pushed.certificate
    if progress.issued_at is None or pushed.at <= progress.issued_at or not _is_newer(progress, new):
        return None
    if not _issued_for_this(progress, new):
        return None
    old = known_not_after(progress)
    if old is not None and new.not_after <= old:
        return None
    return Proof(ProvedBy.PUSHED_CERTIFICATE, pushed.at, new.not_after, new.not_before, new.serial)


def _is_newer(progress: Progress, new: Certificate) -> bool:
    """Later than the guest's own from before and of another serial; without one, issued for this renewal."""
    if progress.issued_at is None:
        return False
    before = progress.before.guest if progress.before is not None else None
    old = before.certificate if before is not None else None
    if old is None:
        return _issued_for_this(progress, new)
    return new.not_after > old.not_after and new.serial != old.serial


def _issued_for_this(progress: Progress, new: Certificate) -> bool:
    return progress.issued_at is not None and new.not_before >= progress.issued_at - _CLOCK_TOLERANCE


def proof_by_expiry_date(progress: Progress, sighting: Sighting) -> Proof | None:
    """The cluster's date moved forward after the mount; before the mount it may be that of the issued certificate."""
    new, old = expiry_date(sighting), known_not_after(progress)
    if new is None or old is None or new <= old or progress.between is None or progress.mounted_at is None:
        return None
    between = expiry_date(progress.between)
    if between is not None and between > old:
        return None
    if sighting.at <= progress.between.at:
        return None
    return Proof(ProvedBy.CVM_EXPIRY_DATE, sighting.at, new)


def link_only(progress: Progress, sighting: Sighting) -> Proof | None:
    """The link is active after the agent was restarted: not a proof, for an operator who accepts that."""
    entity = sighting.entity
    if entity is None or entity.link_active is not True or progress.mounted_at is None:
        return None
    ejected = entity.iso_mounted is False and sighting.at > progress.mounted_at
    restarted = progress.restarted_at is not None and sighting.at > progress.restarted_at
    if not (ejected or restarted or progress.reported):
        return None
    return Proof(ProvedBy.LINK_ONLY, sighting.at)

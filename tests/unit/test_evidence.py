"""What counts as renewed, case by case."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.ngt.evidence import can_be_proved, known_not_after, link_only, proof_by_expiry_date, proof_by_guest
from app.ngt.progress import Before, GuestSighting, Progress, ProvedBy, RenewalRequest, Sighting
from app.ngt.vocabulary import Certificate, VmToolsEntity, parse_vm_uuid

UUID = parse_vm_uuid("20edafba-0644-4e57-a3cf-4abef2f69a5f")
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
OLD = Certificate(NOW - timedelta(days=990), NOW + timedelta(days=10), "01", "f1", "s", "i")
NEW = Certificate(NOW, NOW + timedelta(days=1000), "02", "f2", "s", "i")
ISSUED, LOOKED, MOUNTED, LATER = (NOW + timedelta(seconds=s) for s in (1, 2, 3, 60))


def entity(ngt_uuid: str | None = "new", *, expiry: datetime | None = None, link: bool | None = None) -> VmToolsEntity:
    return VmToolsEntity(
        vm_uuid=UUID,
        ngt_uuid=ngt_uuid,
        name="web01",
        enabled=True,
        iso_mounted=True,
        vss_snapshot=True,
        file_level_restore=False,
        link_active=link,
        communication_type=None,
        client_cert_expiry_date=None if expiry is None else int(expiry.timestamp()),
    )


def guest(certificate: Certificate | None, *, ngt_uuid: str | None = "new", address: str = "10.1.0.5") -> GuestSighting:
    return GuestSighting(LATER, certificate, ngt_uuid, address, "SHA256:key")


def progress(
    *,
    before: GuestSighting | None = None,
    expiry_before: datetime | None = None,
    expiry_between: datetime | None = None,
) -> Progress:
    """A renewal whose ISO is mounted."""
    return Progress(
        vm_uuid=UUID,
        request=RenewalRequest(),
        before=Before(Sighting(NOW, entity("old", expiry=expiry_before)), before),
        issued_at=ISSUED,
        between=Sighting(LOOKED, entity(expiry=expiry_between)),
        mounted_at=MOUNTED,
    )


def test_a_later_certificate_of_another_serial_in_the_vms_own_guest_proves() -> None:
    proof = proof_by_guest(progress(before=guest(OLD, ngt_uuid="old")), guest(NEW))
    assert proof is not None
    assert (proof.by, proof.not_after, proof.serial) == (ProvedBy.GUEST_CERTIFICATE, NEW.not_after, "02")


@pytest.mark.parametrize(
    "certificate",
    [
        None,
        OLD,
        replace(NEW, serial=OLD.serial),
        replace(NEW, not_after=OLD.not_after),
        replace(NEW, not_after=OLD.not_after - timedelta(days=1)),
    ],
)
def test_nothing_less_proves(certificate: Certificate | None) -> None:
    assert proof_by_guest(progress(before=guest(OLD, ngt_uuid="old")), guest(certificate)) is None


def test_a_guest_that_names_another_entity_is_not_this_vms() -> None:
    known = progress(before=guest(OLD, ngt_uuid="old"))
    assert proof_by_guest(known, guest(NEW, ngt_uuid="a clone's")) is None


def test_without_a_name_in_the_guest_one_address_and_host_key_will_do() -> None:
    known = progress(before=guest(OLD, ngt_uuid=None))
    assert proof_by_guest(known, guest(NEW, ngt_uuid=None)) is not None
    assert proof_by_guest(known, guest(NEW, ngt_uuid=None, address="10.1.0.6")) is None


def test_with_no_certificate_from_before_it_must_be_issued_after_our_create() -> None:
    known = progress(before=guest(None))
    assert proof_by_guest(known, guest(NEW)) is not None
    hours_before = replace(NEW, not_before=ISSUED - timedelta(hours=23))
    assert proof_by_guest(known, guest(hours_before)) is not None
    days_before = replace(NEW, not_before=ISSUED - timedelta(days=2))
    assert proof_by_guest(known, guest(days_before)) is None


def test_a_date_that_moved_forward_after_the_mount_proves() -> None:
    known = progress(expiry_before=OLD.not_after, expiry_between=OLD.not_after)
    proof = proof_by_expiry_date(known, Sighting(LATER, entity(expiry=NEW.not_after)))
    assert proof is not None
    assert (proof.by, proof.not_after, proof.serial) == (ProvedBy.CVM_EXPIRY_DATE, NEW.not_after, None)


def test_a_date_that_had_moved_before_the_mount_may_be_the_issued_ones() -> None:
    known = progress(expiry_before=OLD.not_after, expiry_between=NEW.not_after)
    assert proof_by_expiry_date(known, Sighting(LATER, entity(expiry=NEW.not_after))) is None


@pytest.mark.parametrize("expiry", [None, OLD.not_after, OLD.not_after - timedelta(days=1)])
def test_a_date_that_is_not_later_proves_nothing(expiry: datetime | None) -> None:
    known = progress(expiry_before=OLD.not_after)
    assert proof_by_expiry_date(known, Sighting(LATER, entity(expiry=expiry))) is None


def test_a_date_without_one_from_before_proves_nothing() -> None:
    assert proof_by_expiry_date(progress(), Sighting(LATER, entity(expiry=NEW.not_after))) is None


def test_the_guests_date_from_before_is_better_than_the_clusters() -> None:
    known = progress(before=guest(OLD, ngt_uuid="old"), expiry_before=NEW.not_after)
    assert known_not_after(known) == OLD.not_after


def test_the_date_of_a_guest_that_names_another_entity_is_not_believed() -> None:
    known = progress(before=guest(NEW, ngt_uuid="another VM's"), expiry_before=OLD.not_after)
    assert known_not_after(known) == OLD.not_after


def test_what_could_be_proved_is_known_before_anything_is_changed() -> None:
    assert can_be_proved(progress(before=guest(None)))
    assert can_be_proved(progress(expiry_before=OLD.not_after))
    assert not can_be_proved(progress())


def test_a_link_counts_only_after_somebody_restarted_the_agent() -> None:
    seen = Sighting(LATER, entity(link=True))
    assert link_only(progress(), seen) is None
    restarted = link_only(replace(progress(), restarted_at=MOUNTED), seen)
    assert restarted is not None
    assert (restarted.by, restarted.not_after) == (ProvedBy.LINK_ONLY, None)
    assert link_only(replace(progress(), reported=True), seen) is not None
    ejected = Sighting(LATER, replace(entity(link=True), iso_mounted=False))
    assert link_only(progress(), ejected) is not None


@pytest.mark.parametrize("link", [False, None])
def test_a_link_that_is_not_active_counts_for_nothing(link: bool | None) -> None:
    assert link_only(replace(progress(), restarted_at=MOUNTED), Sighting(LATER, entity(link=link))) is None

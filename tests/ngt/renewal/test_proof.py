"""What counts as renewed, case by case."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.ngt.errors import FaultCode
from app.ngt.renewal.before import already_valid, can_be_proved, known_not_after
from app.ngt.renewal.machine import advance, next_action
from app.ngt.renewal.progress import (
    Before,
    EntityStage,
    Failure,
    FoundVm,
    GuestSighting,
    Progress,
    ProvedBy,
    PushedCertificate,
    Sighting,
)
from app.ngt.renewal.proof import link_only, proof_by_expiry_date, proof_by_guest, proof_by_push
from app.ngt.renewal.request import RenewalRequest, RestartAgent, Rules
from app.ngt.renewal.steps import RestartTheAgent, Resumed, Verdict, Verified, Verify, Wait
from app.ngt.vocabulary import Certificate, PowerState, VmToolsEntity, parse_vm_uuid

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


# What leaves a VM alone.


def wants(days: int, *, awaiting_pickup: bool = False, **before: Any) -> Progress:
    """A renewal that is to be skipped where the certificate is good for longer."""
    found = FoundVm("web01", PowerState.ON, (), None, awaiting_pickup=awaiting_pickup)
    return replace(progress(**before), vm=found, request=RenewalRequest(skip_if_valid_days=days))


@pytest.mark.parametrize(
    ("asked", "is_left_alone"),
    [
        (wants(5, expiry_before=OLD.not_after), True),
        (wants(15, expiry_before=OLD.not_after), False),
        # It may be the date of the issued one.
        (wants(5, expiry_before=NEW.not_after, awaiting_pickup=True), False),
        (wants(5, before=guest(None, ngt_uuid="old"), expiry_before=NEW.not_after, awaiting_pickup=True), False),
        (wants(5, before=guest(NEW, ngt_uuid="old"), awaiting_pickup=True), True),
        # Somebody made the entity anew, and the guest has not heard of it.
        (wants(5, before=guest(OLD, ngt_uuid="older"), expiry_before=NEW.not_after), False),
        (wants(5, before=guest(NEW, ngt_uuid="older")), False),
    ],
)
def test_only_a_certificate_that_the_vm_has_for_certain_leaves_it_alone(asked: Progress, is_left_alone: bool) -> None:
    assert (already_valid(asked, Rules(), NOW) is not None) is is_left_alone


# Certificates that were handed in.


def pushed(certificate: Certificate = NEW, *, at: datetime = LATER) -> PushedCertificate:
    return PushedCertificate(at, certificate, "ansible")


def test_a_later_certificate_of_another_serial_that_was_handed_in_since_the_issue_proves() -> None:
    for known in (progress(before=guest(OLD)), progress(before=guest(None)), progress(expiry_before=OLD.not_after)):
        proof = proof_by_push(known, pushed())
        assert proof is not None
        assert (proof.by, proof.at, proof.not_after, proof.not_before, proof.serial) == (
            ProvedBy.PUSHED_CERTIFICATE,
            LATER,
            NEW.not_after,
            NEW.not_before,
            "02",
        )


@pytest.mark.parametrize(
    "certificate",
    [
        OLD,
        replace(NEW, serial=OLD.serial),
        replace(NEW, not_after=OLD.not_after),
        replace(NEW, not_after=OLD.not_after - timedelta(days=1)),
    ],
)
def test_handing_in_nothing_newer_proves_nothing(certificate: Certificate) -> None:
    assert proof_by_push(progress(before=guest(OLD)), pushed(certificate)) is None


def test_what_was_handed_in_before_the_issue_proves_nothing() -> None:
    known = progress(before=guest(OLD))
    assert proof_by_push(known, pushed(at=ISSUED)) is None
    assert proof_by_push(known, pushed(at=NOW)) is None
    assert proof_by_push(replace(known, issued_at=None), pushed()) is None


def test_what_is_handed_in_was_issued_for_this_renewal() -> None:
    """Another VM's is later than the old one too, when that one was renewed last week."""
    hours_before = replace(NEW, not_before=ISSUED - timedelta(hours=23))
    days_before = replace(NEW, not_before=ISSUED - timedelta(days=2))
    befores = progress(before=guest(OLD)), progress(before=guest(None)), progress(expiry_before=OLD.not_after)
    for known in (progress(), *befores):
        assert proof_by_push(known, pushed(hours_before)) is not None
        assert proof_by_push(known, pushed(days_before)) is None
    # And it ends later than what the cluster showed, where that is all that is known.
    assert proof_by_push(progress(expiry_before=NEW.not_after), pushed()) is None


RULES = Rules(restart_agent=RestartAgent.MANUAL)


def waiting(**more: object) -> Progress:
    """It waits for its agent, whose guest nobody can reach."""
    found = FoundVm("web01", PowerState.ON, (), None)
    known = progress(before=guest(OLD))
    stage = {"vm": found, "entity": EntityStage.ISSUED, "verify_by": NOW + timedelta(days=1)}
    return replace(known, **(stage | more))  # type: ignore[arg-type]  # fields of Progress


def test_a_waiting_renewal_ends_with_what_was_handed_in() -> None:
    assert isinstance(next_action(waiting(), RULES, LATER), Wait)
    woken = advance(waiting(), Resumed(None, reported=False, pushed=pushed()), RULES, LATER).progress
    assert next_action(woken, RULES, LATER) == Verify(look=False)
    said = advance(woken, Verified(None, None, None, guest_asked=False), RULES, LATER)
    assert (said.verdict, said.message) == (Verdict.DONE, "proved by pushed_certificate")
    assert said.progress.proof == proof_by_push(waiting(), pushed())
    assert said.progress.pushed == pushed()


def test_the_guests_own_certificate_is_a_better_proof_than_one_that_was_handed_in() -> None:
    woken = advance(waiting(), Resumed(None, reported=False, pushed=pushed()), RULES, LATER).progress
    said = advance(woken, Verified(None, None, guest(NEW), guest_asked=True), RULES, LATER)
    assert said.progress.proof is not None
    assert said.progress.proof.by is ProvedBy.GUEST_CERTIFICATE


def test_what_is_handed_in_after_the_proof_does_not_take_its_place() -> None:
    woken = advance(waiting(), Resumed(None, reported=False, pushed=pushed()), RULES, LATER).progress
    proved = advance(woken, Verified(None, None, None, guest_asked=False), RULES, LATER).progress
    another = pushed(replace(NEW, serial="03"), at=LATER + timedelta(seconds=1))
    late = advance(proved, Resumed(None, reported=False, pushed=another), RULES, LATER).progress
    assert (late.proof, late.pushed) == (proved.proof, pushed())


@pytest.mark.parametrize("nothing", [pushed(OLD), pushed(at=NOW)])
def test_what_proves_nothing_is_no_news_to_a_waiting_renewal(nothing: PushedCertificate) -> None:
    woken = advance(waiting(), Resumed(None, reported=False, pushed=nothing), RULES, LATER).progress
    assert woken == waiting()


def test_what_was_handed_in_is_looked_at_before_the_agent_is_restarted_again() -> None:
    rules = replace(RULES, restart_agent=RestartAgent.SSH)
    tried = waiting(retry_at=LATER + timedelta(hours=1), tries=3, trouble=Failure(FaultCode.GUEST_NOT_REACHED, "away"))
    assert isinstance(next_action(tried, rules, LATER), Wait)
    assert isinstance(next_action(replace(tried, retry_at=None), rules, LATER), RestartTheAgent)
    woken = advance(tried, Resumed(None, reported=False, pushed=pushed()), rules, LATER).progress
    assert next_action(woken, rules, LATER) == Verify(look=False)


def test_an_entity_that_was_issued_anew_needs_a_certificate_that_was_handed_in_after_that() -> None:
    woken = advance(waiting(), Resumed(None, reported=False, pushed=pushed()), RULES, LATER).progress
    again = replace(woken, issued_at=LATER + timedelta(seconds=1))
    said = advance(again, Verified(None, None, None, guest_asked=False), RULES, LATER)
    assert said.verdict is Verdict.NOT_YET
    assert said.progress.proof is None

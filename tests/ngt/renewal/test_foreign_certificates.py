"""Certificates that the cluster did not issue for the VM prove nothing, whoever shows them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.ngt.inventory import KnownCertificates, why_foreign
from app.ngt.renewal.before import already_valid, known_not_after
from app.ngt.renewal.machine import advance, next_action
from app.ngt.renewal.progress import EntityStage, FoundVm, GuestSighting, Progress, Proof, ProvedBy, Sighting
from app.ngt.renewal.proof import proof_by_expiry_date, proof_by_guest, recheck
from app.ngt.renewal.request import RenewalRequest, Rules
from app.ngt.renewal.steps import Finish, Transition, Verdict, Verified
from app.ngt.vocabulary import Certificate, PowerState
from tests.ngt.renewal.test_proof import LATER, NEW, NOW, OLD, entity, guest, progress, pushed

pytestmark = pytest.mark.field("A5")

KNOWN = KnownCertificates(issuers=frozenset({"i"}))
FAR = datetime(9966, 1, 1, tzinfo=UTC)
RULES = Rules()


def valid_for(days: int, **more: Any) -> Certificate:
    return replace(NEW, not_after=NEW.not_before + timedelta(days=days), **more)


@pytest.mark.parametrize(
    ("certificate", "known", "reason"),
    [
        (NEW, KNOWN, None),
        (NEW, KnownCertificates(), None),
        (valid_for(1020), KNOWN, None),
        (replace(NEW, issuer="s"), KnownCertificates(), "it is self-signed"),
        (replace(NEW, subject="", issuer=""), KnownCertificates(), "it is self-signed"),
        (replace(NEW, issuer="corporate"), KNOWN, "its issuer is 'corporate', and that of the cluster's"),
        (replace(NEW, not_after=FAR), KNOWN, "until 9966-01-01"),
        (valid_for(365), KNOWN, "it is valid for 365 days"),
        (valid_for(3650), KNOWN, "it is valid for 3650 days"),
        # Several of the cluster's others tell what it issues.
        (valid_for(3650), replace(KNOWN, usual_life=timedelta(days=3652)), None),
        (NEW, replace(KNOWN, usual_life=timedelta(days=3652)), None),
        (replace(NEW, not_after=NEW.not_before), KNOWN, "its dates are not in order"),
        (replace(NEW, not_after=OLD.not_before), KNOWN, "its dates are not in order"),
        (replace(NEW, not_before=NOW + timedelta(days=2)), KNOWN, "it does not begin before 2026-11-26"),
        # The cluster's clock may be ahead.
        (replace(NEW, not_before=NOW + timedelta(hours=2)), KNOWN, None),
        (NEW, replace(KNOWN, holder="web02"), "the same certificate was seen in VM web02"),
    ],
)  # fmt: skip
def test_what_the_cluster_did_not_issue_is_told_apart(
    certificate: Certificate, known: KnownCertificates, reason: str | None
) -> None:
    said = why_foreign(certificate, known, NOW)
    assert said == reason or (said is not None and reason is not None and reason in said)


def foreign(certificate: Certificate = NEW, *, at: datetime = LATER, **more: Any) -> GuestSighting:
    return replace(guest(certificate, **more), at=at, foreign="it is self-signed")


def waiting(before: GuestSighting | None, **more: Any) -> Progress:
    """Its agent was restarted, and the guest is read."""
    found = FoundVm("web01", PowerState.ON, (), "10.1.0.5")
    stage: dict[str, Any] = {"vm": found, "entity": EntityStage.ISSUED, "restarted_at": NOW}
    return replace(progress(before=before), verify_by=NOW + timedelta(hours=1), **(stage | more))


def read(p: Progress, shown: GuestSighting | None, **more: Any) -> Transition:
    return advance(p, Verified(None, None, shown, guest_asked=shown is not None, **more), RULES, LATER)


def test_a_foreign_certificate_is_no_proof() -> None:
    assert proof_by_guest(progress(before=guest(OLD, ngt_uuid="old")), foreign()) is None


@pytest.mark.parametrize("before", [guest(OLD), guest(None), foreign(replace(OLD, not_after=FAR))])
def test_read_twice_it_ends_the_job_as_unverified(before: GuestSighting) -> None:
    once = read(waiting(before), foreign())
    assert once.progress.foreign is None
    twice = read(once.progress, foreign())
    assert twice.verdict is Verdict.REFUSED
    end = next_action(twice.progress, RULES, LATER)
    assert isinstance(end, Finish)
    assert end.outcome == "unverified"
    assert "it is self-signed" in end.message


def test_a_certificate_of_the_cluster_that_comes_after_it_proves() -> None:
    once = read(waiting(guest(OLD)), foreign(replace(NEW, fingerprint="f3", serial="03")))
    done = read(once.progress, guest(NEW))
    assert done.progress.proof is not None


@pytest.mark.parametrize("before", [foreign(OLD), None])
def test_one_that_was_there_before_may_still_be_replaced(before: GuestSighting | None) -> None:
    p = waiting(before)
    for _ in range(3):
        p = read(p, foreign(OLD)).progress
    assert p.foreign is None
    assert read(p, guest(NEW)).progress.proof is not None


def test_a_foreign_certificate_from_before_is_not_believed() -> None:
    far = replace(OLD, not_after=FAR)
    p = replace(waiting(foreign(far)), request=RenewalRequest(skip_if_valid_days=60))
    assert known_not_after(p) is None
    assert already_valid(p, RULES, NOW) is None
    # The new one is issued for this renewal, and need not be later.
    assert proof_by_guest(p, guest(NEW)) is not None
    assert proof_by_guest(p, guest(replace(NEW, not_before=NOW - timedelta(days=9)))) is None


def test_one_that_is_handed_in_ends_the_job_too() -> None:
    p = replace(waiting(guest(OLD)), pushed=pushed())
    said = read(p, None, pushed_foreign="it is self-signed").progress
    assert (said.proof, said.foreign) == (None, "it is self-signed")
    # And one that proves nothing in any case, as it is older, does not.
    p = replace(waiting(guest(OLD)), pushed=pushed(OLD))
    assert read(p, None, pushed_foreign="it is self-signed").progress.foreign is None


def test_a_date_of_the_cluster_that_is_later_than_what_it_issues_proves_nothing() -> None:
    p = replace(waiting(None), before=progress(expiry_before=OLD.not_after).before)
    seen = Sighting(LATER, entity(expiry=FAR))
    assert proof_by_expiry_date(p, seen) is None
    said = advance(p, Verified(seen, None, None, guest_asked=False), RULES, LATER).progress
    assert said.foreign is not None
    assert "9966" in said.foreign
    assert proof_by_expiry_date(p, Sighting(LATER, entity(expiry=NEW.not_after))) is not None


def test_a_date_of_the_cluster_counts_for_nothing_beside_a_foreign_certificate() -> None:
    p = replace(waiting(guest(OLD)), guest=foreign())
    assert proof_by_expiry_date(p, Sighting(LATER, entity(expiry=NEW.not_after))) is None


@pytest.mark.parametrize(
    ("shown", "agrees"),
    [
        (None, True),
        (NEW.not_after, True),
        # The agent has not told the cluster yet.
        (OLD.not_after, True),
        (NEW.not_after + timedelta(hours=1), True),
        (NEW.not_after - timedelta(days=400), False),
        (FAR, False),
    ],
)
def test_the_clusters_own_date_agrees_with_the_proof(shown: datetime | None, agrees: bool) -> None:
    proof = Proof(ProvedBy.GUEST_CERTIFICATE, LATER, NEW.not_after)
    p = replace(waiting(guest(OLD)), proof=proof, after=Sighting(LATER, entity(expiry=shown)))
    said = recheck(Transition(p, Verdict.DONE)).progress
    assert (said.proof is not None) is agrees
    end = next_action(said, RULES, LATER)
    assert isinstance(end, Finish)
    assert end.outcome == ("renewed" if agrees else "unverified")

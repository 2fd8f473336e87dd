"""A VM that is destroyed past the delete, and one that is back: who is held, what ends, and what never ends."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.ngt.errors import FaultCode
from app.ngt.renewal.machine import advance, next_action
from app.ngt.renewal.progress import (
    Before,
    EntityStage,
    Failure,
    FoundVm,
    Progress,
    Sighting,
    StepName,
    UptimeReading,
    WaitReason,
)
from app.ngt.renewal.request import RenewalRequest, RestartAgent, Rules
from app.ngt.renewal.steps import (
    BeforeRead,
    Failed,
    FindVm,
    Finish,
    LookAtEntity,
    Looked,
    LookForVm,
    MakeChange,
    ReadBefore,
    Resumed,
    VmFound,
    VmListed,
    Wait,
)
from app.ngt.tools.query_commands import CvmUptime
from app.ngt.vocabulary import PowerState
from tests.ngt.renewal.test_proof import UUID, entity

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
RULES = Rules()
CLOCK = UptimeReading("cvm1", CvmUptime("a boot", 1000.0), NOW)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


FOUND = FoundVm("web01", PowerState.ON, (), None, seen_at=NOW)
MISSING = Progress(
    vm_uuid=UUID,
    request=RenewalRequest(),
    cluster="c1",
    vm=FOUND,
    before=Before(Sighting(NOW, entity("old")), None),
    entity=EntityStage.MISSING,
    delete_begun=True,
    missing_since=NOW,
)


def without(p: Progress, seconds: float) -> Progress:
    """The listing of that moment does not have the VM."""
    woken = advance(p, Resumed(None, reported=False), RULES, later(seconds)).progress
    assert next_action(woken, RULES, later(seconds)) == LookForVm()
    return advance(woken, VmListed(None, later(seconds)), RULES, later(seconds)).progress


VANISHED = without(without(MISSING, 0), 60)


@pytest.mark.field("A3")
def test_two_listings_a_minute_apart_decide_and_one_does_not() -> None:
    once = without(MISSING, 0)
    wait = next_action(once, RULES, NOW)
    assert isinstance(wait, Wait)
    assert (wait.reason, wait.until, once.is_stranded) == (WaitReason.ENTITY_MISSING, later(60), True)
    soon = without(once, 30)
    assert soon.is_stranded
    assert not VANISHED.is_stranded
    waits = next_action(VANISHED, RULES, later(60))
    assert isinstance(waits, Wait)
    assert (waits.reason, waits.deadline) == (WaitReason.VM_VANISHED, later(60 + 86400))


@pytest.mark.field("A3")
def test_the_job_of_a_vanished_vm_ends_after_a_day_and_says_that_the_promise_stays() -> None:
    gone = without(VANISHED, 86400 + 60)
    end = next_action(gone, RULES, later(86400 + 60))
    assert isinstance(end, Finish)
    assert end.failure is not None
    assert (end.outcome, end.failure.code) == ("failed", FaultCode.VM_VANISHED)
    assert gone.remaining_action is not None
    assert "scan its cluster" in gone.remaining_action
    # A scan that sees it takes the job up again.
    again = gone.begin_retry()
    assert again.is_stranded
    assert next_action(again, RULES, later(90000)) == LookForVm()


@pytest.mark.field("A3")
@pytest.mark.parametrize("cluster", ["c1", "c2"])
def test_a_vm_that_is_back_gets_its_entity_also_on_another_cluster(cluster: str) -> None:
    back = advance(VANISHED, VmListed(cluster, later(600)), RULES, later(600)).progress
    assert (back.is_stranded, back.cluster) == (True, cluster)
    assert next_action(back, RULES, later(600)) == LookAtEntity(StepName.RECREATE_ENTITY)
    clock = replace(CLOCK, read_at=later(600))
    seen = advance(back, Looked(Sighting(later(600), None), clock), RULES, later(600)).progress
    create = next_action(seen, RULES, later(600))
    assert isinstance(create, MakeChange)
    assert [call.name for call in create.calls] == ["create"]


@pytest.mark.field("A3")
def test_a_cluster_that_cannot_list_its_vms_does_not_keep_the_create_back() -> None:
    fault = Failed(StepName.FIND_VM, Failure(FaultCode.GATEWAY_DOWN, "ncli is down"))
    p = advance(MISSING, fault, RULES, NOW).progress
    assert next_action(p, RULES, NOW) == LookAtEntity(StepName.RECREATE_ENTITY)
    assert p.is_stranded


@pytest.mark.field("A3")
def test_a_later_renewal_creates_the_entity_that_an_ended_one_owes() -> None:
    owed = Progress(UUID, RenewalRequest(), cluster="c1", vm=replace(FOUND, entity_owed=True))
    read = advance(owed, BeforeRead(Sighting(NOW, None), CLOCK, None, None), RULES, NOW).progress
    assert (read.entity, read.is_stranded) == (EntityStage.MISSING, True)


# The age of the listing on which a change rests.


UNTOUCHED = Progress(
    UUID, RenewalRequest(accept_unverified=True), cluster="c1", vm=FOUND, seen=Sighting(NOW, entity("old")),
    uptime=replace(CLOCK, read_at=NOW), before=Before(Sighting(NOW, entity("old")), None),
)  # fmt: skip
MANUAL = Rules(restart_agent=RestartAgent.MANUAL)


@pytest.mark.field("A4")
@pytest.mark.parametrize(("age_s", "action"), [(0, MakeChange), (30, MakeChange), (31, FindVm), (300, FindVm)])
def test_no_change_rests_on_a_listing_that_is_older_than_30_s(age_s: float, action: type) -> None:
    p = replace(UNTOUCHED, vm=replace(FOUND, seen_at=later(-age_s)))
    assert isinstance(next_action(p, MANUAL, NOW), action)


@pytest.mark.field("A4")
def test_a_refusal_rests_on_a_fresh_listing_too() -> None:
    off = replace(FOUND, power=PowerState.OFF)
    assert isinstance(next_action(replace(UNTOUCHED, vm=off), MANUAL, NOW), Finish)
    assert next_action(replace(UNTOUCHED, vm=off), MANUAL, later(31)) == FindVm()


@pytest.mark.field("A4")
@pytest.mark.parametrize(
    ("found", "again"),
    [
        (VmFound("c1", replace(FOUND, seen_at=later(31), name="renamed")), False),
        (VmFound("c1", replace(FOUND, power=PowerState.OFF)), True),
        (VmFound("c2", FOUND), True),
    ],
)
def test_a_vm_that_was_moved_or_switched_is_read_anew(found: VmFound, again: bool) -> None:
    p = advance(UNTOUCHED, found, MANUAL, later(31)).progress
    assert (p.before is None) is again
    if again:
        assert next_action(p, MANUAL, later(31)) == ReadBefore()

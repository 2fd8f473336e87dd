"""A job that goes on from an earlier state of itself, as after a restored backup, does not delete again."""

from dataclasses import replace

import pytest

from app.ngt.errors import FaultCode
from app.ngt.renewal.machine import advance, next_action
from app.ngt.renewal.progress import EntityStage, Failure, Progress, Sighting
from app.ngt.renewal.steps import LookAtEntity, Looked, Resumed
from tests.ngt.renewal.test_proof import entity
from tests.ngt.renewal.test_vanished import CLOCK, MISSING, RULES, later

BEGUN = replace(MISSING, entity=EntityStage.UNTOUCHED, missing_since=None)
REFUSED = replace(BEGUN, refused=Failure(FaultCode.ENTITY_DELETE_FAILED, "kSomeError"))


@pytest.mark.field("E8")
@pytest.mark.parametrize("stored", [BEGUN, REFUSED], ids=["begun", "refused"])
def test_a_new_entity_is_found_before_anything_is_sent(stored: Progress) -> None:
    resumed = advance(stored, Resumed(None, reported=False), RULES, later(1)).progress
    assert isinstance(next_action(resumed, RULES, later(1)), LookAtEntity)
    looked = Looked(Sighting(later(2), entity("new")), replace(CLOCK, read_at=later(2)))
    seen = advance(resumed, looked, RULES, later(2)).progress
    assert (seen.entity, seen.issued_at, seen.failed) == (EntityStage.ISSUED, later(2), None)
    assert not seen.is_stranded


def test_the_old_entity_is_not_taken_for_a_new_one() -> None:
    resumed = advance(BEGUN, Resumed(None, reported=False), RULES, later(1)).progress
    looked = Looked(Sighting(later(2), entity("old")), replace(CLOCK, read_at=later(2)))
    assert advance(resumed, looked, RULES, later(2)).progress.entity is EntityStage.UNTOUCHED

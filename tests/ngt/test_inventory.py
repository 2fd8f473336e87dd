"""Listing and tools' entities put together: what was said counts, the entity before the listing."""

import pytest

from app.ngt.errors import Fault
from app.ngt.inventory import is_worth_asking, names_another_entity, ngt_state_of, refuse_empty_query
from app.ngt.vocabulary import NgtState, PowerState, VmRecord, VmToolsEntity, VmUuid

UUID = VmUuid("20edafba-1b5c-4a7e-8d1f-0b6f6a9d2c11")
ALL = NgtState(enabled=True, iso_mounted=True, vss_snapshot=True, file_level_restore=True, link_active=True)
NOTHING = NgtState(None, None, None, None, None)


def vm(ngt: NgtState | None = None, power: PowerState = PowerState.ON) -> VmRecord:
    return VmRecord(UUID, "web01", power, (), controller_vm=False, ngt=ngt)


def entity(*, link_active: bool | None = None) -> VmToolsEntity:
    return VmToolsEntity(UUID, None, None, None, None, None, None, link_active, None, None)


def test_the_entity_counts_before_the_listing_where_it_says_something() -> None:
    state = ngt_state_of(vm(ALL), entity(link_active=False))
    assert state == NgtState(True, True, True, True, link_active=False)
    assert ngt_state_of(vm(ALL), None) == ALL
    assert ngt_state_of(vm(None), entity()) == NOTHING


@pytest.mark.parametrize(
    ("enabled", "known", "refused"),
    [(True, False, True), (False, True, False), (None, True, True), (None, False, False)],
)
def test_a_query_that_lists_nobody_is_believed_only_where_nothing_speaks_against_it(
    enabled: bool | None, known: bool, refused: bool
) -> None:
    ngt = NgtState(enabled, None, None, None, None)
    wanted = {UUID} if known else set()
    if refused:
        with pytest.raises(Fault, match="lists no VM tools entity at all"):
            refuse_empty_query([vm(ngt)], {}, 0, wanted)
    else:
        refuse_empty_query([vm(ngt)], {}, 0, wanted)
    refuse_empty_query([vm(ngt)], {UUID: entity()}, 0, wanted)
    refuse_empty_query([vm(ngt)], {}, 1, wanted)


@pytest.mark.parametrize(
    ("power", "has_entity", "asked"),
    [
        (PowerState.ON, True, True),
        (PowerState.ON, None, True),
        (PowerState.ON, False, False),
        (PowerState.UNKNOWN, True, True),
        (PowerState.OFF, True, False),
        (PowerState.OTHER, True, False),
    ],
)
def test_a_guest_is_asked_unless_it_is_off_or_has_no_entity(
    power: PowerState, has_entity: bool | None, asked: bool
) -> None:
    assert is_worth_asking(vm(power=power), has_entity=has_entity) is asked


def test_a_guest_names_another_entity_only_where_both_are_known() -> None:
    assert names_another_entity("a", "b")
    assert not any(names_another_entity(named, own) for named, own in (("a", "a"), (None, "b"), ("a", None)))

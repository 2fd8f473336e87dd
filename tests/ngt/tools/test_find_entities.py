"""Finding one VM's entity in a cluster's list says the same as reading all of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ngt.errors import Fault, FaultCode
from app.ngt.tools.entities import find_entities
from app.ngt.vocabulary import VmUuid

_UUIDS = [VmUuid(f"20edafba-1b5c-4a7e-8d1f-0000000000{number:02}") for number in range(4)]
_BLOCKS = (
    'vm_info_vec {{\n  vm_uuid: "{uuid}"\n  vm_name: "web"\n  capabilities {{\n    vss_snapshot: true\n  }}\n}}\n',
    "vm_info_vec: < vm_uuid: '{upper}' tools_mounted: true >\n",
    'vm_info_vec {{ vm_uuid: "20ed" "{uuid_end}" }}\n',
    'vm_info_vec {{ vm_name: "no vm_uuid: \\"{uuid}\\"" }}\n',
    'vm_info_vec {{ a {{ b {{ c {{ d {{ e: 1 }} }} }} }} vm_uuid: "{uuid}" }}\n',
    'vm_info_vec {{ vm_uuid: "{uuid}" vm_uuid: "20edafba-1b5c-4a7e-8d1f-000000000000" # twice }}\n}}\n',
    'vm_info_vec {{\n  vm_uuid: "{uuid}"\nI1124 13:52:37.883000 1 log line\n  vm_name: "noise within"\n}}\n',
    "result_vec: kNoError\n",
    "I1124 13:52:37.883000 1 a log line\r\n",
)
_lists = st.lists(st.tuples(st.sampled_from(_BLOCKS), st.sampled_from(_UUIDS)), max_size=6).map(
    lambda parts: "".join(
        block.format(uuid=uuid, upper=uuid.upper(), uuid_end=uuid.removeprefix("20ed")) for block, uuid in parts
    )
)


def _read(text: str) -> dict[VmUuid, object] | FaultCode:
    try:
        return dict(find_entities(text, None).entities)
    except Fault as fault:
        return fault.code


def _find(text: str, wanted: VmUuid) -> object:
    try:
        return find_entities(text, {wanted}).entities.get(wanted)
    except Fault as fault:
        return fault.code


@given(_lists, st.sampled_from(_UUIDS), st.integers(0, 400))
def test_the_wanted_entity_is_the_one_that_a_full_reading_gives(text: str, wanted: VmUuid, cut: int) -> None:
    for answer in (text, text[: max(0, len(text) - cut)]):
        read = _read(answer)
        assert _find(answer, wanted) == (read if isinstance(read, FaultCode) else read.get(wanted))


@pytest.mark.parametrize("hostile", ["vm_info_vec {", "a {", '"', "\\", "[", " ", "a: ", "#", "vm_uuid: "])
def test_no_text_takes_longer_than_a_test_may(hostile: str) -> None:
    for text in (hostile * 20_000, "vm_info_vec {" + hostile * 20_000, "vm_info_vec { a: '" + hostile * 20_000):
        _find(text, _UUIDS[0])


def test_without_wanted_vms_all_are_read() -> None:
    text = "".join(_BLOCKS[0].format(uuid=uuid) for uuid in _UUIDS)
    found = find_entities(text, None)
    assert (set(found.entities), found.other_count) == (set(_UUIDS), 0)


@pytest.mark.parametrize("cut", [1, 3, 20, 60])
def test_a_list_that_is_torn_behind_the_wanted_entity_is_refused(cut: int) -> None:
    text = "".join(_BLOCKS[0].format(uuid=uuid) for uuid in _UUIDS)
    with pytest.raises(Fault, match="torn"):
        find_entities(text.rstrip()[:-cut], {_UUIDS[0]})

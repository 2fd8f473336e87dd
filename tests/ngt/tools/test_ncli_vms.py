"""The readers of ncli: both forms, every error, and no half listing that looks like a whole one."""

import json
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.ngt.errors import Fault, FaultCode
from app.ngt.tools.ncli_format import is_gateway_down, read_ncli_error, read_ncli_records
from app.ngt.tools.ncli_vms import read_vm_listing
from app.ngt.vocabulary import NgtState, PowerState, VmRecord, VmUuid, parse_vm_uuid

UUID = VmUuid("20edafba-0644-4e57-a3cf-4abef2f69a5f")
OTHER = VmUuid("78f8cc61-0188-4485-9ec5-d3dbd6a3e7cc")
CLUSTER = "00056d28-59d3-7bbc-0000-000000014005"
NOISE = (
    "I20250428 15:52:24.000553Z 207890(0x7fa820b953c0) zookeeper_init:994] sessionPasswd=<null>\n"
    "/etc/profile.d/os-security.sh: line 4: TMOUT: readonly variable\n"
)
ALL_SAID = NgtState(enabled=True, iso_mounted=True, vss_snapshot=True, file_level_restore=False, link_active=True)

printable = st.text(st.characters(exclude_categories=["Cs", "Cc"])).map(str.strip)
flags = st.booleans()
states = st.builds(NgtState, flags, flags, flags, flags, flags)
vms = st.builds(
    VmRecord,
    vm_uuid=st.uuids().map(lambda uuid: parse_vm_uuid(str(uuid))),
    name=printable,
    power=st.sampled_from([PowerState.ON, PowerState.OFF]),
    addresses=st.lists(st.ip_addresses().map(str), max_size=3).map(tuple),
    controller_vm=flags,
    ngt=st.none() | states,
)


def ngt_json(ngt: NgtState) -> dict[str, Any]:
    return {
        "enabled": ngt.enabled,
        "applications": {"vss_snapshot": ngt.vss_snapshot, "file_level_restore": ngt.file_level_restore},
        "toolsMounted": ngt.iso_mounted,
        "communicationLinkActive": ngt.link_active,
    }


def vm_json(vm: VmRecord) -> dict[str, Any]:
    return {
        "vmId": f"{CLUSTER}::{vm.vm_uuid}",
        "uuid": vm.vm_uuid,
        "vmName": vm.name,
        "powerState": vm.power.value,
        "ipAddresses": list(vm.addresses),
        "controllerVm": vm.controller_vm,
        "nutanixGuestTools": vm.ngt and ngt_json(vm.ngt),
    }


def json_answer(data: object, status: int = 0) -> str:
    return json.dumps({"data": data, "status": status}, ensure_ascii=False) + "\n"


def text_record(fields: dict[str, str]) -> str:
    return "".join(f"    {key:<26} : {value}\n" for key, value in fields.items())


def vm_text(vm_uuid: str = UUID, name: str = "web", addresses: str = "10.0.0.1") -> str:
    return text_record(
        {
            "Id": f"{CLUSTER}::{vm_uuid}",
            "Uuid": vm_uuid,
            "Name": name,
            "VM IP Addresses": addresses,
            "Protection Domain": "",
        }
    )


def code_of(reader: Callable[[str], object], text: str) -> FaultCode:
    with pytest.raises(Fault) as raised:
        reader(text)
    return raised.value.code


# --- The text form ---


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["Id", "Uuid", "VM IP Addresses", "VDisks", "A very long key of 34 characters", "鍵"]),
            printable | st.just(f"{CLUSTER}::NFS:4:0:313"),
            min_size=1,
        )
    ),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["", " ", "  \t"]),
)
def test_text_records_are_read_as_they_were_printed(
    printed: list[dict[str, str]], line_end: str, trailing: str
) -> None:
    records = [text_record({key: value + trailing for key, value in fields.items()}) for fields in printed]
    assert read_ncli_records("\n".join(records).replace("\n", line_end)) == tuple(printed)


def test_values_hold_colons_and_end_in_blanks_and_are_split_off_at_the_first_blank_and_colon() -> None:
    assert read_ncli_records("    VDisks : a::NFS:4 : 0  \n    Empty :\n    No colon\n : no key\n") == (
        {"VDisks": "a::NFS:4 : 0", "Empty": ""},
    )


def test_records_that_no_blank_line_parts_stay_apart() -> None:
    assert [record.vm_uuid for record in read_vm_listing(vm_text(UUID) + vm_text(OTHER))] == [UUID, OTHER]


def test_two_vms_of_one_name_are_both_listed() -> None:
    listed = read_vm_listing(f"{vm_text(UUID)}\n{vm_text(OTHER)}\n")
    assert [(record.vm_uuid, record.name) for record in listed] == [(UUID, "web"), (OTHER, "web")]


def test_the_text_form_does_not_say_the_power_and_the_ngt_state() -> None:
    (record,) = read_vm_listing(vm_text(addresses="10.0.0.1, fe80::1, not an address"))
    assert record == VmRecord(UUID, "web", PowerState.UNKNOWN, ("10.0.0.1", "fe80::1"), controller_vm=False, ngt=None)


def test_a_controller_vm_is_known_by_its_name_where_the_listing_does_not_say() -> None:
    assert read_vm_listing(vm_text(name="NTNX-17SM6C100126-B-CVM"))[0].controller_vm


def test_a_vm_without_a_uuid_of_its_own_is_known_by_its_id() -> None:
    assert read_vm_listing(vm_text().replace(f"    {'Uuid':<26} : {UUID}\n", ""))[0].vm_uuid == UUID


def test_a_name_may_hold_what_looks_like_another_answer() -> None:
    for name in (
        "Error: Could not connect to Nutanix Gateway",
        "[None]",
        '{"data":[],"status":0}',
        "a\u2028b\x85c : d",
    ):
        (record,) = read_vm_listing(vm_text(name=name))
        assert record.name == name.replace("\x85", "\ufffd")


@pytest.mark.parametrize(
    "text",
    [
        f"{vm_text(UUID)}\n{vm_text(OTHER)}".rpartition("    Protection")[0],
        f"{vm_text(UUID)}\n    Id",
        f"{vm_text(UUID)}\n{vm_text(OTHER)}    Tags : x\n\n    Id : {CLUSTER}::{UUID}\n    Uuid : 20ed",
        f"{vm_text(UUID)}\n    Id : {CLUSTER}\nError: the connection was closed\n",
    ],
)
def test_a_text_listing_that_ends_within_a_record_is_a_fault(text: str) -> None:
    assert code_of(read_vm_listing, text) is FaultCode.UNEXPECTED_OUTPUT


# --- JSON ---


@settings(deadline=None, max_examples=150)
@given(
    printed=st.lists(vms),
    before=st.sampled_from(["", NOISE, "Welcome\n", json_answer("in progress", 7)]),
    ascii_only=st.booleans(),
)
def test_a_json_listing_is_read_as_it_was_printed(printed: list[VmRecord], before: str, *, ascii_only: bool) -> None:
    answer = json.dumps({"data": [vm_json(vm) for vm in printed], "status": 0}, ensure_ascii=ascii_only)
    assert read_vm_listing(f"{before}{answer}\n{NOISE}") == tuple(printed)


def test_what_is_not_said_is_unknown_and_the_record_stays() -> None:
    assert read_vm_listing(json_answer([{"uuid": UUID.upper()}])) == (
        VmRecord(UUID, "", PowerState.UNKNOWN, (), controller_vm=False, ngt=None),
    )
    (record,) = read_vm_listing(
        json_answer([{"uuid": UUID, "vmName": 7, "ipAddresses": "x", "nutanixGuestTools": {"enabled": "true"}}])
    )
    assert record.ngt == NgtState(
        enabled=True, iso_mounted=None, vss_snapshot=None, file_level_restore=None, link_active=None
    )


@pytest.mark.parametrize(
    ("word", "power"),
    [("on", "on"), ("OFF", "off"), ("suspended", "other"), ("paused", "other"), ("", "unknown"), (None, "unknown")],
)
def test_power_states_are_on_off_other_or_unknown(word: str | None, power: str) -> None:
    assert read_vm_listing(json_answer([{"uuid": UUID, "powerState": word}]))[0].power == power


def test_a_record_without_a_uuid_is_left_out_beside_others() -> None:
    listed = read_vm_listing(json_answer([{"vmName": "a"}, {"uuid": "x"}, {"vmId": f"{CLUSTER}::{UUID}"}]))
    assert [record.vm_uuid for record in listed] == [UUID]


def test_what_cannot_be_stored_is_replaced_in_a_name() -> None:
    text = json.dumps({"data": [{"uuid": UUID, "vmName": "a\x00b\ud800c"}], "status": 0})
    assert read_vm_listing(text)[0].name == "a\ufffdb\ufffdc"


@pytest.mark.parametrize("text", ["[None]\n", f"{NOISE}[None]\n", json_answer([])])
def test_nothing_found_is_an_empty_listing(text: str) -> None:
    assert read_vm_listing(text) == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        NOISE,
        "Welcome to this CVM\n",
        "Unknown option: -json=true\n",
        "Error: something else\n",
        json_answer(None),
        json_answer("a message"),
        json_answer([1]),
        json_answer([{"vmName": "no uuid at all"}]),
        json_answer([], status=1),
        '{"data":[]}\n',
        '{"data":[],"status":false}\n',
        '{"data":[],"status":"0"}\n',
        json_answer([]) + '{"data":[{"uu',
        '{"data":' + "[" * 100_000 + "\n",
        '{"data":[],"status":' + "1" * 5000 + "}\n",
        text_record({"Cluster": "c", "Version": "1"}),
    ],
)
def test_what_is_no_whole_listing_is_unexpected_output(text: str) -> None:
    assert code_of(read_vm_listing, text) is FaultCode.UNEXPECTED_OUTPUT


@settings(deadline=None, max_examples=100)
@given(st.lists(vms, min_size=1, max_size=3), st.data())
def test_a_json_listing_that_is_cut_anywhere_is_a_fault(printed: list[VmRecord], data: st.DataObject) -> None:
    answer = json_answer([vm_json(vm) for vm in printed]).rstrip("\n")
    cut = answer[: data.draw(st.integers(0, len(answer) - 1))]
    assert code_of(read_vm_listing, cut) is FaultCode.UNEXPECTED_OUTPUT


def test_a_thousand_vms_of_five_kilobytes_are_read_in_a_second() -> None:
    text = json_answer([{"uuid": UUID, "vmName": "web", "filler": "x" * 5000}] * 1000)
    begin = time.perf_counter()
    assert len(read_vm_listing(text)) == 1000
    assert time.perf_counter() - begin < 1


def test_a_listing_is_read_where_it_stands_in_a_longer_text() -> None:
    listing, frame = json_answer([{"uuid": UUID}]), "\nngtr-listing end 0\n{"
    assert [vm.vm_uuid for vm in read_vm_listing(f"{{x\n{listing}{frame}", 3, 3 + len(listing))] == [UUID]


def test_a_line_that_goes_on_in_the_next_one_is_torn() -> None:
    assert code_of(read_vm_listing, '{"data":[],\n"status":0}') is FaultCode.UNEXPECTED_OUTPUT
    listing = json_answer([{"uuid": UUID}])
    for end in range(1, len(listing) - 2):
        with pytest.raises(Fault):
            read_vm_listing(listing, 0, end)


def test_fifteen_megabytes_are_read_without_a_second_copy() -> None:
    text = json_answer([{"uuid": UUID, "vmName": "web", "filler": "x" * 5000}] * 3000)
    tracemalloc.start()
    try:
        assert len(read_vm_listing(text)) == 3000
        assert tracemalloc.get_traced_memory()[1] < len(text) / 3
    finally:
        tracemalloc.stop()


# --- Errors ---


@pytest.mark.parametrize(
    "text",
    [
        "Error: Could not connect to Nutanix Gateway\n",
        f"{NOISE}Error: Could not connect to Nutanix Gateway.\r\n",
        "Error: COULD NOT CONNECT TO NUTANIX GATEWAY\n",
        json_answer("Could not connect to Nutanix Gateway", status=1),
    ],
)
def test_a_gateway_that_is_down_is_a_fault_of_its_own(text: str) -> None:
    assert is_gateway_down(text)
    assert code_of(read_vm_listing, text) is FaultCode.GATEWAY_DOWN


def test_the_message_of_a_status_is_handed_on_masked_and_on_one_line() -> None:
    with pytest.raises(Fault, match=r"ncli says: bad password=\*\*\* given") as raised:
        read_vm_listing(json_answer("bad\npassword=hunter2 given", status=3))
    assert "hunter2" not in raised.value.message


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("Error: no such VM \n", "no such VM"),
        ("  Error : x\n", "x"),
        (json_answer("no such VM", status=1), "no such VM"),
        (json_answer([]), None),
        ("    Name : Error: x\n", None),
        ("No Error: here\n", None),
        ('{"torn', None),
        ("", None),
    ],
)
def test_an_error_is_a_line_of_its_own_or_a_status(text: str, error: str | None) -> None:
    assert read_ncli_error(text) == error


# --- The state of NGT ---


@pytest.mark.parametrize(
    "text",
    [
        text_record(
            {"Id": f"{CLUSTER}::{UUID}", "Name": "NGT Enabled : false", "NGT Enabled": "true"}
            | {"Tools ISO Mounted": "true", "Vss Snapshot": "true", "File Level Restore": "false"}
            | {"Communication Link Active": "true  "}
        ),
        json_answer({"uuid": UUID, "nutanixGuestTools": ngt_json(ALL_SAID)}),
        json_answer([{"uuid": UUID, "nutanixGuestTools": ngt_json(ALL_SAID)}]),
    ],
)
def test_the_ngt_state_is_read_from_either_form(text: str) -> None:
    (record,) = read_vm_listing(NOISE + text)
    assert record.ngt == ALL_SAID


@pytest.mark.parametrize("text", [vm_text(), json_answer({"uuid": UUID}), json_answer([{"uuid": UUID}])])
def test_no_ngt_state_is_an_answer(text: str) -> None:
    (record,) = read_vm_listing(text)
    assert record.ngt is None


@pytest.mark.parametrize("text", ["", "hello\n", json_answer(None, status=1)])
def test_other_text_is_unexpected_output(text: str) -> None:
    assert code_of(read_vm_listing, text) is FaultCode.UNEXPECTED_OUTPUT


# --- Whatever comes ---

FRAGMENTS = [
    "    ",
    " :",
    "\n",
    "Uuid",
    "Id",
    "Name",
    "::",
    UUID,
    "{",
    "}",
    '"data":',
    '"status":0',
    "[",
    "]",
    "[None]",
    "Error:",
]


@settings(deadline=None, max_examples=400)
@given(st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=5), max_size=40).map("".join))
def test_no_text_raises_anything_but_a_fault(text: str) -> None:
    read_everything(text)


@pytest.mark.parametrize("hostile", [" : \n", "Error: ", "{", " ", "Error", "a", '{"', "\n", "\\", "    x\n", "[None]"])
def test_no_text_takes_longer_than_a_test_may(hostile: str) -> None:
    begin = time.perf_counter()
    read_everything(hostile * (100_000 // len(hostile)))
    assert time.perf_counter() - begin < 2


def read_everything(text: str) -> None:
    read_ncli_records(text)
    read_ncli_error(text)
    is_gateway_down(text)
    with suppress(Fault):
        read_vm_listing(text)

"""The readers of `nutanix_guest_tools_cli` and of a guest's configuration: every layout, and nothing but whole answers."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.ngt.errors import Fault, FaultCode
from app.ngt.output import is_success, read_entities, read_guest_config, read_results, read_usage
from app.ngt.vocabulary import NO_ERROR, NO_FREE_CD_ROM_SLOT, ResultWord, VmToolsEntity, VmUuid, parse_vm_uuid

UUID = VmUuid("20edafba-0644-4e57-a3cf-4abef2f69a5f")
LOG_LINES = (
    "2020-12-12 09:05:17,306Z:31766(0x7f33f5eaaa80):ZOO_INFO@log_env@960: Client environment:host.name=a",
    "I20250428 15:52:24.000553Z 207890(0x7fa820b953c0) zookeeper_init:994] result_vec: kNoError",
    "2020-12-12 09:05:17,309Z:31766(0x7f33f5e1f700):ZOO_WARN@check@1: vm_info_vec { result_vec: kNoError",
    "W0428 15:52:24.000553 207890 client.cc:12] slow }",
    "/etc/profile.d/os-security.sh: line 4: TMOUT: readonly variable",
)
quick = settings(deadline=None, max_examples=150)
words = st.one_of(st.sampled_from([NO_ERROR, NO_FREE_CD_ROM_SLOT, "k", "-7", "23"]), st.from_regex(r"k[A-Za-z0-9_]{1,20}", fullmatch=True))
line_ends = st.sampled_from(["\n", "\r\n", "\r"])


@quick
@given(
    st.lists(st.tuples(words, st.sampled_from([" ", "\n", ", ", "\n  ", "; "]))),
    st.sampled_from(["result_vec: ", "result_vec:", "result_vec : "]),
)
def test_results_are_read_in_any_layout(members: list[tuple[str, str]], key: str) -> None:
    text = "".join(f"{key}{word}{separator}" for word, separator in members)
    assert read_results(text) == tuple(word for word, _ in members)


@quick
@given(st.lists(words), line_ends, st.lists(st.sampled_from(LOG_LINES), min_size=1))
def test_results_are_read_between_log_lines(members: list[str], line_end: str, logs: list[str]) -> None:
    lines = [line for word in members for line in (*logs, f"result_vec: {word}")]
    assert read_results(line_end.join([*lines, *logs])) == tuple(members)


def test_results_are_read_from_a_list() -> None:
    assert read_results("result_vec: [kNoError, 7,kNoFreeCdRomSlot]\nresult_vec: []") == (NO_ERROR, "7", NO_FREE_CD_ROM_SLOT)


@pytest.mark.parametrize(
    "line",
    [
        "the last result_vec: kNoError was long ago",
        "retrying, result_vec: kNoError",
        "result_vec: kNoError was expected",
        "result_vec: kNoErrorI20250428 15:52:24.000553Z 1(0x7) close] bye",
        'echo "result_vec: kNoError"',
        "my_result_vec: kNoError",
        "result_vec kNoError",
        "result_vec: ",
        "result_vec: [kNoError",
        "",
    ],
)
def test_the_word_in_a_line_of_another_kind_is_no_result(line: str) -> None:
    assert read_results(f"{line}\n") == ()


@pytest.mark.parametrize(
    ("results", "expected", "success"),
    [
        (["kNoError"], 1, True),
        (["kNoError", "kNoError"], 2, True),
        ([], 1, False),
        ([], 0, False),
        (["kNoError"], 2, False),
        (["kNoError", "kNoError"], 1, False),
        (["kNoError", "kNoFreeCdRomSlot"], 2, False),
        (["kNoFreeCdRomSlot"], 1, False),
        (["0"], 1, False),
    ],
)
def test_success_is_as_many_results_as_vms_and_all_without_error(
    results: list[str], expected: int, success: bool
) -> None:
    assert is_success([ResultWord(word) for word in results], expected) is success


# --- VM tools entities ---

names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).map(str.strip).filter(bool)
flags = st.none() | st.booleans()
entities = st.builds(
    VmToolsEntity,
    vm_uuid=st.uuids().map(lambda uuid: parse_vm_uuid(str(uuid))),
    ngt_uuid=st.none() | st.uuids().map(str),
    name=st.none() | names,
    enabled=flags,
    iso_mounted=flags,
    vss_snapshot=flags,
    file_level_restore=flags,
    link_active=flags,
    communication_type=st.none() | st.sampled_from(["kSerialPort", "kIPv4", "3"]),
    client_cert_expiry_date=st.none() | st.integers(1, 253_402_300_799),
)


class Printer:
    """Prints entities as protobuf text in a layout that Hypothesis chooses anew at every place where there is a choice."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data

    def choose(self, *choices: str) -> str:
        return self.data.draw(st.sampled_from(choices))

    def blank(self) -> str:
        return self.choose("\n", " ", "  \n\n", " # } a comment { \"\n", "\r\n", ";\n", f"\n{LOG_LINES[1]}\n")

    def quoted(self, text: str) -> str:
        quote = self.choose('"', "'")
        match self.choose("plain", "octal", "hex", "split"):
            case "octal":
                inside = "".join(f"\\{byte:03o}" for byte in text.encode())
            case "hex":
                inside = "".join(f"\\x{byte:02x}" for byte in text.encode())
            case "split":
                halves = (text[: len(text) // 2], text[len(text) // 2 :])
                return self.choose(" ", "\n  ", "").join(quote + self.escaped(half, quote) + quote for half in halves)
            case _:
                inside = self.escaped(text, quote)
        return f"{quote}{inside}{quote}"

    def escaped(self, text: str, quote: str) -> str:
        return text.replace("\\", "\\\\").replace(quote, f"\\{quote}")

    def field(self, name: str, value: str | bool | int | None) -> str:
        match value:
            case None:
                return ""
            case bool():
                return f"{name}: {str(value).lower()}{self.blank()}"
            case str() if name != "communication_type":
                return f"{name}{self.choose(':', ': ', ' : ')}{self.quoted(value)}{self.blank()}"
            case _:
                return f"{name}: {value}{self.blank()}"

    def message(self, name: str, inside: str) -> str:
        opening, closing = self.data.draw(st.sampled_from(["{}", "<>"]))
        return f"{name}{self.choose('', ' ', ':', ' : ')}{opening}{self.blank()}{inside}{closing}{self.blank()}"

    def unknown(self) -> str:
        return self.choose(
            "",
            'note: "vm_info_vec { vm_uuid: \\"x\\" }"\n',
            "12: 0x1F\n",
            "ratio: -1.5e+3\n",
            "list: [1, \"]\", 'a']\n",
            "dns_ip_vec: '1' dns_ip_vec: '2'\n",
            "network_interfaces_info { vm_uuid: 'other' ipv4_info_vec < ip_address: \"10.0.0.1\" > }\n",
            "[com.nutanix.extension] { a: 1 }\n",
        )

    def entity(self, entity: VmToolsEntity) -> str:
        capabilities = self.field("vss_snapshot", entity.vss_snapshot)
        capabilities += self.field("file_level_restore", entity.file_level_restore)
        expiry = self.field("client_cert_expiry_date", entity.client_cert_expiry_date)
        return self.message(
            "vm_info_vec",
            self.unknown()
            + self.field("vm_uuid", str(entity.vm_uuid))
            + self.field("ngt_uuid", entity.ngt_uuid)
            + self.field("vm_name", entity.name)
            + self.message("capabilities", capabilities)
            + self.field("guest_tools_enabled", entity.enabled)
            + self.field("tools_mounted", entity.iso_mounted)
            + self.field("communication_link_active", entity.link_active)
            + self.field("communication_type", entity.communication_type)
            + self.unknown()
            + self.message("vm_info", self.unknown() + expiry),
        )


@settings(deadline=None, max_examples=150)
@given(st.lists(entities, max_size=4), st.data())
def test_entities_are_read_in_any_layout_of_protobuf_text(printed: list[VmToolsEntity], data: st.DataObject) -> None:
    text = "".join(Printer(data).entity(entity) for entity in printed)
    assert read_entities(text) == tuple(printed)


@settings(deadline=None, max_examples=100)
@given(entities, st.data())
def test_a_torn_entity_is_a_fault_and_never_fewer_facts(printed: VmToolsEntity, data: st.DataObject) -> None:
    text = Printer(data).entity(printed)
    try:
        assert read_entities(text[: data.draw(st.integers(1, len(text)))]) == (printed,)
    except Fault as fault:
        assert fault.code is FaultCode.UNEXPECTED_OUTPUT


ENTITY = f'vm_info_vec {{\n  vm_uuid: "{UUID}"\n}}\n'


@pytest.mark.parametrize(
    "text",
    [
        ENTITY + "vm_info_vec {\n",
        ENTITY + "vm_info_vec\n",
        ENTITY + "vm_inf",
        ENTITY + "}\n",
        f'  vm_uuid: "{UUID}"\n}}\n' + ENTITY,
        ENTITY.replace("}", ">"),
        ENTITY.replace(f'{UUID}"', str(UUID)),
        ENTITY.replace("vm_uuid:", "vm_uuid"),
        ENTITY.replace("}", "vm_name: @\n}"),
        ENTITY + "result_vec: kTimeout\n",
        ENTITY + "Error: the leader has moved\n",
        "answer {\n" + ENTITY,
        "vm_info_vec " + "{ a " * 101 + "}" * 101,
        "Unknown sub-command query\n",
        "result_vec: kNotLeader\n",
        'vm_info_vec {\n  vm_name: "no UUID"\n}\n',
    ],
)
def test_absence_is_never_concluded_from_an_answer_that_is_torn_or_failed(text: str) -> None:
    with pytest.raises(Fault) as raised:
        read_entities(text)
    assert raised.value.code is FaultCode.UNEXPECTED_OUTPUT


@pytest.mark.parametrize("text", ["", "\n", "result_vec: kNoError\n", "\n".join(LOG_LINES)])
def test_an_answer_without_entities_is_an_answer(text: str) -> None:
    assert read_entities(text) == ()


@pytest.mark.parametrize(
    "text",
    [
        f"Nutanix Controller VM\n{ENTITY}",
        f"{ENTITY}result_vec: kNoError\n",
        " ".join(ENTITY.split()),
        f"answer {{\n{ENTITY}}}\n",
        ENTITY + 'vm_info_vec { vm_name: "no UUID" }\n',
        ENTITY.replace(UUID, UUID.upper()),
        f"vm_info_vec {{ vm_uuid: 'x' vm_uuid: '{UUID}' }}",
        f"vm_info_vec {{ vm_uuid: '{UUID}' vm_info {{ client_cert_expiry_date: 0 }} }}",
        f"vm_info_vec {{ vm_uuid: '{UUID}' client_cert_expiry_date: 1693990800 }}",
        f"vm_info_vec {{ vm_uuid: '{UUID}' vm_info {{ client_cert_expiry_date: {'9' * 5000} }} }}",
    ],
)
def test_an_entity_is_found_whatever_stands_around_it(text: str) -> None:
    assert read_entities(text) == (VmToolsEntity(UUID, *[None] * 9),)


def test_messages_of_one_name_are_merged_and_the_last_scalar_counts() -> None:
    (entity,) = read_entities(
        f"vm_info_vec {{ vm_uuid: '{UUID}' capabilities {{ vss_snapshot: false }} vm_name: 'old' vm_name: 'new'"
        " capabilities { vss_snapshot: true file_level_restore: false } }"
    )
    assert (entity.name, entity.vss_snapshot, entity.file_level_restore) == ("new", True, False)


def test_escapes_stand_for_bytes_of_utf_8() -> None:
    (entity,) = read_entities(rf"vm_info_vec {{ vm_uuid: '{UUID}' vm_name: '\346\227\245\xe6\x9c\xac \u0041\U0001F600\\\'' }}")
    assert entity.name == "日本 A😀\\'"


def test_what_cannot_be_stored_is_replaced_in_a_name() -> None:
    (entity,) = read_entities(rf"vm_info_vec {{ vm_uuid: '{UUID}' vm_name: 'a\000b\377c\n\UFFFFFFFF' }}")
    assert entity.name == "a\ufffdb\ufffdc\ufffd?"


def test_three_thousand_entities_are_read_in_linear_time() -> None:
    text = ENTITY.replace("}", 'vm_name: "Windows Server 2016 Template"\n' * 10 + "}") * 3000
    begin = time.perf_counter()
    assert len(read_entities(text)) == 3000
    assert time.perf_counter() - begin < 1.5


# --- Usage, and the guest's configuration ---


def test_sub_commands_are_told_from_arguments_and_paths() -> None:
    usage = """
usage: nutanix_guest_tools_cli <sub_command> [--time_out=N]
  delete_vm_tools_entity <vm_uuid>   Deletes the entity, see /home/nutanix/bin/the_cli.
  refresh_vm_tools_entity [vm_uuids=string-containing vm_uuid1,vm_uuid2....] [threshold_days=number-of-days]
  get_leader_location, mount_guest_tools.
"""
    assert read_usage(usage) == {
        "delete_vm_tools_entity",
        "refresh_vm_tools_entity",
        "get_leader_location",
        "mount_guest_tools",
    }


@pytest.mark.parametrize(
    ("text", "ngt_uuid"),
    [
        ('\ufeff{"ngt_uuid": "D4DE685B-791a-4fbc-b916-6d5008bcbe2d"}\r\n', "d4de685b-791a-4fbc-b916-6d5008bcbe2d"),
        ('a banner\n{\n  "port": 2074,\n  "ngt_uuid": "x"\n}\n', "x"),
        ('{"ngt_uuid": ""}', None),
        ('{"ngt_uuid": 7}', None),
        ('{"ngt_uuid": "x"', None),
        ("[1]", None),
        ('{"a":' * 100_000 + "}" * 100_000, None),
        ("", None),
    ],
)
def test_the_ngt_uuid_of_a_guest_is_read_or_is_not_there(text: str, ngt_uuid: str | None) -> None:
    assert read_guest_config(text) == ngt_uuid


# --- Whatever comes ---

fragments = st.lists(
    st.one_of(
        st.sampled_from(
            ["vm_info_vec", " {", "}", "<", ">", ":", '"', "'", "\\", "\n", "[", "]", "#", " ", f'"{UUID}"', "vm_uuid: "]
            + ["result_vec: ", "kNoError", "Error: ", "[None]", '{"data":', '"status":0}', "-1", ",", *LOG_LINES]
        ),
        st.text(max_size=5),
    ),
    max_size=40,
).map("".join)


@settings(deadline=None, max_examples=400)
@given(fragments)
def test_no_text_raises_anything_but_a_fault(text: str) -> None:
    read_results(text)
    read_usage(text)
    read_guest_config(text)
    try:
        read_entities(text)
    except Fault as fault:
        assert fault.code is FaultCode.UNEXPECTED_OUTPUT


@pytest.mark.parametrize(
    "hostile",
    ["vm_info_vec {" * 20_000, '"' * 100_000, "\\" * 100_000, "result_vec: " * 20_000, "[" * 100_000, " " * 100_000]
    + ["vm_info_vec" * 20_000, "a_" * 50_000, "vm_info_vec { a: '" + "\\" * 100_000, "vm_info_vec {" + " " * 100_000],
)
def test_no_text_takes_more_than_linear_time(hostile: str) -> None:
    begin = time.perf_counter()
    test_no_text_raises_anything_but_a_fault.hypothesis.inner_test(hostile)
    assert time.perf_counter() - begin < 1.5

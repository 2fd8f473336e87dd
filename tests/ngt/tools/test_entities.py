"""The reader of VM tools entities: every layout of protobuf text, and nothing but whole answers."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.ngt.errors import Fault, FaultCode
from app.ngt.tools.entities import find_entities
from app.ngt.vocabulary import VmToolsEntity, VmUuid, parse_vm_uuid

UUID = VmUuid("20edafba-0644-4e57-a3cf-4abef2f69a5f")
LOG_LINES = (
    "I20250428 15:52:24.000553Z 207890(0x7fa820b953c0) zookeeper_init:994] result_vec: kNoError",
    "2020-12-12 09:05:17,309Z:31766(0x7f33f5e1f700):ZOO_WARN@check@1: vm_info_vec { result_vec: kNoError",
    "/etc/profile.d/os-security.sh: line 4: TMOUT: readonly variable",
)

ENTITY = f'vm_info_vec {{\n  vm_uuid: "{UUID}"\n}}\n'

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
    """Prints entities as protobuf text, in a layout that is chosen anew at every place where there is a choice."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data

    def choose(self, *choices: str) -> str:
        return self.data.draw(st.sampled_from(choices))

    def blank(self) -> str:
        return self.choose("\n", " ", "  \n\n", ' # } a comment { "\n', "\r\n", ";\n", f"\n{LOG_LINES[0]}\n")

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

    def field(self, name: str, value: str | int | None) -> str:
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
        opening, closing = self.data.draw(st.sampled_from([("{", "}"), ("<", ">")]))
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
@given(st.lists(entities, max_size=4, unique_by=lambda entity: entity.vm_uuid), st.data())
def test_entities_are_read_in_any_layout_of_protobuf_text(printed: list[VmToolsEntity], data: st.DataObject) -> None:
    text = "".join(Printer(data).entity(entity) for entity in printed)
    assert read_entities(text) == tuple(printed)


@settings(deadline=None, max_examples=100)
@given(entities, st.data())
def test_a_torn_entity_is_a_fault_and_never_fewer_facts(printed: VmToolsEntity, data: st.DataObject) -> None:
    text = Printer(data).entity(printed)
    facts = facts_or_fault(text[: data.draw(st.integers(1, len(text)))])
    assert facts in ((printed,), FaultCode.UNEXPECTED_OUTPUT)


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
    assert facts_or_fault(text) is FaultCode.UNEXPECTED_OUTPUT


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
    (entity,) = read_entities(
        rf"vm_info_vec {{ vm_uuid: '{UUID}' vm_name: '\346\227\245\xe6\x9c\xac \u0041\U0001F600\\\'' }}"
    )
    assert entity.name == "日本 A😀\\'"


def test_what_cannot_be_stored_is_replaced_in_a_name() -> None:
    (entity,) = read_entities(rf"vm_info_vec {{ vm_uuid: '{UUID}' vm_name: 'a\000b\377c\n\UFFFFFFFF' }}")
    assert entity.name == "a\ufffdb\ufffdc\ufffd?"


def test_three_thousand_entities_are_read() -> None:
    entity = ENTITY.replace("}", 'vm_name: "Windows Server 2016 Template"\n' * 10 + "}")
    assert (
        len(read_entities("".join(entity.replace(UUID, f"{UUID[:-4]}{number:04}") for number in range(3000)))) == 3000
    )


fragments = st.lists(
    st.sampled_from(["vm_info_vec", " {", "}", "<", ">", ":", '"', "'", "\\", "\n", "[", "]", "#", " ", f'"{UUID}"'])
    | st.sampled_from(["vm_uuid: ", "result_vec: ", "kNoError", "Error: ", "-1", ",", *LOG_LINES])
    | st.text(max_size=5),
    max_size=40,
).map("".join)


@settings(deadline=None, max_examples=400)
@given(fragments)
def test_no_text_raises_anything_but_unexpected_output(text: str) -> None:
    facts = facts_or_fault(text)
    assert facts is FaultCode.UNEXPECTED_OUTPUT or isinstance(facts, tuple)


@pytest.mark.parametrize(
    "hostile", ["vm_info_vec {", "vm_info_vec", '"', "\\", "result_vec: ", "[", " ", "a: ", "{", "#"]
)
def test_no_text_takes_longer_than_a_test_may(hostile: str) -> None:
    facts_or_fault(hostile * 20_000)
    facts_or_fault("vm_info_vec {" + hostile * 20_000)
    facts_or_fault("vm_info_vec { a: '" + hostile * 20_000)


def read_entities(text: str) -> tuple[VmToolsEntity, ...]:
    return tuple(find_entities(text, None).entities.values())


def facts_or_fault(text: str) -> tuple[VmToolsEntity, ...] | FaultCode:
    try:
        return read_entities(text)
    except Fault as fault:
        return fault.code

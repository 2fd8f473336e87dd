"""What the tools of a CVM and the files of a guest say, as facts: text in, values out.

Known answer lines are looked for and everything else is left alone. Text that is torn or not understood is a fault,
so that half an answer never looks like a whole one.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from app.ngt.masking import mask
from app.ngt.tools.ncli_format import is_gateway_down, read_ncli_error, read_ncli_records
from app.ngt.tools.ncli_vms import read_ngt_state, read_vm_listing
from app.ngt.tools.protobuf_text import Message, last_scalar, merged_message, read_message, skip_message
from app.ngt.tools.text import answer_lines, excerpt, printable, unexpected
from app.ngt.vocabulary import NO_ERROR, ResultWord, VmToolsEntity, VmUuid, parse_vm_uuid

__all__ = [
    "EntitiesFound",
    "find_entities",
    "is_gateway_down",
    "is_success",
    "mask",
    "read_entities",
    "read_guest_config",
    "read_ncli_error",
    "read_ncli_records",
    "read_ngt_state",
    "read_results",
    "read_usage",
    "read_vm_listing",
]

LAST_UNIX_SECOND = 253_402_300_799
"""The end of the year 9999; a larger number is no date."""

_RESULT = re.compile(
    r"""\s*+result_vec\s*+:\s*+
        (?: (?P<word>[A-Za-z_][A-Za-z0-9_]*+|-?[0-9]++) | \[(?P<words>[A-Za-z0-9_\s,-]*+)\] )
        (?:[\s,;]++|\Z)""",
    re.VERBOSE,
)
_ENTITY = "vm_info_vec"
_ENTITY_HEAD = re.compile(rf"{_ENTITY}(?<![\w.]{_ENTITY})\s*+:?\s*+[{{<]")
_SPELT_UUID = re.compile(r'\bvm_uuid\s*+:\s*+"([0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})"')
_ARGUMENT = re.compile(r"\[[^\[\]]*+\]|<[^<>]*+>")
_SUB_COMMAND = re.compile(r"(?<![\w=./-])[a-z][a-z0-9]*+(?:_[a-z0-9]++)++(?![=/-]|\.?\w)")
_CLI = "nutanix_guest_tools_cli"
_FLAGS = {"true": True, "1": True, "false": False, "0": False}


def read_results(text: str) -> tuple[ResultWord, ...]:
    """All members of `result_vec`, in order, from the lines that hold nothing else.

    The word in the middle of a log line does not count. Members that are not known, also bare numbers, are handed on.
    """
    return tuple(word for line in answer_lines(text) for word in _results_of_line(line))


def is_success(results: Iterable[ResultWord], expected: int = 1) -> bool:
    """Whether there are as many results as VMs were asked for (`expected`, at least 1) and all are `kNoError`."""
    words = tuple(results)
    return len(words) == expected >= 1 and all(word == NO_ERROR for word in words)


def read_entities(text: str) -> tuple[VmToolsEntity, ...]:
    """All VM tools entities of the CLI's query, one for each `vm_info_vec`; one without a VM's UUID is left out.

    None at all is an answer only where nothing but `result_vec: kNoError` was printed. Torn text, an error and a result
    other than `kNoError` are UNEXPECTED_OUTPUT, so that nobody concludes from them that an entity is absent.
    """
    return _read_query(text, None)[0]


@dataclass(frozen=True, slots=True)
class EntitiesFound:
    """Of a query's answer the entities that were wanted, and how many others there are."""

    entities: Mapping[VmUuid, VmToolsEntity]
    others: int


def find_entities(text: str, wanted: Collection[VmUuid] | None) -> EntitiesFound:
    """As `read_entities`, with the same refusals, but only the entities of `wanted` VMs (None: all), by their VM.

    Of a cluster's thousand VMs a renewal asks for one, several times, so the others are counted and not read.
    """
    sought = None if wanted is None else frozenset(wanted)
    read, skipped = _read_query(text, sought)
    found = {entity.vm_uuid: entity for entity in read if sought is None or entity.vm_uuid in sought}
    return EntitiesFound(found, skipped + len(read) - len(found))


def _read_query(text: str, wanted: frozenset[VmUuid] | None) -> tuple[tuple[VmToolsEntity, ...], int]:
    """The entities that may be wanted (None: all), and how many were skipped that are certainly others."""
    answer = "\n".join(answer_lines(text))
    messages: list[Message] = []
    skipped = 0
    outside: list[str] = []
    position = 0
    while head := _ENTITY_HEAD.search(answer, position):
        if gap := answer[position : head.start()].strip():
            outside.append(gap)
        end = skip_message(answer, head.end()) if wanted is not None else None
        if wanted is not None and end is not None and _is_of_another(answer[head.end() : end], wanted):
            skipped += 1
            position = end
            continue
        try:
            message, position = read_message(answer, head.end())
        except ValueError as error:
            raise unexpected(f"the VM tools entities cannot be read: {error}") from None
        messages.append(message)
    outside.append(answer[position:])
    _refuse_outside("\n".join(outside), entities_found=bool(messages or skipped))
    entities = tuple(entity for entity in map(_entity, messages) if entity is not None)
    if messages and not entities and not skipped:
        raise unexpected("none of the VM tools entities has the UUID of a VM")
    return entities, skipped


def _is_of_another(message: str, wanted: frozenset[VmUuid]) -> bool:
    """Whether its one UUID of a VM is spelt out and not wanted; all else is read to know."""
    if message.count("vm_uuid") != 1 or (spelt := _SPELT_UUID.search(message)) is None:
        return False
    return spelt[1].lower() not in wanted


def read_usage(text: str) -> frozenset[str]:
    """The sub-commands that a usage text names: its words in lower case with an underscore that are not arguments."""
    words = (word for line in answer_lines(text) for word in _SUB_COMMAND.findall(_ARGUMENT.sub(" ", line)))
    return frozenset(words) - {_CLI}


def read_guest_config(text: str) -> str | None:
    """`ngt_uuid` of a guest's `ngt_config.json`, in lower case; None where the text has none."""
    start = text.find("{")
    try:
        config = json.loads(text[start : text.rfind("}") + 1]) if start >= 0 else None
    except (ValueError, RecursionError):
        return None
    ngt_uuid = config.get("ngt_uuid") if isinstance(config, dict) else None
    return printable(ngt_uuid).lower() or None if isinstance(ngt_uuid, str) else None


def _results_of_line(line: str) -> list[ResultWord]:
    """The members on a line that begins with `result_vec` and holds nothing else; of any other line, none."""
    found: list[str] = []
    position = 0
    while result := _RESULT.match(line, position):
        found += [result["word"]] if result["word"] else re.findall(r"[^\s,]+", result["words"])
        position = result.end()
    return [ResultWord(word) for word in found] if position == len(line) else []


def _refuse_outside(outside: str, *, entities_found: bool) -> None:
    """Refuse what stands around the entities where it says that the list is torn or that the query failed."""
    if error := read_ncli_error(outside):
        raise unexpected(f"the query for VM tools entities failed: {excerpt(error)}")
    failed = [word for word in read_results(outside) if word != NO_ERROR]
    if failed:
        raise unexpected(f"the query for VM tools entities failed with {failed[0]}")
    lines = [line.strip() for line in outside.split("\n") if line.strip()]
    ends_torn = bool(lines) and _ENTITY.startswith(lines[-1])
    if ends_torn or _ENTITY in outside or outside.count("{") != outside.count("}"):
        raise unexpected("the list of VM tools entities is torn")
    if not entities_found and not all(_results_of_line(line) for line in lines):
        raise unexpected(f"this is no list of VM tools entities: {excerpt(outside)}")


def _entity(message: Message) -> VmToolsEntity | None:
    try:
        vm_uuid = parse_vm_uuid((last_scalar(message, "vm_uuid") or "").strip())
    except ValueError:
        return None
    capabilities = merged_message(message, "capabilities")
    ngt_uuid = _text(message, "ngt_uuid")
    return VmToolsEntity(
        vm_uuid=vm_uuid,
        ngt_uuid=ngt_uuid and ngt_uuid.lower(),
        name=_text(message, "vm_name"),
        enabled=_flag(message, "guest_tools_enabled"),
        iso_mounted=_flag(message, "tools_mounted"),
        vss_snapshot=_flag(capabilities, "vss_snapshot"),
        file_level_restore=_flag(capabilities, "file_level_restore"),
        link_active=_flag(message, "communication_link_active"),
        communication_type=_text(message, "communication_type"),
        client_cert_expiry_date=_unix_seconds(merged_message(message, "vm_info"), "client_cert_expiry_date"),
    )


def _text(message: Message, name: str) -> str | None:
    return printable(last_scalar(message, name) or "") or None


def _flag(message: Message, name: str) -> bool | None:
    return _FLAGS.get((last_scalar(message, name) or "").lower())


def _unix_seconds(message: Message, name: str) -> int | None:
    """None also for 0, the value of a date that nobody set, and for what is no date."""
    word = last_scalar(message, name) or ""
    seconds = int(word) if re.fullmatch(r"[0-9]{1,12}", word) else 0
    return seconds if 0 < seconds <= LAST_UNIX_SECOND else None

"""The VM tools entities that the CLI's query lists: one `vm_info_vec` for each.

Half an answer never looks like a whole one: text that is torn or not understood is a fault.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from app.ngt.tools.ncli_format import read_ncli_error
from app.ngt.tools.protobuf_text import Message, last_scalar, merged_message, read_message, skip_message
from app.ngt.tools.result_vec import read_results, results_of_line
from app.ngt.tools.text import answer_lines, excerpt, printable, unexpected
from app.ngt.vocabulary import NO_ERROR, VmToolsEntity, VmUuid, parse_vm_uuid

LAST_UNIX_SECOND = 253_402_300_799
"""The end of the year 9999; a larger number is not a date."""

_ENTITY = "vm_info_vec"
_ENTITY_HEAD = re.compile(rf"{_ENTITY}(?<![\w.]{_ENTITY})\s*+:?\s*+[{{<]")
_SPELT_UUID = re.compile(r'\bvm_uuid\s*+:\s*+"([0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})"')
_FLAGS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class EntitiesFound:
    """The wanted entities of an answer, by VM, and how many others it lists."""

    entities: Mapping[VmUuid, VmToolsEntity]
    other_count: int


def find_entities(text: str, wanted: Collection[VmUuid] | None) -> EntitiesFound:
    """The entities of the `wanted` VMs (None: of all VMs); an entity without a VM's UUID is left out.

    The other entities are counted and not read, because a renewal asks several times for one VM of thousands. An
    answer without any entity is accepted only where nothing but `result_vec: kNoError` was printed. Torn text, an error
    and any other result are UNEXPECTED_OUTPUT, so that an entity is never taken for absent because of them.
    """
    sought = None if wanted is None else frozenset(wanted)
    read, skipped = _read_query(text, sought)
    found = {entity.vm_uuid: entity for entity in read if sought is None or entity.vm_uuid in sought}
    return EntitiesFound(found, skipped + len(read) - len(found))


def _read_query(text: str, wanted: frozenset[VmUuid] | None) -> tuple[tuple[VmToolsEntity, ...], int]:
    """The entities that may be wanted (None: all), and the number of skipped entities, which certainly are not."""
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
    """Its only VM UUID is written in full and not wanted; any other message must be read."""
    if message.count("vm_uuid") != 1 or (spelt := _SPELT_UUID.search(message)) is None:
        return False
    return spelt[1].lower() not in wanted


def _refuse_outside(outside: str, *, entities_found: bool) -> None:
    """Refuses text around the entities that shows a torn list or a failed query."""
    if error := read_ncli_error(outside):
        raise unexpected(f"the query for VM tools entities failed: {excerpt(error)}")
    failed = [word for word in read_results(outside) if word != NO_ERROR]
    if failed:
        raise unexpected(f"the query for VM tools entities failed with {failed[0]}")
    lines = [line.strip() for line in outside.split("\n") if line.strip()]
    ends_torn = bool(lines) and _ENTITY.startswith(lines[-1])
    if ends_torn or _ENTITY in outside or outside.count("{") != outside.count("}"):
        raise unexpected("the list of VM tools entities is torn")
    if not entities_found and not all(results_of_line(line) for line in lines):
        raise unexpected(f"this is not a list of VM tools entities: {excerpt(outside)}")


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
    """None also for 0, which means that the date was never set, and for text that is not a date."""
    word = last_scalar(message, name) or ""
    seconds = int(word) if re.fullmatch(r"[0-9]{1,12}", word) else 0
    return seconds if 0 < seconds <= LAST_UNIX_SECOND else None

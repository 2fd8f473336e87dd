"""The VMs and the state of their NGT in a listing of ncli, in either form."""

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from app.ngt.tools.ncli_format import (
    EXCERPT_CHARACTERS,
    Json,
    find_json,
    read_json_records,
    read_text_records,
)
from app.ngt.tools.text import excerpt, printable, unexpected
from app.ngt.vocabulary import NgtState, PowerState, VmRecord, VmUuid, parse_vm_uuid

# The default name of a controller VM, for listings without that flag.
_CONTROLLER_VM_NAME = re.compile(r"NTNX-.+-CVM", re.IGNORECASE)
_POWER_STATES = {
    "on": PowerState.ON,
    "poweredon": PowerState.ON,
    "off": PowerState.OFF,
    "poweredoff": PowerState.OFF,
    "": PowerState.UNKNOWN,
    "unknown": PowerState.UNKNOWN,
}
_FLAGS = {"true": True, "false": False}


def read_vm_listing(text: str, begin: int = 0, end: int | None = None) -> tuple[VmRecord, ...]:
    """The VMs of `ncli vm list`, as JSON or as text; the text form mostly lacks power and NGT.

    `begin` and `end` are the place of the listing within the text. Records without a UUID and malformed addresses are
    omitted. GATEWAY_DOWN where ncli reports it; UNEXPECTED_OUTPUT for any other error, for a torn listing and for text
    that is not a listing.
    """
    if "\r" in text:
        text, begin, end = text[begin:end].replace("\r\n", "\n").replace("\r", "\n"), 0, None
    place = find_json(text, begin, len(text) if end is None else end)
    if place is None:
        records = [_record_of_text(raw) for raw in read_text_records(text[begin:end])]
    else:
        records = read_json_records(text, *place, _record_of_json)
    found = tuple(record for record in records if record is not None)
    if records and not found:
        shown = text[begin : begin + EXCERPT_CHARACTERS]
        raise unexpected(f"ncli listed records, but none with the UUID of a VM: {excerpt(shown)}")
    return found


def _record_of_json(raw: Json) -> VmRecord | None:
    vm_uuid = _find_uuid(raw.get("uuid"), raw.get("vmId"))
    if vm_uuid is None:
        return None
    name = _text(raw.get("vmName"))
    addresses = raw.get("ipAddresses")
    return VmRecord(
        vm_uuid=vm_uuid,
        name=name,
        power=_power(raw.get("powerState")),
        addresses=_addresses(addresses if isinstance(addresses, list) else []),
        controller_vm=_is_controller_vm(raw.get("controllerVm"), name),
        ngt=_ngt_of_json(raw.get("nutanixGuestTools")),
    )


def _record_of_text(raw: dict[str, str]) -> VmRecord | None:
    vm_uuid = _find_uuid(raw.get("Uuid"), raw.get("Id"))
    if "Name" not in raw:
        if "Id" in raw:
            raise unexpected("ncli's listing has a VM without a name: it ends within a record")
        return None
    if vm_uuid is None:
        return None
    name = _text(raw["Name"])
    return VmRecord(
        vm_uuid=vm_uuid,
        name=name,
        power=_power(raw.get("Power State")),
        addresses=_addresses(raw.get("VM IP Addresses", "").split(",")),
        controller_vm=_is_controller_vm(raw.get("Controller VM"), name),
        ngt=_ngt_of_text(raw),
    )


def _ngt_of_json(raw: object) -> NgtState | None:
    if not isinstance(raw, Mapping) or raw.keys().isdisjoint({"enabled", "toolsMounted", "communicationLinkActive"}):
        return None
    applications = raw.get("applications")
    if not isinstance(applications, Mapping):
        applications = {}
    return NgtState(
        enabled=_flag(raw.get("enabled")),
        iso_mounted=_flag(raw.get("toolsMounted")),
        vss_snapshot=_flag(applications.get("vss_snapshot")),
        file_level_restore=_flag(applications.get("file_level_restore")),
        link_active=_flag(raw.get("communicationLinkActive")),
    )


def _ngt_of_text(raw: Mapping[str, str]) -> NgtState | None:
    if "NGT Enabled" not in raw:
        return None
    return NgtState(
        enabled=_flag(raw["NGT Enabled"]),
        iso_mounted=_flag(raw.get("Tools ISO Mounted")),
        vss_snapshot=_flag(raw.get("Vss Snapshot")),
        file_level_restore=_flag(raw.get("File Level Restore")),
        link_active=_flag(raw.get("Communication Link Active")),
    )


def _find_uuid(uuid: object, composed_id: object) -> VmUuid | None:
    """The UUID, or else the part after `::` of `cluster::VM`, the id of older listings."""
    for word in (_text(uuid), _text(composed_id).rpartition("::")[2]):
        try:
            return parse_vm_uuid(word)
        except ValueError:
            continue
    return None


def _text(value: object) -> str:
    return printable(value) if isinstance(value, str) else ""


def _power(value: object) -> PowerState:
    return _POWER_STATES.get(_text(value).lower(), PowerState.OTHER)


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else _FLAGS.get(_text(value).lower())


def _is_controller_vm(value: object, name: str) -> bool:
    said = _flag(value)
    return _CONTROLLER_VM_NAME.fullmatch(name) is not None if said is None else said


def _addresses(words: list[Any]) -> tuple[str, ...]:
    return tuple(word.strip() for word in words if isinstance(word, str) and _is_address(word.strip()))


def _is_address(word: str) -> bool:
    try:
        ipaddress.ip_address(word)
    except ValueError:
        return False
    return True

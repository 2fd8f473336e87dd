"""The cursor of a page of VMs: its last VM's place in the order, and that order, with which alone it goes on."""

import json
import re
from datetime import datetime

from app.api.http.cursor import decode, encode, from_microseconds, to_microseconds
from app.api.http.parameters import CLUSTER_PATTERN, NOTE_PATTERN
from app.api.http.problems import InvalidRequest, invalid
from app.ngt.vocabulary import parse_vm_uuid
from app.store.inventory.search import LONGEST_PLACE, VmPlace, VmSort, place_of
from app.store.records.inventory import KnownVm


def write_vm_cursor(last: KnownVm, sort: VmSort) -> str:
    """The cursor of the page behind this VM."""
    place = place_of(last, sort)
    value = to_microseconds(place.value) if isinstance(place.value, datetime) else place.value
    return encode(json.dumps([sort, value, place.vm_uuid, place.cluster], ensure_ascii=False, separators=(",", ":")))


def read_vm_cursor(cursor: str, sort: VmSort) -> VmPlace:
    """Raises InvalidRequest for what `write_vm_cursor` did not write, and for a cursor of another order."""
    try:
        of_sort, value, vm_uuid, cluster = json.loads(decode(cursor))
        place = VmPlace(_value(VmSort(of_sort), value), parse_vm_uuid(vm_uuid), _matching(CLUSTER_PATTERN, cluster))
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise _no_cursor("This is not a cursor of a page of VMs.") from None
    if of_sort != sort:
        raise _no_cursor(f"This cursor goes on with the order {of_sort}, and the request asks for {sort}.")
    return place


def _value(sort: VmSort, written: object) -> datetime | str | None:
    if written is None:
        return None
    if sort is VmSort.NAME:
        return _matching(NOTE_PATTERN, written)
    if not isinstance(written, int):
        raise TypeError
    return from_microseconds(written)


def _matching(pattern: str, written: object) -> str:
    if not isinstance(written, str) or len(written) > LONGEST_PLACE or not re.fullmatch(pattern, written):
        raise TypeError
    # A database refuses text that cannot be encoded.
    written.encode()
    return written


def _no_cursor(detail: str) -> InvalidRequest:
    return invalid(detail, "query", "cursor")

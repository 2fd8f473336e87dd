"""Every reader takes any bytes that a host may print: it reads facts that can be stored, or refuses with a Fault."""

from collections.abc import Callable

import pytest
from hypothesis import given

from app.ngt.errors import Fault
from app.ngt.printable import LONGEST_FIELD, decode_output
from app.ngt.tools.certificate import parse_certificate
from app.ngt.tools.change_command import read_change
from app.ngt.tools.entities import find_entities
from app.ngt.tools.guest_config import parse_guest_config
from app.ngt.tools.ncli_format import is_gateway_down, read_ncli_error
from app.ngt.tools.ncli_vms import read_vm_listing
from app.ngt.tools.query_commands import read_listing, read_probe, read_query
from app.ngt.tools.result_vec import read_results
from app.ngt.tools.usage import read_usage
from tests.ngt.hostile import OBEYED, any_output

_READERS: dict[str, Callable[[str], object]] = {
    "certificate": parse_certificate,
    "change": lambda text: read_change(text, "marker"),
    "entities": lambda text: find_entities(text, None).entities,
    "guest config": parse_guest_config,
    "gateway": is_gateway_down,
    "listing": read_listing,
    "ncli error": read_ncli_error,
    "probe": read_probe,
    "query": read_query,
    "results": read_results,
    "usage": read_usage,
    "VMs": read_vm_listing,
}
# These return parts of the answer itself, which is printable already.
_PASS_ON = {"change", "query", "ncli error", "results", "probe", "usage"}


@pytest.mark.parametrize("reader", _READERS)
@pytest.mark.field("B1", "B3")
def test_any_output_is_read_or_refused(reader: str) -> None:
    @given(any_output)
    def take(output: bytes) -> None:
        try:
            facts = _READERS[reader](decode_output(output))
        except Fault as fault:
            facts = fault.message
        for text in _texts_of(facts):
            assert not OBEYED.search(text)
            assert reader in _PASS_ON or len(text) <= 4 * LONGEST_FIELD

    take()


def _texts_of(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for pair in value.items() for one in pair for text in _texts_of(one)]
    if isinstance(value, tuple | list | frozenset):
        return [text for one in value for text in _texts_of(one)]
    slots = getattr(type(value), "__slots__", ())
    return [text for name in slots for text in _texts_of(getattr(value, name))] if isinstance(slots, tuple) else []

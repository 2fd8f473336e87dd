"""Every recording is a case: `x.txt` is what a tool printed, `x.expected.json` what each reader must make of it."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.ngt.errors import Fault
from app.ngt.masking import mask
from app.ngt.tools.entities import find_entities
from app.ngt.tools.guest_config import parse_guest_config
from app.ngt.tools.ncli_format import is_gateway_down, read_ncli_error, read_ncli_records
from app.ngt.tools.ncli_vms import read_vm_listing
from app.ngt.tools.result_vec import read_results
from app.ngt.tools.usage import read_usage

RECORDINGS = Path(__file__).parents[2] / "recordings"
NAMES = sorted(path.name.removesuffix(".txt") for path in RECORDINGS.glob("*.txt"))
READERS: dict[str, Callable[[str], Any]] = {
    reader.__name__: reader
    for reader in (
        read_results,
        read_ncli_records,
        read_ncli_error,
        is_gateway_down,
        read_vm_listing,
        read_usage,
        parse_guest_config,
    )
}
READERS["find_entities"] = lambda text: tuple(find_entities(text, None).entities.values())


def recorded(name: str) -> str:
    return (RECORDINGS / f"{name}.txt").read_text(encoding="utf-8")


def expected(name: str) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((RECORDINGS / f"{name}.expected.json").read_text(encoding="utf-8"))
    return facts


def plain(value: object) -> object:
    """The value as JSON has it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, tuple):
        return [plain(member) for member in value]
    return sorted(value) if isinstance(value, frozenset) else value


def read(reader: str, text: str) -> object:
    try:
        facts: object = json.loads(json.dumps(plain(READERS[reader](text))))
    except Fault as fault:
        return {"fault": fault.code.value}
    return facts


@pytest.mark.parametrize(("name", "reader"), [(name, reader) for name in NAMES for reader in expected(name)])
def test_a_recording_reads_as_its_facts(name: str, reader: str) -> None:
    assert read(reader, recorded(name)) == expected(name)[reader]


@pytest.mark.parametrize(("name", "reader"), [(name, reader) for name in NAMES for reader in expected(name)])
def test_the_ends_of_lines_do_not_matter(name: str, reader: str) -> None:
    assert read(reader, recorded(name).replace("\n", "\r\n")) == expected(name)[reader]


@pytest.mark.parametrize("logs", ["create_vm_tools_entity.aos-5.18", "get_master_location.2025"])
@pytest.mark.parametrize(("name", "reader"), [(name, reader) for name in NAMES for reader in expected(name)])
def test_log_lines_between_the_lines_of_an_answer_do_not_matter(name: str, reader: str, logs: str) -> None:
    log_line = next(line for line in recorded(logs).split("\n") if "sessionPasswd" in line)
    mixed = "".join(f"{log_line}\n{line}\n" for line in recorded(name).rstrip("\n").split("\n"))
    assert read(reader, f"{mixed}{log_line}\n") == expected(name)[reader]


@pytest.mark.parametrize("name", NAMES)
def test_every_recording_can_be_read_by_every_reader_without_any_other_error_than_a_fault(name: str) -> None:
    for reader in READERS:
        read(reader, recorded(name))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_a_recording_is_masked_but_the_session_password(name: str) -> None:
    assert mask(recorded(name)) == recorded(name).replace("sessionPasswd=<null>", "sessionPasswd=***")


@pytest.mark.parametrize(
    ("name", "reader"), [("ncli_vm_ls_json.2020", "read_vm_listing"), ("vm_info_vec.lookalike", "find_entities")]
)
def test_a_recording_that_is_cut_anywhere_is_a_fault(name: str, reader: str) -> None:
    whole = recorded(name).rstrip("\n")
    cut = {length: read(reader, whole[:length]) for length in range(1, len(whole))}
    assert {length: facts for length, facts in cut.items() if facts != {"fault": "unexpected-output"}} == {}


def test_every_recording_has_its_facts_and_is_described() -> None:
    described = (RECORDINGS / "README.md").read_text(encoding="utf-8")
    assert [name for name in NAMES if not expected(name) or f"{name}.txt" not in described] == []

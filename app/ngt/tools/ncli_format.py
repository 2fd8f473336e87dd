"""The two forms of ncli's output, record by record: text, and the JSON that newer versions print with `-json=true`.

Torn JSON, a torn last record and any reported error are faults, so that half an answer never looks like a whole one. An
answer may be one line of many megabytes, so its records are read in turn and nothing of it is copied.
"""

import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

from app.ngt.errors import Fault, FaultCode
from app.ngt.tools.text import answer_lines, excerpt, unexpected

_GATEWAY_DOWN = "could not connect to nutanix gateway"
_NOTHING_FOUND = "[None]"
# The first blank and colon separate key and value, which may hold colons. The blank may be U+00A0 in copied text.
_SEPARATOR = re.compile(r"\s:")
_ERROR_LINE = re.compile(r"\s*+Error\s*+:\s*+(?P<message>.*\S)\s*+")
# These find the error without a copy of the text in lower case.
_GATEWAY_WORDS = ("ateway", "ATEWAY")
_BLANKS = re.compile(r"[\s\ufeff]*+")
_JSON_BLANKS = re.compile(r"[ \t\n\r]*+")
_DECODER = json.JSONDecoder()
_ABSENT = object()
EXCERPT_CHARACTERS = 4000
"""The length of the part of a long answer that the excerpt in a fault is taken from."""

Json = dict[str, Any]
_Record = TypeVar("_Record")


def read_ncli_records(text: str) -> tuple[dict[str, str], ...]:
    """The records of ncli's text form, without the blanks around keys and values; `[None]` gives none.

    Blank lines separate records. A repeated key begins a new record too, so that two records never become one.
    """
    records: list[dict[str, str]] = [{}]
    for line in answer_lines(text):
        if not line.strip():
            records.append({})
            continue
        separator = _SEPARATOR.search(line)
        key = line[: separator.start()].strip() if separator else ""
        if not separator or not key:
            continue
        if key in records[-1]:
            records.append({})
        records[-1][key] = line[separator.end() :].strip()
    return tuple(record for record in records if record)


def read_ncli_error(text: str) -> str | None:
    """The text after `Error:`, or the message of a JSON answer whose status is not 0; None where there is neither."""
    lines = answer_lines(text)
    for line in lines:
        if error := _ERROR_LINE.fullmatch(line):
            return error["message"]
    last = next((line for line in reversed(lines) if line.lstrip().startswith("{")), "")
    try:
        answer = json.loads(last)
    except (ValueError, RecursionError):
        return None
    if not isinstance(answer, dict) or "data" not in answer or type(answer.get("status")) is not int:
        return None
    message = answer["data"] if isinstance(answer["data"], str) else json.dumps(answer["data"])
    return None if answer["status"] == 0 else message


def is_gateway_down(text: str) -> bool:
    """Ncli could not connect to the Nutanix gateway of its CVM; another CVM may answer."""
    # A fast search comes first, because most answers are long and have no error.
    return _has_gateway_words(text) and _GATEWAY_DOWN in (read_ncli_error(text) or "").lower()


def _has_gateway_words(text: str) -> bool:
    for word in _GATEWAY_WORDS:
        position = text.find(word)
        while position >= 0:
            if _GATEWAY_DOWN in text[max(0, position - len(_GATEWAY_DOWN)) : position + len(word)].lower():
                return True
            position = text.find(word, position + 1)
    return False


def find_json(text: str, begin: int, end: int) -> tuple[int, int] | None:
    """Begin and end of the last line that begins with a JSON object; lines end with LF."""
    while True:
        line_begin = text.rfind("\n", begin, end) + 1 or begin
        blanks = _BLANKS.match(text, line_begin, end)
        assert blanks is not None
        if text.startswith("{", blanks.end(), end):
            return blanks.end(), end
        if line_begin == begin:
            return None
        end = line_begin - 1


def read_json_records(text: str, begin: int, end: int, read: Callable[[Json], _Record]) -> list[_Record]:
    """The records of the JSON object at that place, each passed to `read` and not kept."""
    shown = excerpt(text[begin : min(end, begin + EXCERPT_CHARACTERS)])
    try:
        status, data, position = _read_json_answer(text, begin, read)
    except (ValueError, RecursionError):
        raise unexpected(f"ncli's JSON answer is torn or is not JSON: {shown}") from None
    if position > end or text[position:end].strip():
        raise unexpected(f"ncli's JSON answer is torn or is not JSON: {shown}")
    if type(status) is not int:
        raise unexpected(f"ncli's JSON answer lacks `data` or `status`: {shown}")
    if status != 0:
        raise _refusal(data if isinstance(data, str) else f"status {status}, and no message")
    if not isinstance(data, list):
        raise unexpected("ncli's JSON answer is not a list of records")
    return data


def _read_json_answer(text: str, begin: int, read: Callable[[Json], _Record]) -> tuple[object, object, int]:
    """`status`, `data` with its records read, and the place after the object. ValueError for a torn object."""
    members: dict[str, object] = {"data": _ABSENT}
    position = begin
    while position == begin or text[position : position + 1] == ",":
        position = _after_blanks(text, position + 1)
        name, position = _decoded(text, position)
        position = _after_blanks(text, position)
        if not isinstance(name, str) or text[position : position + 1] != ":":
            raise ValueError(name)
        position = _after_blanks(text, position + 1)
        if name == "data" and text[position : position + 1] == "[":
            members[name], position = _read_list(text, position, read)
        else:
            value, position = _decoded(text, position)
            members[name] = [read(value)] if name == "data" and isinstance(value, dict) else value
        position = _after_blanks(text, position)
    if text[position : position + 1] != "}":
        raise ValueError(position)
    return members.get("status") if members["data"] is not _ABSENT else None, members["data"], position + 1


def _read_list(text: str, begin: int, read: Callable[[Json], _Record]) -> tuple[list[_Record], int]:
    records: list[_Record] = []
    position = _after_blanks(text, begin + 1)
    if text[position : position + 1] == "]":
        return records, position + 1
    while True:
        raw, position = _decoded(text, position)
        if not isinstance(raw, dict):
            raise unexpected("ncli's JSON answer is not a list of records")
        records.append(read(raw))
        position = _after_blanks(text, position)
        match text[position : position + 1]:
            case ",":
                position = _after_blanks(text, position + 1)
            case "]":
                return records, position + 1
            case _:
                raise ValueError(position)


def _decoded(text: str, position: int) -> tuple[object, int]:
    value, after = _DECODER.raw_decode(text, position)
    return value, after


def _after_blanks(text: str, position: int) -> int:
    blanks = _JSON_BLANKS.match(text, position)
    assert blanks is not None
    return blanks.end()


def read_text_records(text: str) -> tuple[dict[str, str], ...]:
    if error := read_ncli_error(text):
        raise _refusal(error)
    records = read_ncli_records(text)
    lines = [line for line in answer_lines(text) if line.strip()]
    if not records and not any(line.strip() == _NOTHING_FOUND for line in lines):
        raise unexpected(f"ncli's answer is neither JSON nor a list of records: {excerpt(text)}")
    # A torn listing ends within a key, or its last record lacks keys that all other records have.
    torn_line = lines[-1][:1].isspace() and not _SEPARATOR.search(lines[-1]) and lines[-1].strip() != _NOTHING_FOUND
    shapes = [tuple(record) for record in records if "Id" in record]
    shorter = len(shapes) > 1 and len(set(shapes[:-1])) == 1 and len(shapes[-1]) < len(shapes[0])
    if torn_line or (shorter and shapes[0][: len(shapes[-1])] == shapes[-1]):
        raise unexpected("ncli's listing ends within a record")
    return records


def _refusal(message: str) -> Fault:
    code = FaultCode.GATEWAY_DOWN if _GATEWAY_DOWN in message.lower() else FaultCode.UNEXPECTED_OUTPUT
    return Fault(code, f"ncli says: {excerpt(message)}")

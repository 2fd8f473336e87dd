"""Protobuf text format to nested dictionaries, without a schema: every field is a list, every scalar its text.

The parser takes linear time, and refuses text that it does not wholly understand.
"""

import re
from typing import TypeAlias

Message: TypeAlias = "dict[str, list[str | Message]]"

MAX_DEPTH = 100
"""The depth of nested messages, as in protobuf's own readers."""

_CLOSING = {"{": "}", "<": ">"}
_STRING = r"""(?:"(?:[^"\\\n]|\\.)*+"|'(?:[^'\\\n]|\\.)*+')"""
# One field or one closing bracket, with the blanks, separators and comments before it; possessive, so it is linear.
_STEP = re.compile(
    rf"""
    (?:[\s;,]++|\#[^\n]*+)*+
    (?: (?P<close>[}}>])
      | (?P<name>[A-Za-z0-9_.]++|\[[A-Za-z0-9_./]++\])\s*+
        (?: :?\s*+(?P<open>[{{<])
          | :\s*+(?: (?P<strings>(?:{_STRING}\s*+)++)
                   | (?P<scalar>[A-Za-z0-9_.+-]++)
                   | \[(?P<list>(?:[^\[\]{{}}<>"'\#]|{_STRING})*+)\] ) ) )
    """,
    re.VERBOSE,
)
# A whole message without reading it: what `_STEP` takes, with curly brackets and up to this many messages inside.
_PLAIN_DEPTH = 3
_PLAIN_SEPARATORS = r"(?:[\s;,]++|\#[^\n]*+)*+"
_PLAIN_NAME = r"(?:[A-Za-z0-9_.]++|\[[A-Za-z0-9_./]++\])\s*+"
_PLAIN_VALUE = rf""":\s*+(?:(?:{_STRING}\s*+)++|[A-Za-z0-9_.+-]++|\[(?:[^\[\]{{}}<>"'\#]|{_STRING})*+\])"""


def _plain_message(depth: int) -> str:
    inner = rf"|:?\s*+\{{{_plain_message(depth - 1)}" if depth else ""
    return rf"(?:{_PLAIN_SEPARATORS}{_PLAIN_NAME}(?:{_PLAIN_VALUE}{inner}))*+{_PLAIN_SEPARATORS}\}}"


_PLAIN_MESSAGE = re.compile(_plain_message(_PLAIN_DEPTH))
_LIST_MEMBER = re.compile(rf"(?P<strings>(?:{_STRING}\s*+)++)|(?P<scalar>[A-Za-z0-9_.+-]++)")
_ONE_STRING = re.compile(_STRING)
_ESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_NAMED_ESCAPES = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}
_LAST_CODE_POINT = 0x10FFFF


def read_message(text: str, after_bracket: int) -> tuple[Message, int]:
    """Reads the message whose opening bracket ends at `after_bracket`; returns it and the place after its end.

    ValueError for text that ends early or is not protobuf text, with the line number (from 1) in its message.
    """
    message: Message = {}
    stack = [(message, _CLOSING[text[after_bracket - 1]])]
    position = after_bracket
    while stack:
        step = _STEP.match(text, position)
        if step is None:
            raise ValueError(f"line {text.count(chr(10), 0, position) + 1} is torn or not protobuf text")
        position = step.end()
        inner, closing = stack[-1]
        if step["close"]:
            if step["close"] != closing:
                raise ValueError(f"line {text.count(chr(10), 0, position) + 1} closes the wrong bracket")
            stack.pop()
            continue
        members = inner.setdefault(step["name"], [])
        if step["scalar"] is not None:
            members.append(step["scalar"])
        elif step["strings"] is not None:
            members.append(_unquote(step["strings"]))
        elif step["list"] is not None:
            members.extend(_list_members(step["list"]))
        else:
            if len(stack) == MAX_DEPTH:
                raise ValueError(f"messages are nested deeper than {MAX_DEPTH}")
            child: Message = {}
            members.append(child)
            stack.append((child, _CLOSING[step["open"]]))
    return message, position


def skip_message(text: str, after_bracket: int) -> int | None:
    """The place after the closing bracket of that message, without its values: many times faster than `read_message`.

    None where only `read_message` can find it.
    """
    plain = _PLAIN_MESSAGE.match(text, after_bracket) if text[after_bracket - 1] == "{" else None
    return None if plain is None else plain.end()


def last_scalar(message: Message, name: str) -> str | None:
    """The last value of a field that is not repeated counts, as in protobuf's own readers."""
    scalars = [value for value in message.get(name, ()) if isinstance(value, str)]
    return scalars[-1] if scalars else None


def merged_message(message: Message, name: str) -> Message:
    """Messages of one name are merged, as in protobuf's own readers; an absent message is empty."""
    merged: Message = {}
    for value in message.get(name, ()):
        if not isinstance(value, str):
            for key, members in value.items():
                merged.setdefault(key, []).extend(members)
    return merged


def _list_members(inside: str) -> list[str]:
    return [
        _unquote(member["strings"]) if member["strings"] else member["scalar"]
        for member in _LIST_MEMBER.finditer(inside)
    ]


def _unquote(strings: str) -> str:
    only = _ONE_STRING.fullmatch(strings.rstrip())
    if only and "\\" not in strings:
        return only[0][1:-1]
    # Escapes are bytes of UTF-8, so one character can take several escapes.
    raw = b"".join(
        _ESCAPE.sub(_escaped_bytes, one[0][1:-1].encode(errors="replace")) for one in _ONE_STRING.finditer(strings)
    )
    return raw.decode(errors="replace")


def _escaped_bytes(escape: re.Match[bytes]) -> bytes:
    octal, hexadecimal, short, long, other = escape.groups()
    if octal:
        return bytes([int(octal, 8) & 0xFF])
    if hexadecimal:
        return bytes([int(hexadecimal, 16)])
    if code_text := short or long:
        code = int(code_text, 16)
        return chr(code).encode(errors="replace") if code <= _LAST_CODE_POINT else b"?"
    return _NAMED_ESCAPES.get(other, other)

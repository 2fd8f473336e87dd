"""Text from outside in a form that can be stored and shown: nothing in it is obeyed by a terminal, nothing is endless.

`app.ssh` passes every text of a host through here. The readers do so again with what they decode, because an escape of
JSON or protobuf text hides any character.
"""

import re

from app.ngt.sentences import shorten

LONGEST_FIELD = 500
"""The most characters of one fact. PostgreSQL's indexes take 2,700 bytes, and a character has up to four."""

LONGEST_MESSAGE = 4000
"""The most characters of a message that quotes a host."""

_REPLACEMENT = "\ufffd"
# C0, DEL and C1 controls, the marks that turn the direction of a text, and lone surrogates.
_CONTROLS = "\x00-\x1f\x7f-\x9f"
_OBEYED = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_NOT_IN_FIELD = re.compile(f"[{_CONTROLS}{_OBEYED}]")
_NOT_IN_LINES = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{_OBEYED}]")
_LINE_ENDS = re.compile("\r\n?")
# An answer of many megabytes mostly has only these bytes, and none of the pairs that begin what must be replaced.
_KEPT = bytes((0x09, 0x0A, *range(0x20, 0x7F), *range(0x80, 0x100)))
_SUSPICIOUS = (b"\xc2", b"\xd8\x9c", b"\xe2\x80", b"\xe2\x81")
_SAMPLE_BYTES = 4096


def printable(text: str, longest: int = LONGEST_FIELD) -> str:
    """One line without outer blanks; every other character becomes U+FFFD."""
    # The cut comes first, so that the time does not grow with what is cut off.
    return _NOT_IN_FIELD.sub(_REPLACEMENT, shorten(text[: 4 * longest].strip(), longest))


def printable_lines(text: str) -> str:
    """The text with tabs, and with line ends as LF; every other character becomes U+FFFD."""
    return _NOT_IN_LINES.sub(_REPLACEMENT, _LINE_ENDS.sub("\n", text))


def decode_output(output: bytes | bytearray) -> str:
    """The text that a host printed, in UTF-8 or as Windows writes it, in UTF-16; any bytes have a text."""
    encoding = _encoding_of(output)
    text = output.decode(encoding, "replace")
    if encoding == "utf-8" and not output.translate(None, _KEPT) and not any(pair in output for pair in _SUSPICIOUS):
        return text
    return printable_lines(text)


def _encoding_of(output: bytes | bytearray) -> str:
    if output.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    # Without its mark, UTF-16 shows by the NUL in every other byte of Latin text.
    sample = output[:_SAMPLE_BYTES]
    first, second = sample[::2], sample[1::2]
    for encoding, nul, letters in (("utf-16-le", second, first), ("utf-16-be", first, second)):
        if nul and 2 * nul.count(0) > len(nul) and not letters.count(0):
            return encoding
    return "utf-8"

"""Text files as editors of any system save them: with a mark at the begin, in UTF-16, with CR at the ends of lines."""

import codecs
from pathlib import Path

_ENCODINGS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


def read_text_file(path: Path) -> str:
    """The text of the file, with LF at the ends of lines. Raises OSError, and ValueError for what is not text."""
    return decode_text(path.read_bytes())


def decode_text(content: bytes) -> str:
    """As `read_text_file`. Raises ValueError, whose message says what is wrong and shows nothing of the content."""
    mark = next((mark for mark in _ENCODINGS if content.startswith(mark)), b"")
    encoding = _ENCODINGS.get(mark, "utf-8")
    try:
        text = content.removeprefix(mark).decode(encoding)
    except UnicodeDecodeError as wrong:
        line = content.count(b"\n", 0, wrong.start) + 1
        raise ValueError(f"line {line} is not in {encoding.upper()}: save the file in UTF-8") from None
    if "\0" in text:
        raise ValueError("it holds NUL characters, as a file in UTF-16 without a mark does: save it in UTF-8")
    return text.replace("\r\n", "\n")

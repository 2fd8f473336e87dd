"""The text of an answer without noise (log lines of both generations, complaints of the login), and its fault."""

import re

from app.ngt.errors import Fault, FaultCode
from app.ngt.masking import mask

_NOISE = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+Z?:\d+\(0x[0-9a-fA-F]+\):ZOO_"  # The ZooKeeper client's own form, AOS 5.18.
    r"|[DIWEF](?:\d{4})?\d{4} \d\d:\d\d:\d\d\.\d+Z? "  # glog's form, seen in 2025.
    r"|.*: readonly variable$"  # /etc/profile prints this about TMOUT on every login that is not interactive.
)
# Every line of noise begins with one of these or has this end; most lines of a long answer do not.
_NOISE_BEGINS = frozenset("0123456789DIWEF")
_NOISE_END = ": readonly variable"
# Control characters and lone surrogates: neither a terminal nor PostgreSQL takes them.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def answer_lines(text: str) -> list[str]:
    """All lines except noise, without their ends (LF, CR LF or CR)."""
    # Not splitlines: it also splits at characters that the name of a VM may hold.
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [
        line for line in lines if not ((line[:1] in _NOISE_BEGINS or line.endswith(_NOISE_END)) and _NOISE.match(line))
    ]


def printable(text: str) -> str:
    """The text in a form that can be stored and shown: other characters become U+FFFD, and outer blanks are removed."""
    return _UNPRINTABLE.sub("\ufffd", text.strip())


def unexpected(message: str) -> Fault:
    return Fault(FaultCode.UNEXPECTED_OUTPUT, message)


def excerpt(text: str, max_characters: int = 200) -> str:
    """The beginning of an answer on one line, masked, for the message of a fault."""
    begin = " ".join(mask("\n".join(answer_lines(text[: 20 * max_characters]))).split())
    return printable(begin[:max_characters]) or "(nothing)"

"""What all answers of a CVM's tools have in common: their lines without the noise, and the fault of not understanding.

Noise is what is known to be none of the answer: log lines of both generations, and a login's complaints.
"""

import re

from app.ngt.errors import Fault, FaultCode
from app.ngt.masking import mask

_NOISE = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+Z?:\d+\(0x[0-9a-fA-F]+\):ZOO_"  # The ZooKeeper client's own form, AOS 5.18.
    r"|[DIWEF](?:\d{4})?\d{4} \d\d:\d\d:\d\d\.\d+Z? "  # glog's form, seen in 2025.
    r"|.*: readonly variable$"  # What /etc/profile says of TMOUT on every login that is not interactive.
)
# Every line of noise begins with one of these or has this end; most lines of a long answer do not.
_NOISE_BEGINS = frozenset("0123456789DIWEF")
_NOISE_END = ": readonly variable"
# Control characters and lone surrogates: neither a terminal nor PostgreSQL takes them.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def answer_lines(text: str) -> list[str]:
    """All lines but the noise, without their ends (LF, CR LF or CR)."""
    # Not splitlines: a VM's name may hold characters that it takes for the end of a line.
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [
        line for line in lines if not ((line[:1] in _NOISE_BEGINS or line.endswith(_NOISE_END)) and _NOISE.match(line))
    ]


def printable(text: str) -> str:
    """The text as it can be stored and shown: what cannot be is U+FFFD, and blanks around it are gone."""
    return _UNPRINTABLE.sub("\ufffd", text.strip())


def unexpected(message: str) -> Fault:
    """The UNEXPECTED_OUTPUT to raise."""
    return Fault(FaultCode.UNEXPECTED_OUTPUT, message)


def excerpt(text: str, max_characters: int = 200) -> str:
    """The beginning of an answer on one line, masked, for the message of a fault."""
    begin = " ".join(mask("\n".join(answer_lines(text[: 20 * max_characters]))).split())
    return printable(begin[:max_characters]) or "(nothing)"

"""The results of the CLI's tools: the members of `result_vec` that an answer prints."""

import re
from collections.abc import Iterable

from app.ngt.tools.text import answer_lines
from app.ngt.vocabulary import NO_ERROR, ResultWord

_RESULT = re.compile(
    r"""\s*+result_vec\s*+:\s*+
        (?: (?P<word>[A-Za-z_][A-Za-z0-9_]*+|-?[0-9]++) | \[(?P<words>[A-Za-z0-9_\s,-]*+)\] )
        (?:[\s,;]++|\Z)""",
    re.VERBOSE,
)


def read_results(text: str) -> tuple[ResultWord, ...]:
    """All members of `result_vec`, in order, from the lines that hold nothing else.

    A word within a log line does not count. Unknown members and bare numbers are returned too.
    """
    return tuple(word for line in answer_lines(text) for word in results_of_line(line))


def is_success(results: Iterable[ResultWord], expected: int = 1) -> bool:
    """There are as many results as VMs (`expected`, at least 1) and all are `kNoError`."""
    words = tuple(results)
    return len(words) == expected >= 1 and all(word == NO_ERROR for word in words)


def results_of_line(line: str) -> list[ResultWord]:
    """The members on a line that begins with `result_vec` and holds nothing else; none for any other line."""
    found: list[str] = []
    position = 0
    while result := _RESULT.match(line, position):
        found += [result["word"]] if result["word"] else re.findall(r"[^\s,]+", result["words"])
        position = result.end()
    return [ResultWord(word) for word in found] if position == len(line) else []

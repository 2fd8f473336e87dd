"""The cases from the field, and the tests that hold them: `python -m tests.field.cases` writes `README.md`."""

import ast
from collections import defaultdict
from pathlib import Path

_TESTS = Path(__file__).resolve().parents[1]
README = Path(__file__).with_name("README.md")

CASES = {
    "A1": "a clock is set while a change is at work",
    "A2": "a clock is set, and the service dies",
    "A3": "the VM is destroyed while its renewal waits",
    "A4": "the VM is powered off after the last listing",
    "A5": "the guest shows a certificate that the cluster did not issue",
    "A6": "the query's text has the UUID one level deeper",
    "A7": "the ISO counts as mounted since before, and the line is cut during the mount",
    "A8": "file-level restore was on, and cannot be put back",
    "B1": "a guest prints NUL or UTF-16 where its certificate should be",
    "B2": "an answer cannot be stored",
    "B3": "a guest prints terminal escapes and bidi marks",
    "B4": "the account's password on a CVM has expired",
    "B5": "a guest is booting when its agent is to be restarted",
    "B6": "Windows calls the service otherwise; the restart needs what is not there",
    "B7": "a tool ends with a traceback each time",
    "B8": "all CVMs are down after a lost answer",
    "B9": "a shell prints at its end",
    "B10": "a POSIX locale prints question marks for names",
    "C1": "a database URL with %, / or @ in its password",
    "C2": "a database URL with options",
    "C3": "PgBouncer",
    "C4": "a broken line in known_hosts",
    "C5": "files that Windows saved with a byte order mark",
    "C6": "a container with a number for a user",
    "C7": "a key file that is empty, public, of PuTTY or encrypted",
    "C8": "connections of `hosts scan` without a login",
    "C9": "systemd drops a URL with %, and the embedded database starts",
    "C10": "`serve` as root",
    "C11": "`keys create` as root makes a system user",
    "D1": "null and an empty text say nothing",
    "D2": "a body in ISO-8859-1",
    "D3": "a reverse proxy with a path prefix",
    "D4": "a foreign X-API-Key beside a good token",
    "D5": "a body that is null",
    "D6": "a request that joins keeps its change number",
    "D7": "CSV in Excel",
    "D8": "a certificate as Windows tools send it",
    "D9": "a VM's UUID as other tools write it",
    "D10": "who may read the metrics",
    "D11": "`?wait=` on retry and agent-restarted",
    "D12": "agent-restarted too early",
    "D13": "cancelled after the mount",
    "D14": "stranded is told only where an entity is missing",
    "E1": "pipelined upgrades",
    "E2": "connections that never end",
    "E3": "readers that do not read",
    "E4": "the embedded postmaster is killed",
    "E5": "a stale lock of the embedded database's socket",
    "E6": "a full disk",
    "E7": "a database of a newer version",
    "E8": "backup and restore",
    "E9": "queries that run often use an index",
    "E10": "the suite on a slow machine",
    "E11": "one broken member of many",
    "F": "small things that a person meets",
    "G1": "an issuer that shows no usable key",
    "G2": "errors in the type that the document promises",
    "G3": "OpenMetrics",
    "G4": "caches",
    "G5": "the answer to a refused body arrives",
    "G6": "what the SSH client offers",
    "G7": "HEAD of the event stream",
    "G8": "a signed token whose payload is not JSON",
    "G9": "headers of the pages",
    "G10": "indexes in migrations",
}

_HEAD = """\
# Cases from the field

Each test of a case has the marker `field("…")`; `python -m tests.field.cases` writes this page from them.

"""


def held_by() -> dict[str, list[str]]:
    """The tests of each case, as `path::name`."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(_TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for case in _cases_of(node):
                    found[case].append(f"{path.relative_to(_TESTS)}::{node.name}")
    return found


def _cases_of(test: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    marks = (mark for mark in test.decorator_list if isinstance(mark, ast.Call))
    named = (mark for mark in marks if ast.unparse(mark.func) == "pytest.mark.field")
    return [ast.literal_eval(case) for mark in named for case in mark.args]


def page() -> str:
    """The text of `README.md`."""
    found = held_by()
    rows = [
        f"| {case} | {what} | {'<br>'.join(f'`{test}`' for test in sorted(found[case])) or 'no test yet'} |"
        for case, what in CASES.items()
    ]
    return _HEAD + "\n".join(["| case | what happens | held by |", "|---|---|---|", *rows, ""])


if __name__ == "__main__":
    README.write_text(page())

"""The commands that change nothing on a CVM (probe, query, listing), each with the reader of its answer.

They may be repeated at will. A cluster's configuration replaces the command line of one tool, never its frame.
"""

import re
from dataclasses import dataclass
from string import Template

from app.ngt.tools.command_lines import Tools
from app.ngt.tools.usage import read_usage

KILLED = 137
"""The exit status of a tool that `timeout` killed at its time limit."""


@dataclass(frozen=True, slots=True)
class QueryCommand:
    """A shell text that changes nothing; `timeout_s` is for the whole exchange."""

    name: str
    text: str
    timeout_s: float


# A restricted shell cannot redirect, so it could not run the other commands either.
_PROBE = Template("""\
exec </dev/null
: >/dev/null || exit 1
. $profile >/dev/null 2>&1
printf '%s\\n' 'ngtr-probe begin'
for tool in $programs; do command -v "$$tool" >/dev/null 2>&1 && printf 'ngtr-probe found %s\\n' "$$tool"; done
printf '%s\\n' 'ngtr-probe usage'
timeout -s KILL 30 $cli 2>&1
printf '\\nngtr-probe end\\n'
""")

_QUERY = Template("""\
exec </dev/null
. $profile >/dev/null 2>&1
timeout -s KILL $limit $query
printf '\\nngtr-look end %s %s\\n' "$$?" "$$(date +%s)"
""")

_LISTING = Template("""\
exec </dev/null
. $profile >/dev/null 2>&1
timeout -s KILL $limit $list_vms || { printf '\\nngtr-listing text\\n'; timeout -s KILL $limit $list_vms_text; }
printf '\\nngtr-listing end %s\\n' "$$?"
""")

_NOT_BLANK = re.compile(r"\S")
_LISTING_TEXT = "\nngtr-listing text\n"
_LISTING_END = "\nngtr-listing end "


def probe(tools: Tools) -> QueryCommand:
    """Finds out if this is a real shell, if the tools are there, and which sub-commands the CLI has."""
    text = _PROBE.substitute(profile=tools.profile, programs=" ".join(tools.programs()), cli=tools.delete.split()[0])
    return QueryCommand("probe", text, 60.0)


@dataclass(frozen=True, slots=True)
class ProbeFacts:
    """The shell, the tools and the sub-commands of the CLI that a probe found."""

    shell_ok: bool
    tools: frozenset[str]
    sub_commands: frozenset[str]


def read_probe(stdout: str) -> ProbeFacts:
    """A menu or a restricted shell does not print the frame of the probe, so `shell_ok` is False."""
    lines = [line.strip() for line in stdout.splitlines()]
    if "ngtr-probe begin" not in lines or "ngtr-probe end" not in lines:
        return ProbeFacts(shell_ok=False, tools=frozenset(), sub_commands=frozenset())
    found = frozenset(line.split()[-1] for line in lines if line.startswith("ngtr-probe found "))
    usage = stdout.partition("ngtr-probe usage")[2].partition("ngtr-probe end")[0]
    return ProbeFacts(True, found, read_usage(usage))


def query_entities(tools: Tools, limit_s: int) -> QueryCommand:
    """Lists all VM tools entities of the cluster and reads the CVM's clock. `tools.query` must be known."""
    if tools.query is None:
        message = "the CLI's query is not known"
        raise ValueError(message)
    text = _QUERY.substitute(profile=tools.profile, query=tools.query, limit=limit_s)
    return QueryCommand("query", text, limit_s + 15.0)


def list_vms(tools: Tools, limit_s: int) -> QueryCommand:
    """Lists all VMs of the cluster: as JSON, or as text where this ncli does not know the switch."""
    text = _LISTING.substitute(
        profile=tools.profile, list_vms=tools.list_vms, list_vms_text=tools.list_vms_text, limit=limit_s
    )
    return QueryCommand("listing", text, 2 * limit_s + 15.0)


@dataclass(frozen=True, slots=True)
class ListingAnswer:
    """The place of the listing within the answer, so that its megabytes are not copied.

    `exit_status` is that of the last tool; None when the answer is torn.
    """

    begin: int
    end: int
    exit_status: int | None
    is_blank: bool


def read_listing(stdout: str) -> ListingAnswer:
    end = stdout.rfind(_LISTING_END)
    status = stdout[end + len(_LISTING_END) :].strip() if end >= 0 else ""
    end = end if end >= 0 else len(stdout)
    text_form = stdout.find(_LISTING_TEXT, 0, end)
    begin = text_form + len(_LISTING_TEXT) if text_form >= 0 else 0
    end = max(begin, end)
    is_blank = _NOT_BLANK.search(stdout, begin, end) is None
    return ListingAnswer(begin, end, int(status) if status.isdigit() else None, is_blank)


@dataclass(frozen=True, slots=True)
class QueryAnswer:
    """A query's own output, its exit status and the CVM's clock; `clock_s` is None when the answer is torn."""

    body: str
    exit_status: int | None
    clock_s: int | None


def read_query(stdout: str) -> QueryAnswer:
    body, found, end = stdout.rpartition("\nngtr-look end ")
    words = end.split()
    if not found or len(words) != 2 or not all(word.isdigit() for word in words):  # noqa: PLR2004 - status and clock
        return QueryAnswer(stdout, None, None)
    return QueryAnswer(body, int(words[0]), int(words[1]))

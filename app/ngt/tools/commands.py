"""Every text that is sent to a CVM, as a frozen value: what it says, how long it may take, whether it changes anything.

A look may be repeated at will. A change is one bounded, immune, self-contained shell text: once it was sent, nothing
that happens to this service or to the connection stops it half way, and it does not begin after its time.
An operator's override replaces the command line of one tool, never the frame around it.
"""

import re
from dataclasses import dataclass, replace
from string import Template

from app.ngt.tools.usage import read_usage
from app.ngt.vocabulary import VmUuid

CLI = "nutanix_guest_tools_cli"
KILLED = 137
"""The exit status of a tool that `timeout` has killed at its time limit."""

# The sub-command that lists the VM tools entities is documented nowhere: the CLI's usage says which of them it has.
_QUERY_SUB_COMMANDS = (
    "query_vm_tools_entities",
    "list_vm_tools_entities",
    "query_vm_tools_entity",
    "list_vm_tools_entity",
    "query_vm_info",
    "list_vm_info",
    "query_vms",
    "list_vms",
)


@dataclass(frozen=True, slots=True)
class Tools:
    """The command line of each tool; `{vm_uuid}` and `{application}` are the only placeholders.

    The defaults are those of AOS 5.18 (KB-8120) and, for `refresh`, of newer clusters. `query` is found by the CLI's
    usage text where it is not given.
    """

    profile: str = "/etc/profile"
    delete: str = f"{CLI} delete_vm_tools_entity {{vm_uuid}}"
    create: str = f"{CLI} create_vm_tools_entity {{vm_uuid}}"
    mount: str = f"{CLI} mount_guest_tools {{vm_uuid}}"
    refresh: str = f"{CLI} refresh_vm_tools_entity vm_uuids={{vm_uuid}}"
    query: str | None = None
    list_vms: str = "ncli vm ls -json=true"
    list_vms_text: str = "ncli vm list"
    enable_application: str = "ncli ngt enable-applications application-names={application} vm_id={vm_uuid}"
    disable_application: str = "ncli ngt disable-applications application-names={application} vm_id={vm_uuid}"

    def with_query_of(self, sub_commands: frozenset[str]) -> "Tools":
        """These tools with the query that a CLI with these sub-commands offers, unless one is given."""
        if self.query is not None:
            return self
        offered = next((name for name in _QUERY_SUB_COMMANDS if name in sub_commands), None)
        return self if offered is None else replace(self, query=f"{CLI} {offered}")

    def programs(self) -> tuple[str, ...]:
        """The programs that must be found on a CVM, each once."""
        lines = (self.delete, self.create, self.mount, self.list_vms, self.query or self.delete)
        return tuple(dict.fromkeys(line.split()[0] for line in lines))


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One tool in a changing text. `needs_previous`: sent only after the tool before it said `kNoError`."""

    name: str
    line: str
    limit_s: int
    needs_previous: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """A text that changes nothing; `timeout_s` is for the whole exchange."""

    name: str
    text: str
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Change:
    """A changing text. `limit_s`: the longest that its tools can be at work once it has begun."""

    name: str
    text: str
    limit_s: int

    @property
    def timeout_s(self) -> float:
        """How long to wait for its answer: its tools, and the shell around them."""
        return self.limit_s + 15.0


# A restricted shell may not redirect, and with that it could run no other text of ours.
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

# Nothing is printed before the last tool has ended: a printf into a full pipe would hold a VM after its delete.
_CHANGE_HEAD = Template("""\
trap '' HUP INT TERM PIPE; exec </dev/null
. $profile >/dev/null 2>&1
if [ "$$(date +%s)" -gt $not_after ]; then printf '\\n%s\\n' '$marker late' '$marker end'; exit 0; fi
answers=
go() {
  if [ "$$(date +%s)" -gt "$$4" ]; then answers="$${answers}$marker skipped $$1
"; return 1; fi
  out=$$(timeout -s KILL "$$2" sh -c "$$3" 2>&1); rc=$$?
  answers="$${answers}$marker begin $$1
$$out
$marker answer $$1 $$rc
"
  [ "$$rc" = 0 ] && [ "$$(printf '%s\\n' "$$out" | grep -o 'result_vec: *[A-Za-z0-9_]*')" = 'result_vec: kNoError' ]
}
""")


def _quoted(line: str) -> str:
    """A command line as one single-quoted shell word."""
    return "'" + line.replace("'", "'\\''") + "'"


def probe(tools: Tools) -> Look:
    """Is this a real shell, are the tools there, and what does this CLI offer?"""
    text = _PROBE.substitute(profile=tools.profile, programs=" ".join(tools.programs()), cli=tools.delete.split()[0])
    return Look("probe", text, 60.0)


@dataclass(frozen=True, slots=True)
class ProbeFacts:
    """The facts that a probe found."""

    shell_ok: bool
    tools: frozenset[str]
    sub_commands: frozenset[str]


def read_probe(stdout: str) -> ProbeFacts:
    """Facts from a probe's answer; a menu or a restricted shell does not answer as a shell does."""
    lines = [line.strip() for line in stdout.splitlines()]
    if "ngtr-probe begin" not in lines or "ngtr-probe end" not in lines:
        return ProbeFacts(shell_ok=False, tools=frozenset(), sub_commands=frozenset())
    found = frozenset(line.split()[-1] for line in lines if line.startswith("ngtr-probe found "))
    usage = stdout.partition("ngtr-probe usage")[2].partition("ngtr-probe end")[0]
    return ProbeFacts(True, found, read_usage(usage))


def look_at_entities(tools: Tools, limit_s: int) -> Look:
    """All VM tools entities of the cluster, and the CVM's clock. `tools.query` must be known."""
    if tools.query is None:
        message = "the CLI's query is not known"
        raise ValueError(message)
    text = _QUERY.substitute(profile=tools.profile, query=tools.query, limit=limit_s)
    return Look("query", text, limit_s + 15.0)


def list_vms(tools: Tools, limit_s: int) -> Look:
    """All VMs of the cluster: as JSON, or as text where this ncli does not know the switch."""
    text = _LISTING.substitute(
        profile=tools.profile, list_vms=tools.list_vms, list_vms_text=tools.list_vms_text, limit=limit_s
    )
    return Look("listing", text, 2 * limit_s + 15.0)


@dataclass(frozen=True, slots=True)
class ListingAnswer:
    """Where in the text the listing stands: the text form, if it was asked for. Nothing of its megabytes is copied.

    `exit_status` is that of the last tool; None when the answer is torn.
    """

    begin: int
    end: int
    exit_status: int | None
    is_blank: bool


def read_listing(stdout: str) -> ListingAnswer:
    """The answer of `list_vms` without its frame."""
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
    """The query's answer without its frame."""
    body, found, end = stdout.rpartition("\nngtr-look end ")
    words = end.split()
    if not found or len(words) != 2 or not all(word.isdigit() for word in words):  # noqa: PLR2004 - status and clock
        return QueryAnswer(stdout, None, None)
    return QueryAnswer(body, int(words[0]), int(words[1]))


def change(name: str, tools: Tools, calls: tuple[ToolCall, ...], *, marker: str, not_after_s: int) -> Change:
    """A changing text that refuses to begin once the CVM's clock has passed `not_after_s` (Unix seconds)."""
    head = _CHANGE_HEAD.substitute(profile=tools.profile, not_after=not_after_s, marker=marker)
    body = ""
    # No tool begins later than the limits of those before it allow: whoever waits for the text's end counts on that.
    latest_s = not_after_s + 1
    for call in calls:
        joint = " && " if call.needs_previous else ("\n" if body else "")
        body += f"{joint}go {call.name} {call.limit_s} {_quoted(call.line)} {latest_s}"
        latest_s += call.limit_s
    tail = f"\nprintf '\\n%s%s\\n' \"$answers\" '{marker} end'\n"
    return Change(name, head + body + tail, sum(call.limit_s for call in calls))


@dataclass(frozen=True, slots=True)
class ToolAnswer:
    """What one tool of a changing text printed, and its exit status."""

    name: str
    output: str
    exit_status: int


@dataclass(frozen=True, slots=True)
class ChangeAnswer:
    """The framed answer of a changing text. `late`: it refused to begin, and nothing was done."""

    late: bool
    tools: tuple[ToolAnswer, ...]


def read_change(stdout: str, marker: str) -> ChangeAnswer | None:
    """The answer to the attempt of this marker; None when it is not there, or not whole."""
    # What comes after the last line's end is torn.
    *lines, _ = stdout.replace("\r\n", "\n").split("\n")
    answers: list[ToolAnswer] = []
    begun: int | None = None
    for number, line in enumerate(lines):
        if not line.startswith(marker):
            continue
        match line.removeprefix(marker).split():
            case ["late"]:
                return ChangeAnswer(late=True, tools=())
            case ["begin", _]:
                begun = number + 1
            case ["answer", name, status] if begun is not None and status.isdigit():
                answers.append(ToolAnswer(name, "\n".join(lines[begun:number]), int(status)))
                begun = None
            case ["end"]:
                return ChangeAnswer(late=False, tools=tuple(answers))
            case _:
                continue
    return None


def for_vm(line: str, vm_uuid: VmUuid, *, application: str = "") -> str:
    """A tool's command line for one VM."""
    return line.replace("{vm_uuid}", vm_uuid).replace("{application}", application)

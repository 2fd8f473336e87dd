"""The command that changes something on a CVM, and the reader of its answer.

It is one bounded, immune, self-contained shell text: after it was sent, the end of this service or of the connection
does not stop it half way, and it does not begin after its time.
"""

from dataclasses import dataclass
from string import Template

from app.ngt.tools.command_lines import Tools


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One tool of a change. `needs_previous`: it runs only after the tool before it printed `kNoError`."""

    name: str
    line: str
    limit_s: int
    needs_previous: bool = False


@dataclass(frozen=True, slots=True)
class ChangeCommand:
    """The shell text of a change. `limit_s`: the longest time that its tools take after it has begun."""

    name: str
    text: str
    limit_s: int

    @property
    def timeout_s(self) -> float:
        """The longest wait for its answer: the tools, and the shell around them."""
        return self.limit_s + 15.0


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
    return "'" + line.replace("'", "'\\''") + "'"


def build_change(
    name: str, tools: Tools, calls: tuple[ToolCall, ...], *, marker: str, not_after_s: int
) -> ChangeCommand:
    """The text refuses to begin after `not_after_s` (Unix seconds) of the CVM's clock."""
    head = _CHANGE_HEAD.substitute(profile=tools.profile, not_after=not_after_s, marker=marker)
    body = ""
    # No tool begins later than the limits of the tools before it allow: the wait for the end of the text relies on it.
    latest_s = not_after_s + 1
    for call in calls:
        joint = " && " if call.needs_previous else ("\n" if body else "")
        body += f"{joint}go {call.name} {call.limit_s} {_quoted(call.line)} {latest_s}"
        latest_s += call.limit_s
    tail = f"\nprintf '\\n%s%s\\n' \"$answers\" '{marker} end'\n"
    return ChangeCommand(name, head + body + tail, sum(call.limit_s for call in calls))


@dataclass(frozen=True, slots=True)
class ToolAnswer:
    """The output of one tool of a change, and its exit status."""

    name: str
    output: str
    exit_status: int


@dataclass(frozen=True, slots=True)
class ChangeAnswer:
    """The answer to a change. `late`: it refused to begin, and nothing was done."""

    late: bool
    tools: tuple[ToolAnswer, ...]


def read_change(stdout: str, marker: str) -> ChangeAnswer | None:
    """The answer to the attempt with this marker; None when it is missing or torn."""
    # The text after the last line end is torn.
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

"""The journal of a simulated site: its events in order, and the questions that tests ask about it.

`number` gives the order: every begin and every end takes the next number of one counter, independent of the clock.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import combinations
from operator import itemgetter

UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b(?!::)", re.IGNORECASE)
"""A VM's UUID, without the cluster's identifier before it in ncli's `vm-id`."""
_CHANGE = re.compile(
    r"\b(?:(?:delete|create|refresh)_vm_tools_entity|mount_guest_tools|ngt mount|(?:en|dis)able-applications)\b"
)


class Kind(StrEnum):
    """The kind of a record."""

    LOGIN = "login"
    LOGIN_REFUSED = "login_refused"
    CHANNEL_REFUSED = "channel_refused"
    CUT = "cut"
    EXEC = "exec"
    TOOL = "tool"
    EFFECT = "effect"
    GUEST = "guest"
    VIOLATION = "violation"


class Effect(StrEnum):
    """A change in a cluster or a guest."""

    DELETED = "entity deleted"
    CREATED = "entity created"
    REISSUED = "certificate reissued"
    MOUNTED = "ISO mounted"
    PICKED_UP = "certificate picked up"
    AGENT_RESTARTED = "agent restarted"
    CAPABILITY = "capability changed"


@dataclass(slots=True, kw_only=True)
class Record:
    """One event. `ended_number` is None until it ends; times are Unix seconds."""

    number: int
    kind: Kind
    at: float
    cluster: str
    host: str
    text: str
    vm_uuids: tuple[str, ...] = ()
    sub_command: str = ""
    exec_number: int | None = None
    ended_number: int | None = None
    ended_at: float | None = None
    result: str = ""


@dataclass(slots=True)
class Journal:
    """The records of one site."""

    clock: Callable[[], float]
    records: list[Record] = field(default_factory=list)
    peak_sessions: Counter[str] = field(default_factory=Counter)
    _open_sessions: Counter[str] = field(default_factory=Counter)
    _number: int = 0

    def begin(  # noqa: PLR0913 - most records leave all but two of them empty.
        self,
        kind: Kind,
        text: str,
        *,
        cluster: str = "",
        host: str = "",
        vm_uuids: tuple[str, ...] | None = None,
        sub_command: str = "",
        exec_number: int | None = None,
    ) -> Record:
        """Records the begin of an event; without `vm_uuids` they are those that `text` names."""
        record = Record(
            number=self._next(),
            kind=kind,
            at=self.clock(),
            cluster=cluster,
            host=host,
            text=text,
            vm_uuids=uuids_in(text) if vm_uuids is None else vm_uuids,
            sub_command=sub_command,
            exec_number=exec_number,
        )
        self.records.append(record)
        return record

    def end(self, record: Record, result: str = "") -> None:
        """Records the end of `record`. A second end is ignored."""
        if record.ended_number is None:
            record.ended_number = self._next()
            record.ended_at = self.clock()
            record.result = result

    def note(self, kind: Kind, text: str, *, cluster: str = "", host: str = "", vm_uuid: str = "") -> None:
        """Records an event that takes no time."""
        vm_uuids = (vm_uuid,) if vm_uuid else ()
        self.end(self.begin(kind, text, cluster=cluster, host=host, vm_uuids=vm_uuids))

    def session_opened(self, host: str) -> None:
        self._open_sessions[host] += 1
        self.peak_sessions[host] = max(self.peak_sessions[host], self._open_sessions[host])

    def session_closed(self, host: str) -> None:
        self._open_sessions[host] -= 1

    def of(self, kind: Kind, *, host: str = "", cluster: str = "", vm_uuid: str = "") -> list[Record]:
        """The records of one kind, of one host, cluster or VM where it is named."""
        return [
            record
            for record in self.records
            if record.kind == kind
            and host in ("", record.host)
            and cluster in ("", record.cluster)
            and (not vm_uuid or vm_uuid in record.vm_uuids)
        ]

    def logins(self, host: str = "") -> int:
        """The number of accepted logins, of one host where it is named."""
        return len(self.of(Kind.LOGIN, host=host))

    def calls(self, sub_command: str, *, vm_uuid: str = "", cluster: str = "") -> list[Record]:
        """The calls of one tool's sub-command, such as `create_vm_tools_entity` or `ngt get`."""
        calls = self.of(Kind.TOOL, vm_uuid=vm_uuid, cluster=cluster)
        return [record for record in calls if record.sub_command == sub_command]

    def call_counts(self) -> dict[str, int]:
        return dict(Counter(record.sub_command for record in self.of(Kind.TOOL)))

    def listings(self, cluster: str = "") -> int:
        """The number of ncli calls for more than one VM: `vm ls` or `vm list` of all, and `ngt list`."""
        asked = [call for name in ("vm ls", "vm list", "ngt list") for call in self.calls(name, cluster=cluster)]
        return sum("name=" not in call.text and not call.vm_uuids for call in asked)

    def violations(self) -> list[str]:
        """The forbidden events, such as reading a private key."""
        return [f"{record.host}: {record.text}" for record in self.of(Kind.VIOLATION)]

    def changes(self, vm_uuid: str = "") -> list[Record]:
        """The texts sent to CVMs that can change a VM."""
        return [record for record in self.of(Kind.EXEC, vm_uuid=vm_uuid) if _CHANGE.search(record.text)]

    def overlapping_changes(self) -> list[tuple[Record, Record]]:
        """The pairs of changing texts that worked on one VM at the same time; there must not be any.

        A text works from its begin until its shell has ended and the last effect of its tools has landed, even long
        after its connection was cut. A late text that began no changing tool is not counted. Behind another SSH server,
        which hides the texts, the calls of the tools are compared.
        """
        by_vm: dict[str, list[tuple[int, float, Record]]] = {}
        for begin, end, record in self._changes_at_work():
            for vm_uuid in record.vm_uuids:
                by_vm.setdefault(vm_uuid, []).append((begin, end, record))
        return [
            (one, other)
            for spans in by_vm.values()
            for (_, one_end, one), (other_begin, _, other) in combinations(sorted(spans, key=itemgetter(0)), 2)
            if other_begin < one_end
        ]

    def peak_without_entity(self, cluster: str = "") -> int:
        """The greatest number of VMs without an entity after a delete at one moment."""
        return max((len(stranded) for stranded in self._stranded_over_time(cluster)), default=0)

    def without_entity(self, cluster: str = "") -> frozenset[str]:
        """The VMs whose entity was deleted and not created again yet."""
        stranded: frozenset[str] = frozenset()
        for stranded in self._stranded_over_time(cluster):  # noqa: B007 - Only the last one is wanted.
            pass
        return stranded

    def effects(self, vm_uuid: str) -> list[str]:
        return [record.text for record in self.of(Kind.EFFECT, vm_uuid=vm_uuid)]

    def _stranded_over_time(self, cluster: str) -> Iterator[frozenset[str]]:
        stranded: frozenset[str] = frozenset()
        for record in self.of(Kind.EFFECT, cluster=cluster):
            if record.text == Effect.DELETED:
                stranded |= set(record.vm_uuids)
            elif record.text == Effect.CREATED:
                stranded -= set(record.vm_uuids)
            yield stranded

    def _changes_at_work(self) -> Iterator[tuple[int, float, Record]]:
        calls = [record for record in self.of(Kind.TOOL) if _CHANGE.search(record.text)]
        ends: dict[int, float] = {}
        for call in calls:
            if call.exec_number is None:
                yield call.number, _end(call), call
            else:
                ends[call.exec_number] = max(_end(call), ends.get(call.exec_number, 0))
        for record in self.changes():
            if record.number in ends:
                yield record.number, max(_end(record), ends[record.number]), record

    def _next(self) -> int:
        self._number += 1
        return self._number


def _end(record: Record) -> float:
    return float("inf") if record.ended_number is None else record.ended_number


def uuids_in(text: str) -> tuple[str, ...]:
    """The VM UUIDs that `text` names, each once, in lower case."""
    return tuple(dict.fromkeys(found.lower() for found in UUID.findall(text)))

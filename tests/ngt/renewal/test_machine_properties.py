"""The two promises against a cluster that does its worst: every failure at every moment, in any order.

A pure model of one VM stands for the cluster; Hypothesis chooses what goes wrong.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.ngt.errors import FaultCode
from app.ngt.renewal.change import begin
from app.ngt.renewal.machine import advance, next_action
from app.ngt.renewal.progress import (
    EntityStage,
    Failure,
    FoundVm,
    GuestSighting,
    Intent,
    Progress,
    Sighting,
    StepName,
    UptimeReading,
)
from app.ngt.renewal.request import RenewalRequest, Rules
from app.ngt.renewal.steps import (
    AgentRestarted,
    Answer,
    BeforeRead,
    Changed,
    ChangeLost,
    Failed,
    FindVm,
    Finish,
    LookAtEntity,
    Looked,
    LookForVm,
    MakeChange,
    ReadBefore,
    RestartTheAgent,
    Resumed,
    Verified,
    Verify,
    VmFound,
    VmListed,
    Wait,
)
from app.ngt.tools.change_command import ChangeAnswer, ToolAnswer
from app.ngt.tools.query_commands import CvmUptime
from app.ngt.vocabulary import Certificate, PowerState, VmToolsEntity, parse_vm_uuid

UUID = parse_vm_uuid("20edafba-0644-4e57-a3cf-4abef2f69a5f")
START = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
RULES = Rules(guest_read_delays_s=(5, 30))
GUEST = "10.1.0.5"
MOST_TURNS = 4000
CLOCK_STEPS_S = (0, 1, -1, 120, -120, 3600, -3600)


class Mishap:
    """What can go wrong with a look or a change; NONE is the last choice that shrinks away."""

    NONE = "none"
    LOOK_FAILS = "look fails"
    NOT_SENT = "not sent"
    LATE = "late"
    LOST_BEFORE = "lost, never arrived"
    LOST_AFTER = "lost, done at once"
    LOST_THEN_LANDS = "lost, lands at the end of its time"
    FIRST_REFUSED = "the first tool is refused"
    REFUSED_BUT_DONE = "the first tool says that it refused, and did it"
    VANISHES = "somebody else deletes the entity that was issued"
    LAST_REFUSED = "the last tool is refused"
    NO_ANSWER = "the last tool says nothing and does nothing"
    UNLISTED = "the listing does not have the VM"
    KILLED = "the service dies before the answer is stored"

    OF_LOOKS = (NONE, LOOK_FAILS, VANISHES, UNLISTED)
    OF_CHANGES = (
        NONE, NOT_SENT, LATE, LOST_BEFORE, LOST_AFTER, LOST_THEN_LANDS, FIRST_REFUSED, REFUSED_BUT_DONE, LAST_REFUSED,
        NO_ANSWER, KILLED,
    )  # fmt: skip


@dataclass
class Vm:
    """One VM as the cluster and its guest really are."""

    entity: int | None = 1
    made: int = 1
    mounted: int | None = None
    installed: int = 1
    landing: tuple[datetime, tuple[str, ...]] | None = None

    def do(self, tools: tuple[str, ...]) -> None:
        for tool in tools:
            if tool == "delete":
                self.entity = None
            elif tool == "create" and self.entity is None:
                self.made += 1
                self.entity = self.made
            elif tool == "mount" and self.entity is not None:
                self.mounted = self.entity

    def pass_time(self, real: datetime) -> None:
        if self.landing is not None and real >= self.landing[0]:
            self.do(self.landing[1])
            self.landing = None

    def seen(self, now: datetime) -> Sighting:
        if self.entity is None:
            return Sighting(now, None)
        entity = VmToolsEntity(
            vm_uuid=UUID, ngt_uuid=f"ngt-{self.entity}", name="web01", enabled=True,
            iso_mounted=self.mounted == self.entity, vss_snapshot=True, file_level_restore=False, link_active=True,
            communication_type=None, client_cert_expiry_date=None,
        )  # fmt: skip
        return Sighting(now, entity)

    def guest(self, now: datetime) -> GuestSighting:
        issued = START + timedelta(days=self.installed)
        certificate = Certificate(issued, issued + timedelta(days=1000), f"{self.installed:x}", "f", "s", "i")
        return GuestSighting(now, certificate, f"ngt-{self.installed}", GUEST, "SHA256:x")


def clock(now: datetime) -> UptimeReading:
    return UptimeReading("cvm1", CvmUptime("a boot", 1000.0), now, refresh_offered=True)


def result(*words: str) -> str:
    return "\n".join(f"result_vec: {word}" for word in words)


def answered(names: tuple[str, ...], refused: int | None, *, silent: bool = False) -> ChangeAnswer:
    tools = []
    for number, name in enumerate(names):
        if number == refused:
            tools.append(ToolAnswer(name, "" if silent else result("kSomeError"), 1))
            break
        tools.append(ToolAnswer(name, result("kNoError"), 0))
    return ChangeAnswer(late=False, tools=tuple(tools))


def change(vm: Vm, p: Progress, action: MakeChange, mishap: str, real: datetime) -> tuple[Answer | None, Progress]:
    """What the change answers; None: the service died before it could store the answer."""
    names = tuple(call.name for call in action.calls)
    intent = p.intent
    assert isinstance(intent, Intent)
    match mishap:
        case Mishap.NOT_SENT:
            return Failed(action.step, Failure(FaultCode.CVM_UNREACHABLE, "no CVM")), p
        case Mishap.LATE:
            return Changed(ChangeAnswer(late=True, tools=())), p
        case Mishap.LOST_BEFORE:
            return ChangeLost(), p
        case Mishap.LOST_AFTER:
            vm.do(names)
            return ChangeLost(), p
        case Mishap.LOST_THEN_LANDS:
            vm.landing = (real + timedelta(seconds=intent.bound_s), names)
            return ChangeLost(), p
        case Mishap.FIRST_REFUSED:
            return Changed(answered(names, 0)), p
        case Mishap.REFUSED_BUT_DONE:
            vm.do(names[:1])
            return Changed(answered(names, 0)), p
        case Mishap.LAST_REFUSED:
            vm.do(names[:-1])
            return Changed(answered(names, len(names) - 1)), p
        case Mishap.NO_ANSWER:
            vm.do(names[:-1])
            return Changed(answered(names, len(names) - 1, silent=True)), p
        case Mishap.KILLED:
            vm.do(names)
            return None, p
        case _:
            vm.do(names)
            return Changed(answered(names, None)), p


def listing(mishap: str, now: datetime) -> Answer:
    if mishap is Mishap.LOOK_FAILS:
        return Failed(StepName.FIND_VM, Failure(FaultCode.CVM_UNREACHABLE, "no CVM"))
    return VmListed(None if mishap is Mishap.UNLISTED else "c1", now)


@dataclass
class Process:
    """The process that has the job. `real` is the true time; the database's clock differs from it by `ahead`."""

    steps: list[int]
    real: datetime = START
    ahead: timedelta = timedelta(0)
    watched: dict[str, datetime] = field(default_factory=dict)

    def watch(self, p: Progress) -> float:
        if p.intent is None:
            return 0.0
        return (self.real - self.watched.setdefault(p.intent.wait_key, self.real)).total_seconds()

    def claim(self, p: Progress, waited: timedelta) -> Resumed:
        """After a wait that the database's clock may have cut short, or drawn out."""
        self.watch(p)
        step = timedelta(seconds=self.steps.pop() if self.steps else 0)
        self.real += max(timedelta(0), waited - step)
        self.ahead += step
        return Resumed(None, reported=False, watched_s=self.watch(p))

    def change(self, vm: Vm, p: Progress, action: MakeChange, mishap: str) -> tuple[Answer, Progress]:
        """Another process, which has watched nothing, takes the job over when this one dies."""
        self.watch(p)
        answer, p = change(vm, p, action, mishap, self.real)
        if answer is None:
            self.watched.clear()
            answer = self.claim(p, timedelta(0))
        return answer, p


def run(  # noqa: C901 - a branch for each action
    vm: Vm, request: RenewalRequest, looks: list[str], changes: list[str], steps: list[int]
) -> tuple[Finish, Progress, datetime]:
    """The whole renewal; raises when a promise is broken on the way.

    `looks` and `changes` are mishaps, the last one first; `steps` are those of the database's clock, in seconds.
    """
    p = Progress(vm_uuid=UUID, request=request, cluster="c1")
    process = Process(steps)
    for turn in range(MOST_TURNS):
        vm.pass_time(process.real)
        now = process.real + process.ahead
        action = next_action(p, RULES, now)
        answer: Answer
        match action:
            case Finish():
                assert not p.is_stranded, "a job must not end while its VM is stranded"
                return action, p, process.real
            case Wait(until=until):
                assert until is not None
                assert until > now, "a wait must lead somewhere"
                answer = process.claim(p, until - now)
            case FindVm():
                answer = VmFound("c1", FoundVm("web01", PowerState.ON, (GUEST,), GUEST, "restart", seen_at=now))
            case LookForVm():
                answer = listing(looks.pop() if looks else Mishap.NONE, now)
            case ReadBefore():
                answer = BeforeRead(vm.seen(now), clock(now), vm.guest(now), None)
            case LookAtEntity(step):
                mishap = looks.pop() if looks else Mishap.NONE
                failed = Failed(step, Failure(FaultCode.CVM_UNREACHABLE, "no CVM"))
                if mishap is Mishap.VANISHES and p.entity is EntityStage.ISSUED:
                    vm.entity = None
                answer = failed if mishap is Mishap.LOOK_FAILS else Looked(vm.seen(now), clock(now))
            case MakeChange():
                assert vm.landing is None, "two changing texts at one time on a VM"
                p = begin(p, action, RULES, now, f"marker {turn}")
                answer, p = process.change(vm, p, action, changes.pop() if changes else Mishap.NONE)
            case RestartTheAgent():
                if vm.mounted is not None:
                    vm.installed = vm.mounted
                answer = AgentRestarted()
            case Verify(look):
                answer = Verified(
                    vm.seen(now) if look else None, clock(now) if look else None, vm.guest(now), guest_asked=True
                )
        process.real += timedelta(seconds=0.2)
        p = advance(p, answer, RULES, process.real + process.ahead).progress
    raise AssertionError(f"the renewal did not end: {p}")


@settings(max_examples=400, deadline=None)
@pytest.mark.field("A1", "A2")
@given(
    st.lists(st.sampled_from(Mishap.OF_LOOKS), max_size=8),
    st.lists(st.sampled_from(Mishap.OF_CHANGES), max_size=8),
    st.lists(st.sampled_from(CLOCK_STEPS_S), max_size=8),
)
def test_whatever_goes_wrong_no_vm_is_left_without_its_entity(
    looks: list[str], changes: list[str], steps: list[int]
) -> None:
    vm = Vm()
    finish, p, now = run(vm, RenewalRequest(clusters=("c1",)), looks, changes, steps)
    vm.pass_time(now + timedelta(days=1))
    assert vm.entity is not None
    if finish.outcome == "renewed":
        assert vm.installed == vm.entity, "renewed is said only of the entity's last certificate"
        assert vm.installed > 1
    else:
        assert finish.failure is not None
        assert p.entity is EntityStage.ISSUED or vm.entity == 1, "an untouched failure must have touched nothing"


def test_without_any_mishap_the_vm_is_renewed_in_seconds() -> None:
    vm = Vm()
    finish, _, now = run(vm, RenewalRequest(clusters=("c1",)), [], [], [])
    assert finish.outcome == "renewed"
    assert now - START < timedelta(seconds=10)

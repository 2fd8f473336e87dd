"""The two promises against a cluster that does its worst: every failure at every moment, in any order.

A pure model of one VM stands for the cluster; Hypothesis chooses what goes wrong.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from app.ngt.errors import FaultCode
from app.ngt.renewal.change import begin
from app.ngt.renewal.machine import advance, next_action
from app.ngt.renewal.progress import CvmClock, EntityStage, Failure, FoundVm, GuestSighting, Intent, Progress, Sighting
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
    MakeChange,
    ReadBefore,
    RestartTheAgent,
    Resumed,
    Verified,
    Verify,
    VmFound,
    Wait,
)
from app.ngt.tools.change_command import ChangeAnswer, ToolAnswer
from app.ngt.vocabulary import Certificate, PowerState, VmToolsEntity, parse_vm_uuid

UUID = parse_vm_uuid("20edafba-0644-4e57-a3cf-4abef2f69a5f")
START = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
RULES = Rules(guest_read_delays_s=(5, 30))
GUEST = "10.1.0.5"
MOST_TURNS = 4000


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
    KILLED = "the service dies before the answer is stored"

    ALL = (NONE, LOOK_FAILS, NOT_SENT, LATE, LOST_BEFORE, LOST_AFTER, LOST_THEN_LANDS, FIRST_REFUSED, REFUSED_BUT_DONE,
           VANISHES, LAST_REFUSED,
           NO_ANSWER, KILLED)  # fmt: skip


@dataclass
class Vm:
    """One VM as the cluster and its guest really are."""

    entity: int | None = 1
    made: int = 1
    mounted: int | None = None
    installed: int = 1
    landing: tuple[datetime, tuple[str, ...]] | None = None
    longest_absent_at_finish: bool = False

    def do(self, tools: tuple[str, ...]) -> None:
        for tool in tools:
            if tool == "delete":
                self.entity = None
            elif tool == "create" and self.entity is None:
                self.made += 1
                self.entity = self.made
            elif tool == "mount" and self.entity is not None:
                self.mounted = self.entity

    def pass_time(self, now: datetime) -> None:
        if self.landing is not None and now >= self.landing[0]:
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


def clock(now: datetime) -> CvmClock:
    return CvmClock("cvm1", 0.0, now, refresh_offered=True)


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


def change(vm: Vm, p: Progress, action: MakeChange, mishap: str, now: datetime) -> tuple[Answer | None, Progress]:
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
            vm.landing = (intent.remote_until_at, names)
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


def run(vm: Vm, mishaps: list[str], request: RenewalRequest) -> tuple[Finish, Progress, datetime]:
    """The whole renewal; raises when a promise is broken on the way."""
    p = Progress(vm_uuid=UUID, request=request, cluster="c1")
    now = START
    for _ in range(MOST_TURNS):
        vm.pass_time(now)
        action = next_action(p, RULES, now)
        mishap = mishaps.pop() if mishaps and not isinstance(action, Wait | Finish) else Mishap.NONE
        answer: Answer | None
        match action:
            case Finish():
                assert not p.is_stranded, "a job must not end while its VM is stranded"
                return action, p, now
            case Wait(until=until):
                assert until is not None
                assert until > now, "a wait must lead somewhere"
                now = until
                answer = Resumed(None, reported=False)
            case FindVm():
                answer = VmFound("c1", FoundVm("web01", PowerState.ON, (GUEST,), GUEST, "restart"))
            case ReadBefore():
                answer = BeforeRead(vm.seen(now), clock(now), vm.guest(now), None)
            case LookAtEntity(step):
                failed = Failed(step, Failure(FaultCode.CVM_UNREACHABLE, "no CVM"))
                if mishap is Mishap.VANISHES and p.entity is EntityStage.ISSUED:
                    vm.entity = None
                answer = failed if mishap is Mishap.LOOK_FAILS else Looked(vm.seen(now), clock(now))
            case MakeChange():
                assert vm.landing is None, "two changing texts at one time on a VM"
                p = begin(p, action, RULES, now, "marker")
                answer, p = change(vm, p, action, mishap, now)
                answer = answer or Resumed(None, reported=False)
            case RestartTheAgent():
                if vm.mounted is not None:
                    vm.installed = vm.mounted
                answer = AgentRestarted()
            case Verify(look):
                answer = Verified(
                    vm.seen(now) if look else None, clock(now) if look else None, vm.guest(now), guest_asked=True
                )
        now += timedelta(seconds=0.2)
        p = advance(p, answer, RULES, now).progress
    raise AssertionError(f"the renewal did not end: {p}")


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(Mishap.ALL), max_size=14))
def test_whatever_goes_wrong_no_vm_is_left_without_its_entity(mishaps: list[str]) -> None:
    vm = Vm()
    finish, p, now = run(vm, mishaps, RenewalRequest(clusters=("c1",)))
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
    finish, _, now = run(vm, [], RenewalRequest(clusters=("c1",)))
    assert finish.outcome == "renewed"
    assert now - START < timedelta(seconds=10)

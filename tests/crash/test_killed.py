"""The service is killed, frozen or cut off at every step and point of the procedure, and every VM ends up renewed.

The situations are made from the procedure's own table, so a new step is tested from the day on which it stands there.
"""

import asyncio
import signal
from collections import Counter
from dataclasses import dataclass

import psutil

from app.ngt.renewal.change import CHANGING_STEPS
from app.ngt.renewal.machine import PROCEDURE
from app.ngt.renewal.progress import StepName
from app.ngt.renewal.request import Mode
from app.simulator.faults import Does, ToolFault
from app.simulator.journal import Effect, Kind, Record
from app.simulator.model import SimulatedVm
from app.simulator.spec import ClusterSpec, Refresh, SiteSpec, Traits, VmSpec
from app.store.records.jobs import JobRecord
from tests.crash.victim import End, Point
from tests.crash.victims import Victims, nothing_at_work, until
from tests.work.conftest import Begin
from tests.work.service import Service, shown

_AT_ONCE = 8
# What a step does to the VM, and the tool that does it; a step without an entry does nothing.
_EFFECTS = {
    StepName.RECREATE_ENTITY: (Effect.CREATED, "create_vm_tools_entity"),
    StepName.REFRESH_ENTITY: (Effect.REISSUED, "refresh_vm_tools_entity"),
    StepName.MOUNT_ISO: (Effect.MOUNTED, "mount_guest_tools"),
    StepName.RESTART_AGENT: (Effect.AGENT_RESTARTED, ""),
    StepName.RESTORE_CAPABILITIES: (Effect.CAPABILITY, "ngt enable-applications"),
}
_CHANGES = tuple(step for step in PROCEDURE if step in CHANGING_STEPS)


@dataclass(frozen=True, slots=True)
class Situation:
    """Where a victim ends. `seen`: it is killed from outside when the journal shows that effect.

    `refused_first`: creates that are refused before, so that the step is taken once more.
    """

    step: StepName
    point: Point
    end: End = End.KILL
    seen: Effect | None = None
    hangs: str = ""
    refused_first: int = 0

    @property
    def mode(self) -> Mode:
        return Mode.REFRESH if self.step is StepName.REFRESH_ENTITY else Mode.RECREATE


def _killed_at_every_point() -> list[Situation]:
    made = [
        _after_effect(step) if point is Point.AFTER_EFFECT else Situation(step, point)
        for step in PROCEDURE
        for point in Point
    ]
    # Two tools are at work in one text: it may also end between them.
    recreate, delete = StepName.RECREATE_ENTITY, "delete_vm_tools_entity"
    made.append(Situation(recreate, Point.AFTER_EFFECT, End.STAND_STILL, Effect.DELETED, hangs=delete))
    made.append(Situation(recreate, Point.AFTER_EFFECT, End.STAND_STILL, Effect.DELETED))
    # And the VM may be stranded already when its create is tried once more.
    made += [Situation(recreate, point, refused_first=1) for point in Point]
    return made


def _after_effect(step: StepName) -> Situation:
    if step not in _EFFECTS:
        return Situation(step, Point.AFTER_EFFECT)
    effect, tool = _EFFECTS[step]
    return Situation(step, Point.AFTER_EFFECT, End.STAND_STILL, effect, hangs=tool)


async def test_a_killed_service_leaves_every_vm_renewed_by_another(begin: Begin, victims: Victims) -> None:
    await _all_end_well(begin, victims, _killed_at_every_point())


async def test_a_frozen_service_does_nothing_when_it_wakes_after_another_has_finished(
    begin: Begin, victims: Victims
) -> None:
    situations = [Situation(step, Point.AFTER_INTENT, End.FREEZE) for step in _CHANGES]
    situations.append(Situation(StepName.RECREATE_ENTITY, Point.AFTER_INTENT, End.FREEZE, refused_first=1))
    service = await _all_end_well(begin, victims, situations)
    for number in range(1, len(situations) + 1):
        assert len(_texts_that_did_nothing(service, _vm(service, number))) == 1, f"c{number}"


def _texts_that_did_nothing(service: Service, vm: SimulatedVm) -> list[Record]:
    """Changing texts that reached a CVM and began no tool there."""
    journal = service.site.journal
    began = {call.exec_number for call in journal.of(Kind.TOOL)}
    return [text for text in journal.changes(vm.uuid) if text.number not in began]


async def test_a_cut_line_leaves_every_vm_renewed(begin: Begin) -> None:
    tools = ["delete_vm_tools_entity", "query_vm_tools_entities", "vm ls", *(tool for _, tool in _EFFECTS.values())]
    cuts = (Does.DROP_BEFORE, Does.DROP_AFTER, Does.DROP_THEN_EFFECT)
    faults = [ToolFault(does=does, sub_command=tool, seconds=1.5) for tool in tools if tool for does in cuts]
    service = await begin(_site(len(faults)), **_CLUSTERS)
    jobs: list[JobRecord] = []
    for number, fault in enumerate(faults, 1):
        for host in service.site.cvms[f"c{number}"]:
            fault.host = host.name
        service.site.order(fault)
        mode = Mode.REFRESH if fault.sub_command.startswith("refresh") else Mode.RECREATE
        jobs.append(await service.renew(_vm(service, number), search=(f"c{number}",), mode=mode))
    for number, job in enumerate(jobs, 1):
        assert faults[number - 1].times == 0 or not job.done
        await service.done(job)
        assert faults[number - 1].times == 0, faults[number - 1]
    await _assert_all_well(service, jobs)


_CLUSTERS = {"prove_first": False}


def _site(clusters: int) -> SiteSpec:
    """A cluster for each situation, so that none holds up another; each VM has a capability to be put back."""
    vms = (VmSpec("renewed", file_level_restore=True), VmSpec("other"))
    traits = Traits(refresh=Refresh.REISSUES)
    return SiteSpec(tuple(ClusterSpec(f"c{number}", 1, vms, traits) for number in range(1, clusters + 1)))


def _vm(service: Service, number: int) -> SimulatedVm:
    return service.site.clusters[f"c{number}"].vm_named("renewed")


async def _all_end_well(begin: Begin, victims: Victims, situations: list[Situation]) -> Service:
    service = await begin(_site(len(situations)), with_worker=False, **_CLUSTERS)
    bounded = asyncio.Semaphore(_AT_ONCE)

    async def meet(number: int, situation: Situation) -> tuple[JobRecord, int]:
        async with bounded:
            return await _meet(service, victims, number, situation)

    met = await asyncio.gather(*(meet(number, situation) for number, situation in enumerate(situations, 1)))
    jobs = [job for job, _ in met]
    for situation, job in zip(situations, jobs, strict=True):
        assert not (await service.find(job.id)).done, f"nothing happened at {situation}"
    async with service.at_work():
        for job in jobs:
            await service.done(job)
        for _, pid in met:
            victims.send(pid, signal.SIGCONT)
            await victims.gone(pid)
        await _assert_all_well(service, jobs)
    return service


async def _meet(service: Service, victims: Victims, number: int, situation: Situation) -> tuple[JobRecord, int]:
    """Has a victim begin the job and meet its end; a frozen one is left as it is."""
    vm, cluster = _vm(service, number), f"c{number}"
    host = service.site.cvms[cluster][0].name
    if situation.refused_first:
        times = situation.refused_first
        service.site.order(ToolFault(does=Does.REFUSE, sub_command="create_vm_tools_entity", host=host, times=times))
    if situation.hangs:
        service.site.order(ToolFault(does=Does.HANG_AFTER_EFFECT, sub_command=situation.hangs, host=host))
    job = await service.renew(vm, search=(cluster,), mode=situation.mode)
    pid = await victims.begin(
        service,
        job=str(job.id),
        step=situation.step,
        point=situation.point,
        end=situation.end,
        occurrence=situation.refused_first + 1,
    )
    if situation.seen is not None:
        await until(lambda: situation.seen in service.effects_on(vm))
        victims.send(pid, signal.SIGKILL)
    if situation.end is End.FREEZE:
        await until(lambda: _is_frozen(pid))
    else:
        await victims.gone(pid)
    return job, pid


def _is_frozen(pid: int) -> bool:
    return psutil.Process(pid).status() == psutil.STATUS_STOPPED


async def _assert_all_well(service: Service, jobs: list[JobRecord]) -> None:
    """The end, looked at again when nothing is at work on any CVM any more."""
    await nothing_at_work(service)
    journal = service.site.journal
    for number, job in enumerate(jobs, 1):
        done = await service.find(job.id)
        vm = _vm(service, number)
        assert (done.status, done.outcome) == ("succeeded", "renewed"), f"c{number}: {shown(done)}"
        assert service.is_renewed(vm), f"c{number}: {service.state_of(vm)}"
        assert service.state_of(vm)["file_level_restore"] is True, f"c{number}"
        effects = Counter(service.effects_on(vm))
        assert effects[Effect.DELETED] == effects[Effect.CREATED] <= 1, f"c{number}: {effects}"
        assert effects[Effect.MOUNTED] == 1, f"c{number}: {effects}"
        succeeded = Counter(step.name for step in done.steps if step.status == "succeeded")
        assert set(succeeded.values()) == {1}, f"c{number}: {shown(done)}"
        assert journal.peak_without_entity(f"c{number}") <= 1
        assert journal.without_entity(f"c{number}") == frozenset()
    assert journal.overlapping_changes() == []
    assert (await service.jobs.counts()).stranded == {}
    assert (await service.jobs.counts()).awaiting_pickup == {}

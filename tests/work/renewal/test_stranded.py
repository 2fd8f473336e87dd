"""Past delete there is only forward: a VM that lost its entity gets it back, whatever the cluster answers."""

import asyncio
from collections import Counter

import pytest

from app.ngt.errors import Fault, FaultCode
from app.simulator.faults import Does, ToolFault
from app.simulator.journal import Effect
from app.simulator.spec import Refresh, Traits, uniform_site
from tests.work.conftest import Begin
from tests.work.service import OPERATOR, Service, shown, steps_of

_DELETE, _CREATE, _MOUNT = "delete_vm_tools_entity", "create_vm_tools_entity", "mount_guest_tools"


@pytest.mark.parametrize("word", ["kInternalError", "kSomethingNew", "17"])
async def test_a_delete_that_is_refused_changes_nothing(begin_on_both: Begin, word: str) -> None:
    service = await begin_on_both(uniform_site(vms=2))
    service.site.order(ToolFault(does=Does.REFUSE, sub_command=_DELETE, words=(word,)))
    job = await service.renewed("vm0001")
    assert (job.outcome, job.error_code) == ("failed", "entity-delete-failed"), shown(job)
    assert job.error_message is not None
    assert word in job.error_message
    assert steps_of(job)["recreate_entity"].result_vec == word
    assert service.effects_on("vm0001") == []
    assert service.site.journal.calls(_CREATE) == []
    await service.jobs.retry(job.id)
    done = await service.done(job)
    assert done.outcome == "renewed", shown(done)


async def test_a_create_that_is_refused_is_tried_until_it_is_done(begin_on_both: Begin) -> None:
    service = await begin_on_both(uniform_site(vms=2))
    service.site.order(ToolFault(does=Does.REFUSE, sub_command=_CREATE, times=4))
    job = await service.renew("vm0001")
    stranded = await service.waits(job, "entity_missing")
    assert stranded.wait_reason == "entity_missing", shown(stranded)
    assert "create is tried again" in stranded.message
    done = await service.done(job)
    assert done.outcome == "renewed", shown(done)
    assert service.effects_on("vm0001").count(Effect.DELETED) == 1
    assert len(service.site.journal.calls(_CREATE)) == 5
    assert (await service.jobs.counts()).stranded == {}


async def test_a_stranded_vm_is_counted_and_refuses_to_be_cancelled(begin: Begin) -> None:
    service = await begin(uniform_site(vms=2), limits={"retry_first_s": 5, "retry_last_s": 5})
    service.site.order(ToolFault(does=Does.REFUSE, sub_command=_CREATE))
    job = await service.renew("vm0001")
    assert (await service.waits(job, "entity_missing")).wait_reason == "entity_missing"
    assert (await service.jobs.counts()).stranded == {"c1": 1}
    with pytest.raises(Fault, match="no tools entity") as refused:
        await service.jobs.cancel(job.id, OPERATOR)
    assert refused.value.code is FaultCode.JOB_NOT_CANCELLABLE
    done = await service.done(job)
    assert done.outcome == "renewed", shown(done)


async def test_while_a_vm_is_stranded_nothing_else_is_deleted_on_its_cluster(begin: Begin) -> None:
    service = await begin(uniform_site(vms=4), limits={"sweep_interval_s": 0.05}, prove_first=False)
    # Each create is on its way for long enough that a sweep comes meanwhile.
    service.site.tool_port.latency_s["nutanix_guest_tools_cli"] = 0.2
    service.site.order(ToolFault(does=Does.REFUSE, sub_command=_CREATE, vm_uuid=service.uuid_of("vm0001"), times=None))
    first = await service.renew("vm0001")
    assert (await service.waits(first, "entity_missing")).wait_reason == "entity_missing"
    others = [await service.renew(name) for name in ("vm0002", "vm0003")]
    for job in others:
        held = await service.waits(job, "cluster_has_stranded_vm")
        assert held.wait_reason == "cluster_has_stranded_vm", shown(held)
    tried = len(service.site.journal.calls(_CREATE))
    await service.wait_until(first, lambda _: len(service.site.journal.calls(_CREATE)) > tried + 3)
    assert len(service.site.journal.calls(_DELETE)) == 1
    service.site.faults.clear()
    for job in (first, *others):
        done = await service.done(job)
        assert done.outcome == "renewed", shown(done)
    deletes = service.site.journal.calls(_DELETE)
    (created,) = [one for one in service.site.journal.calls(_CREATE) if one.result.endswith("kNoError")][:1]
    assert created.ended_number is not None
    assert all(delete.number > created.ended_number for delete in deletes[1:])


async def test_a_pause_does_not_hold_a_stranded_vm(begin: Begin) -> None:
    service = await begin(uniform_site(vms=2))
    service.site.order(ToolFault(does=Does.REFUSE, sub_command=_CREATE, times=2))
    job = await service.renew("vm0001")
    await service.waits(job, "entity_missing")
    await service.clusters.pause("c1", "a test", "a test")
    done = await service.done(job)
    assert done.outcome == "renewed", shown(done)


# Answers that are lost, and what the looks say then.


_LOSSES = (Does.DROP_BEFORE, Does.DROP_AFTER, Does.DROP_THEN_EFFECT, Does.NO_ANSWER, Does.GARBAGE, Does.HANG)
# What was done although nobody heard so, and what was not: only that is done again.
_UNDONE = (Does.DROP_BEFORE, Does.HANG)


async def test_a_lost_answer_is_waited_for_looked_at_and_gone_on_from(begin: Begin) -> None:
    losses = [(tool, does) for tool in (_DELETE, _CREATE, _MOUNT) for does in _LOSSES]
    service = await begin(uniform_site(vms=2, cvms=1, clusters=len(losses)))
    vms = [service.site.clusters[f"c{number}"].vm_named("vm0001") for number in range(1, len(losses) + 1)]
    jobs = []
    for number, (vm, (tool, does)) in enumerate(zip(vms, losses, strict=True), 1):
        service.site.order(ToolFault(does=does, sub_command=tool, vm_uuid=vm.uuid, seconds=1.5))
        jobs.append(await service.renew(vm, search=(f"c{number}",)))
    all_waiting = await asyncio.gather(*(service.waits(job, "unanswered_change") for job in jobs))
    for waiting, vm, (tool, does) in zip(all_waiting, vms, losses, strict=True):
        assert waiting.wait_reason == "unanswered_change", f"{tool} {does}: {shown(waiting)}"
        with pytest.raises(Fault) as refused:
            await service.jobs.cancel(waiting.id, OPERATOR)
        assert refused.value.code is FaultCode.JOB_NOT_CANCELLABLE
        assert service.effects_on(vm).count(Effect.DELETED) <= 1
    for job, vm, (tool, does) in zip(jobs, vms, losses, strict=True):
        done = await service.done(job)
        assert done.outcome == "renewed", f"{tool} {does}: {shown(done)}"
        assert service.is_renewed(vm)
        counts = Counter(service.effects_on(vm))
        assert counts[Effect.DELETED] == counts[Effect.CREATED] == counts[Effect.MOUNTED] == 1, f"{tool} {does}"
        calls = len(service.site.journal.calls(tool, vm_uuid=vm.uuid))
        assert calls == (2 if does in _UNDONE else 1), f"{tool} {does}"


async def test_a_create_that_answers_exists_already_after_a_lost_answer_is_a_success(begin: Begin) -> None:
    service = await begin(uniform_site(vms=2))
    service.site.order(ToolFault(does=Does.ANSWER, sub_command=_CREATE, words=("kAlreadyExists",)))
    job = await service.renewed("vm0001")
    assert job.outcome == "renewed", shown(job)
    assert service.effects_on("vm0001").count(Effect.CREATED) == 1


async def test_a_delete_that_finds_nothing_goes_on_with_the_create(begin: Begin) -> None:
    service = await begin(uniform_site(vms=2))
    service.site.order(ToolFault(does=Does.ANSWER, sub_command=_DELETE, words=("kNotFound",)))
    job = await service.renewed("vm0001")
    assert job.outcome == "renewed", shown(job)
    assert service.effects_on("vm0001").count(Effect.DELETED) == 1


@pytest.mark.parametrize("one_line", [True, False])
@pytest.mark.parametrize("words", [("kNoError", "kNoError"), ("kNoError", "kInternalError"), ("kNoError", "17")])
async def test_more_results_than_vms_are_no_success_and_the_cluster_is_looked_at(
    begin: Begin, words: tuple[str, ...], one_line: bool
) -> None:
    service = await begin(uniform_site(vms=2))
    service.site.order(ToolFault(does=Does.ANSWER, sub_command=_DELETE, words=words, one_line=one_line))
    job = await service.renewed("vm0001")
    assert job.outcome == "renewed", shown(job)
    assert service.is_renewed("vm0001")
    assert service.effects_on("vm0001").count(Effect.DELETED) == 1


async def test_an_entity_that_somebody_deletes_in_the_middle_is_created_again(begin: Begin) -> None:
    service = await begin(uniform_site(vms=2))
    uuid = service.uuid_of("vm0001")
    service.site.vm(uuid).slot_taken = True
    job = await service.renew("vm0001")
    assert (await service.waits(job, "no_free_cdrom_slot")).wait_reason == "no_free_cdrom_slot"
    service.site.clusters["c1"].delete_vm_tools_entity(uuid)
    service.site.vm(uuid).slot_taken = False
    done = await service.done(job)
    assert done.outcome == "renewed", shown(done)
    assert service.is_renewed("vm0001")


async def test_a_proof_is_worth_nothing_once_the_entity_was_deleted_after_it(service: Service) -> None:
    service.site.order(ToolFault(does=Does.DROP_BEFORE, sub_command="ngt enable-applications"))
    job = await service.renew("web01")
    waiting = await service.waits(job, "unanswered_change")
    assert waiting.current_step == "restore_capabilities", shown(waiting)
    service.site.clusters["c1"].delete_vm_tools_entity(service.uuid_of("web01"))
    done = await service.done(job)
    assert done.outcome == "renewed", shown(done)
    assert service.is_renewed("web01")


async def test_no_lost_answer_of_a_refresh_leads_to_a_delete(begin: Begin) -> None:
    service = await begin(uniform_site(vms=2, traits=Traits(refresh=Refresh.REISSUES)), mode="refresh")
    service.site.order(ToolFault(does=Does.NO_ANSWER, sub_command="refresh_vm_tools_entity"))
    job = await service.renewed("vm0001")
    assert job.outcome == "renewed", shown(job)
    assert service.site.journal.calls(_DELETE) == []

"""VMs that are destroyed past the delete of their entity, and come back: the promise does not end with the job."""

import pytest

from app.simulator.faults import Does, ToolFault
from app.simulator.spec import uniform_site
from tests.work.conftest import Begin
from tests.work.service import OPERATOR, Service, shown

pytestmark = pytest.mark.field("A3")

_CREATE = "create_vm_tools_entity"


async def destroyed(begin: Begin, **limits: float) -> tuple[Service, str]:
    """The service, and the UUID of the VM that is destroyed between the delete and the create of its renewal."""
    service = await begin(uniform_site(vms=3), limits={"retry_first_s": 2, "retry_last_s": 2, **limits})
    service.site.order(ToolFault(does=Does.REFUSE, sub_command=_CREATE, vm_uuid=service.uuid_of("vm0001"), times=None))
    return service, service.uuid_of("vm0001")


async def test_a_destroyed_vm_holds_nobody_can_be_cancelled_and_gets_its_entity_when_it_is_back(begin: Begin) -> None:
    service, uuid = await destroyed(begin)
    job = await service.renew("vm0001")
    await service.waits(job, "entity_missing")
    vm = service.site.clusters["c1"].vms.pop(uuid)
    waiting = await service.waits(job, "vm_vanished")
    assert waiting.wait_reason == "vm_vanished", shown(waiting)
    assert waiting.deadline_at is not None
    assert (await service.jobs.counts()).stranded == {}
    # Also on a cluster where no renewal was proved yet.
    other = await service.renewed("vm0002")
    assert other.outcome == "renewed", shown(other)
    await service.waits(job, "vm_vanished")
    cancelled = await service.jobs.cancel(job.id, OPERATOR)
    assert cancelled.remaining_action is not None
    assert "scan its cluster" in cancelled.remaining_action
    await service.scanned()
    assert (await service.find(job.id)).done
    service.site.faults.clear()
    service.site.clusters["c1"].vms[uuid] = vm
    await service.scanned()
    back = await service.wait_until(job, lambda now: now.attempt == 2 and now.done)
    assert back.outcome == "renewed", shown(back)
    assert service.is_renewed(vm)


async def test_a_vm_that_is_back_while_its_job_waits_is_renewed(begin: Begin) -> None:
    service, uuid = await destroyed(begin)
    job = await service.renew("vm0001")
    await service.waits(job, "entity_missing")
    vm = service.site.clusters["c1"].vms.pop(uuid)
    await service.waits(job, "vm_vanished")
    service.site.faults.clear()
    service.site.clusters["c1"].vms[uuid] = vm
    done = await service.done(job)
    assert done.outcome == "renewed", shown(done)


async def test_the_job_ends_in_time_and_another_renewal_creates_what_it_owes(begin: Begin) -> None:
    service, uuid = await destroyed(begin, vanished_timeout_s=1)
    job = await service.renew("vm0001")
    await service.waits(job, "entity_missing")
    vm = service.site.clusters["c1"].vms.pop(uuid)
    done = await service.done(job)
    assert (done.outcome, done.error_code) == ("failed", "vm-vanished"), shown(done)
    service.site.faults.clear()
    service.site.clusters["c1"].vms[uuid] = vm
    again = await service.renewed("vm0001")
    assert again.outcome == "renewed", shown(again)

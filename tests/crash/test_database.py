"""PostgreSQL goes away and comes back in the middle of everything: the jobs go on."""

import asyncio
from collections.abc import Iterator
from functools import partial

import pytest

from app.ngt.errors import Fault
from app.simulator.journal import Effect
from app.simulator.spec import uniform_site
from app.store.records.jobs import JobRecord
from tests.crash.own_database import own_database, start_database, stop_database
from tests.crash.victims import Victims, nothing_at_work, until
from tests.work.conftest import Begin
from tests.work.service import Service, shown

_JOBS = 10


@pytest.fixture
def database_url() -> Iterator[str]:
    with own_database() as url:
        yield url


# The connections that a restart broke are dropped, as there is nobody left to say goodbye to.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <function BaseConnection.__del__")
async def test_jobs_go_on_when_the_database_comes_back(begin: Begin, victims: Victims) -> None:
    service = await begin(uniform_site(vms=_JOBS), prove_first=False, max_running=4)
    service.site.tool_port.latency_s["nutanix_guest_tools_cli"] = 0.1
    await victims.begin(service)
    jobs = [await service.renew(f"vm{number:04}") for number in range(1, _JOBS + 1)]
    url = service.database.url
    for mode, deletes in (("fast", 2), ("immediate", 5)):
        await until(partial(_has_deleted, service, deletes))
        await asyncio.to_thread(stop_database, url, mode)
        # What was under way ends meanwhile, and cannot be stored.
        await nothing_at_work(service)
        await asyncio.to_thread(start_database, url)
    for job in jobs:
        done = await _done(service, job)
        assert done.outcome == "renewed", shown(done)
        assert service.is_renewed(service.site.vm(job.vm_uuid))
    effects = [record.text for record in service.site.journal.records]
    assert effects.count(Effect.DELETED) == effects.count(Effect.CREATED) == _JOBS
    assert service.site.journal.peak_without_entity("c1") <= 4


def _has_deleted(service: Service, vms: int) -> bool:
    return len(service.site.journal.calls("delete_vm_tools_entity")) >= vms


async def _done(service: Service, job: JobRecord) -> JobRecord:
    """A connection that the restart broke is found broken once."""
    for _ in range(10):
        try:
            return await service.done(job, 60)
        except Fault:
            continue
    raise AssertionError("the database does not come back")

"""PostgreSQL goes away and comes back in the middle of everything: the jobs go on."""

import asyncio
import gc
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from app.ngt.errors import Fault
from app.simulator.journal import Effect
from app.simulator.spec import uniform_site
from app.store.embedded.owner import find_owner, find_programs
from app.store.postgres.schema import migrate
from app.store.records.jobs import JobRecord
from tests.conftest import _FOR_TESTS, _embedded_postgres
from tests.crash.victims import Victims, nothing_at_work, until
from tests.limits import LIMIT_S
from tests.work.conftest import Begin
from tests.work.service import Service, shown

_JOBS = 10


@pytest.fixture
def database_url() -> Iterator[str]:
    """A server of its own, which keeps what it has committed also when it is killed."""
    with _embedded_postgres() as url:
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute("ALTER DATABASE postgres SET synchronous_commit = on")
        migrate(url)
        yield url
    # The connections that were dropped are collected here, and not in the middle of another test.
    gc.collect()


def _control(url: str, *command: str) -> None:
    folder = Path(str(conninfo_to_dict(url)["host"]))
    owner = find_owner()
    programs = find_programs(folder, owner)
    done = owner.run(programs / "pg_ctl", "-w", "-D", "cluster", "-l", "log", *command, cwd=folder, limit_s=LIMIT_S)
    assert done.returncode == 0, done.stdout


def _stop(url: str, mode: str) -> None:
    _control(url, "-m", mode, "stop")


def _start(url: str) -> None:
    folder = conninfo_to_dict(url)["host"]
    _control(url, "-o", f"-k {folder} -c listen_addresses='' {_FOR_TESTS}", "start")


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
        await asyncio.to_thread(_stop, url, mode)
        # What was under way ends meanwhile, and cannot be stored.
        await nothing_at_work(service)
        await asyncio.to_thread(_start, url)
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

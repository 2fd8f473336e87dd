"""What a killed worker leaves in the queue is in nobody's way, and is removed."""

from sqlalchemy import text

from app.simulator.spec import uniform_site
from app.store.postgres.retention import KeptDays, Removed, prune
from tests.crash.victims import Victims, until
from tests.work.conftest import Begin
from tests.work.service import Service, shown

_KEPT = KeptDays(jobs=90, idempotency=7, deliveries=14, scans=14)


async def _being_done(service: Service) -> int:
    async with service.database.transaction() as connection:
        counted = text("SELECT count(*) FROM procrastinate_jobs WHERE status = 'doing'")
        return int((await connection.execute(counted)).scalar_one())


async def _let_two_hours_pass(service: Service) -> None:
    async with service.database.transaction() as connection:
        await connection.execute(text("UPDATE procrastinate_events SET at = at - interval '2 hours'"))
        # Those of live workers beat anew within seconds.
        await connection.execute(
            text("UPDATE procrastinate_workers SET last_heartbeat = last_heartbeat - interval '2 hours'")
        )


async def test_wake_ups_of_a_killed_worker_are_removed_after_a_while(begin: Begin, victims: Victims) -> None:
    service = await begin(uniform_site(vms=3), with_worker=False, prove_first=False, max_running=3)
    service.site.tool_port.latency_s["nutanix_guest_tools_cli"] = 0.2
    jobs = [await service.renew(f"vm{number:04}") for number in range(1, 4)]
    doomed = await victims.begin(service)
    await until(lambda: bool(service.site.journal.calls("delete_vm_tools_entity")))
    await victims.killed(doomed)
    left = await _being_done(service)
    assert left > 0
    async with service.at_work():
        for job in jobs:
            done = await service.done(job)
            assert done.outcome == "renewed", shown(done)
    assert await _being_done(service) == left
    assert await prune(service.database, _KEPT) == Removed()
    await _let_two_hours_pass(service)
    assert await prune(service.database, _KEPT) == Removed(wake_ups=left)
    assert await _being_done(service) == 0

"""Scans whose worker is killed, stopped or frozen: another one does all of it again, and nothing is stored twice."""

import signal

from app.simulator.journal import Kind
from app.simulator.spec import uniform_site
from app.store.postgres.tables import SCAN
from tests.crash.victims import Victims, until
from tests.work.conftest import Begin
from tests.work.scans.test_run import stored, vm_row
from tests.work.service import Service


async def begun(service: Service, victims: Victims) -> int:
    """A worker in the middle of a scan: it waits for a guest that says nothing."""
    slow = service.site.vm_named("vm0001")
    service.site.guests[slow.uuid].faults.hangs = True
    victim = await victims.begin(service)
    guests = service.site.journal.records
    await until(lambda: any(one.kind is Kind.GUEST and one.host == slow.uuid for one in guests))
    return victim


async def assert_done_again(service: Service, scan_id: object) -> None:
    slow = service.site.vm_named("vm0001")
    service.site.guests[slow.uuid].faults.hangs = False
    (row,) = await stored(service, SCAN)
    async with service.at_work():
        done = await service.scan_ended(row["id"])
    assert (done.id, done.outcome, done.counts.guests_failed) == (scan_id, "complete", 0), done
    assert (await vm_row(service, slow))["certificate_source"] == "guest_certificate"
    (row,) = await stored(service, SCAN)
    assert row["fence"] == 2


async def test_a_scan_whose_worker_is_killed_is_done_again_by_another(begin: Begin, victims: Victims) -> None:
    service = await begin(uniform_site(vms=3), with_worker=False)
    scan = await service.scan()
    await victims.killed(await begun(service, victims))
    assert not (await stored(service, SCAN))[0]["done"]
    await assert_done_again(service, scan.id)


async def test_a_worker_that_is_asked_to_stop_puts_its_scan_back_and_does_not_wait_for_it(
    begin: Begin, victims: Victims
) -> None:
    # The guest would be waited for much longer than the test may last.
    service = await begin(uniform_site(vms=3), with_worker=False, scan={"guest_timeout_s": 600})
    scan = await service.scan()
    victim = await begun(service, victims)
    victims.send(victim, signal.SIGTERM)
    await victims.gone(victim)
    (row,) = await stored(service, SCAN)
    assert (row["status"], row["done"], row["lease_until"]) == ("queued", False, None)
    assert row["message"] == "the service stopped; the scan begins anew"
    await assert_done_again(service, scan.id)


async def test_a_worker_that_froze_for_longer_than_its_lease_stores_nothing_any_more(
    begin: Begin, victims: Victims
) -> None:
    service = await begin(uniform_site(vms=3), with_worker=False, scan={"guest_timeout_s": 1})
    scan = await service.scan()
    victim = await begun(service, victims)
    victims.send(victim, signal.SIGSTOP)
    await assert_done_again(service, scan.id)
    done = await service.scans.find(scan.id)
    victims.send(victim, signal.SIGCONT)
    # Stopped by the same hand as any other, it has nothing more to say.
    victims.send(victim, signal.SIGTERM)
    await victims.gone(victim)
    assert await service.scans.find(scan.id) == done

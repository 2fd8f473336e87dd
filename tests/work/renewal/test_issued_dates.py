"""A cluster that shows the date of what it issued, whoever has it, and whose link is active with any certificate.

Nobody is told that a VM's certificate is good because of that date.
"""

from typing import Any

from app.simulator.spec import ReportedExpiry, Traits, uniform_site
from tests.work.conftest import Begin
from tests.work.scans.test_run import vm_row
from tests.work.service import Service, shown

_TRAITS = Traits(reported_expiry=ReportedExpiry.ISSUED, serial_port=True)


async def begun(begin: Begin, **settings: Any) -> Service:
    """What is known before any renewal is the installed certificate's date."""
    service = await begin(uniform_site(vms=2, traits=_TRAITS), guests=False, **settings)
    await service.scanned()
    return service


async def test_a_scan_before_the_mount_keeps_the_date_of_the_certificate_that_the_vm_has(begin: Begin) -> None:
    service = await begun(begin)
    before = (await vm_row(service, "vm0001"))["not_after"]
    service.site.vm_named("vm0001").slot_taken = True
    await service.waits(await service.renew("vm0001"), "no_free_cdrom_slot")
    await service.scanned()
    row = await vm_row(service, "vm0001")
    assert (row["iso_mounted"], row["link_active"], row["not_after"]) == (False, True, before)
    assert row["awaiting_pickup_since"] is not None


async def test_a_certificate_that_was_not_seen_is_neither_shown_nor_a_reason_to_leave_the_vm_alone(
    begin: Begin,
) -> None:
    service = await begun(begin, verify_timeout_s=1)
    before = (await vm_row(service, "vm0001"))["not_after"]
    done = await service.renewed("vm0001")
    assert (done.outcome, done.error_code) == ("failed", "certificate-not-renewed"), shown(done)
    await service.scanned()
    row = await vm_row(service, "vm0001")
    assert (row["certificate_source"], row["not_after"]) == ("cvm_expiry_date", before)
    assert row["awaiting_pickup_since"] is not None
    again = await service.renewed("vm0001", skip_if_valid_days=60)
    assert again.outcome != "already_valid", shown(again)

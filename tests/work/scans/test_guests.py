"""The guests of a scan: read over SSH, each within its time, and only what is the VM's own certificate counts."""

import time

from app.simulator.certificates import issue
from app.simulator.faults import Does, ToolFault
from app.simulator.journal import Kind
from app.simulator.spec import ClusterSpec, Os, SiteSpec, VmSpec, uniform_site
from tests.work.clusters.test_slots_and_pauses import peak
from tests.work.conftest import Begin
from tests.work.scans.test_run import complete, sources, vm_row
from tests.work.service import Service


async def test_a_guest_that_hangs_is_given_up_and_holds_up_no_other(begin: Begin) -> None:
    service = await begin(uniform_site(vms=6), scan={"guest_timeout_s": 1, "guests_at_once": 2})
    slow = service.site.vm_named("vm0001")
    service.site.guests[slow.uuid].faults.hangs = True
    scan = await complete(service)
    assert (scan.counts.guests_asked, scan.counts.guests_failed) == (6, 1)
    assert "5 of 6 guests showed a certificate" in scan.message
    row = await vm_row(service, slow)
    assert (row["guest_fault_code"], row["certificate_source"]) == ("guest-not-reached", "cvm_expiry_date")
    assert "did not answer within 1 s" in row["guest_fault"]
    assert row["guest_fault_at"] is not None
    assert (await vm_row(service, "vm0002"))["certificate_source"] == "guest_certificate"
    service.site.guests[slow.uuid].faults.hangs = False
    await complete(service)
    row = await vm_row(service, slow)
    assert (row["guest_fault_code"], row["guest_fault"], row["guest_fault_at"]) == (None, None, None)
    assert row["certificate_source"] == "guest_certificate"


async def test_no_more_guests_are_read_at_a_time_than_is_allowed(begin: Begin) -> None:
    service = await begin(uniform_site(vms=12), scan={"guests_at_once": 3})
    await complete(service)
    guests = [record for record in service.site.journal.records if record.kind is Kind.GUEST]
    assert len(guests) == 24
    assert peak(guests) <= 3


async def test_each_failure_of_a_guest_is_told_at_its_vm(begin: Begin) -> None:
    service = await begin(uniform_site(vms=4))
    down, refuses, empty, _ = (service.site.vm_named(f"vm000{number}") for number in (1, 2, 3, 4))
    await service.site.guests[down.uuid].down()
    service.site.guests[refuses.uuid].faults.login_refused = True
    empty.installed = None
    scan = await complete(service)
    assert (scan.counts.guests_asked, scan.counts.guests_failed) == (4, 3)
    faults = [(await vm_row(service, f"vm000{number}"))["guest_fault_code"] for number in (1, 2, 3, 4)]
    assert faults == ["guest-not-reached", "ssh-auth-failed", "guest-certificate-missing", None]
    assert "No such file" in (await vm_row(service, empty))["guest_fault"]


async def test_a_guest_that_names_another_entity_is_not_believed(begin: Begin) -> None:
    # The clone has got an entity of its own, and its guest still has the files of the original.
    spec = SiteSpec((ClusterSpec("c1", 1, (VmSpec("web01"), VmSpec("clone"))),))
    service = await begin(spec)
    original, clone = service.site.vm_named("web01"), service.site.vm_named("clone")
    own = clone.installed
    clone.installed = original.installed
    assert own is not None
    assert original.installed is not None
    scan = await complete(service)
    assert (scan.counts.guests_asked, scan.counts.guests_failed) == (2, 1)
    row = await vm_row(service, clone)
    assert row["guest_fault_code"] == "guest-names-another-entity"
    assert original.installed.ngt_uuid in row["guest_fault"]
    assert own.ngt_uuid in row["guest_fault"]
    assert (await sources(service, "clone")).keys() == {"cvm_expiry_date"}
    assert (await vm_row(service, original))["certificate_source"] == "guest_certificate"


async def test_a_guest_that_names_the_entity_of_another_vm_is_not_believed_though_its_own_is_not_known(
    begin: Begin,
) -> None:
    vms = (VmSpec("web01"), VmSpec("clone", clone_of="web01", entity=False))
    service = await begin(SiteSpec((ClusterSpec("c1", 1, vms),)))
    await complete(service)
    service.site.order(ToolFault(does=Does.REFUSE, sub_command="query_vm_tools_entities", times=None))
    scan = await service.scanned()
    assert (scan.outcome, scan.counts.guests_asked, scan.counts.guests_failed) == ("partial", 2, 1), scan
    row = await vm_row(service, "clone")
    assert (row["guest_fault_code"], row["not_after"]) == ("guest-names-another-entity", None)
    assert service.uuid_of("web01") in row["guest_fault"]
    assert (await vm_row(service, "web01"))["certificate_source"] == "guest_certificate"


async def test_a_vm_that_was_renewed_during_the_scan_is_asked_for_once_more(begin: Begin) -> None:
    service = await begin(uniform_site(vms=2))
    await complete(service)
    vm = service.site.vm_named("vm0001")
    cluster = service.worker.clusters["c1"]
    query = cluster.query

    async def renewed_after_the_query(*wanted: object, **more: object) -> object:
        found = await query(*wanted, **more)  # type: ignore[arg-type]
        if vm.entity is not None and vm.installed is not None and vm.entity.ngt_uuid == old:
            vm.entity.ngt_uuid = "11111111-1111-4111-8111-111111111111"
            vm.installed = issue(vm.entity.ngt_uuid, not_before=time.time())
            vm.entity.certificate = vm.installed
        return found

    assert vm.entity is not None
    old = vm.entity.ngt_uuid
    vars(cluster)["query"] = renewed_after_the_query
    scan = await complete(service)
    assert scan.counts.guests_failed == 0
    row = await vm_row(service, vm)
    assert (row["guest_fault"], row["subject"]) == (None, "CN=11111111-1111-4111-8111-111111111111")


async def test_guests_that_are_off_or_not_configured_are_not_asked(begin: Begin) -> None:
    vms = (VmSpec("on"), VmSpec("off", powered_on=False), VmSpec("elsewhere", addresses=("10.9.9.9",)))
    service = await begin(SiteSpec((ClusterSpec("c1", 1, vms),)))
    scan = await complete(service)
    assert (scan.counts.guests_asked, scan.counts.guests_failed) == (1, 0)
    asked = {record.host for record in service.site.journal.records if record.kind is Kind.GUEST}
    assert asked == {service.uuid_of("on")}


async def test_nothing_but_the_two_public_files_is_ever_asked_for(begin: Begin) -> None:
    vms = (VmSpec("linux"), VmSpec("windows", os=Os.WINDOWS), VmSpec("silent"))
    service = await begin(SiteSpec((ClusterSpec("c1", 1, vms),)), scan={"guest_timeout_s": 1})
    service.site.guests[service.uuid_of("silent")].faults.hangs = True
    await complete(service)
    await complete(service, vm="windows")
    _assert_only_public_files(service)
    assert service.site.journal.violations() == []


def _assert_only_public_files(service: Service) -> None:
    texts = {record.text for record in service.site.journal.records if record.kind is Kind.GUEST}
    assert texts
    assert all("client-cert.pem" in text or "ngt_config.json" in text for text in texts)

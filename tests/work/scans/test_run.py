"""Scans of clusters: what is stored of every VM, and that whatever fails takes nothing away that was known."""

import asyncio
import gc
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from app.ngt.vocabulary import VmUuid
from app.simulator.faults import Does, ToolFault
from app.simulator.model import SimulatedVm
from app.simulator.spec import ClusterSpec, ReportedExpiry, SiteSpec, Traits, VmSpec, demo_site, uniform_site
from app.store.postgres.tables import CERTIFICATE_OBSERVATION, CLUSTER, CVM, VM
from app.store.records.scans import ScanOrigin, ScanRecord
from app.work.clusters.client import Listing, Query
from tests.crash.victims import until
from tests.work.conftest import Begin
from tests.work.service import OPERATOR, Service

TWO_CLUSTERS = SiteSpec(
    (ClusterSpec("c1", 1, (VmSpec("web01"), VmSpec("web02"))), ClusterSpec("c2", 1, (VmSpec("db01"),)))
)
Row = Mapping[str, Any]


async def stored(service: Service, table: Any, **equal: object) -> list[Row]:
    async with service.database.transaction() as connection:
        conditions = [table.c[name] == value for name, value in equal.items()]
        return [dict(row) for row in (await connection.execute(select(table).where(*conditions))).mappings()]


async def vm_row(service: Service, vm: str | SimulatedVm, cluster: str = "c1") -> Row:
    (row,) = await stored(service, VM, vm_uuid=service.uuid_of(vm), cluster=cluster)
    return row


async def cluster_row(service: Service, name: str = "c1") -> Row:
    (row,) = await stored(service, CLUSTER, name=name)
    return row


async def sources(service: Service, vm: str) -> dict[str, datetime]:
    rows = await stored(service, CERTIFICATE_OBSERVATION, vm_uuid=service.uuid_of(vm))
    return {row["source"]: row["not_after"] for row in rows}


def counts(scan: ScanRecord) -> tuple[int | None, ...]:
    return scan.counts.vms_seen, scan.counts.vms_new, scan.counts.vms_vanished


async def complete(service: Service, cluster: str = "c1", vm: str | SimulatedVm | None = None) -> ScanRecord:
    scan = await service.scanned(cluster, vm)
    assert (scan.outcome, scan.error_code) == ("complete", None), scan
    return scan


# What is stored.


async def test_a_scan_stores_every_vm_but_the_controller_vms(begin_on_both: Begin) -> None:
    service = await begin_on_both(demo_site())
    scan = await complete(service)
    # The clone has no entity, and one VM is switched off: their guests are not asked.
    assert counts(scan) == (11, 11, 0)
    assert (scan.counts.dates_seen, scan.counts.guests_asked, scan.counts.guests_failed) == (10, 9, 0)
    assert "11 VMs seen" in scan.message
    rows = {row["vm_uuid"]: row for row in await stored(service, VM)}
    in_listing = {vm.uuid for vm in service.site.clusters["c1"].vms.values() if not vm.controller_vm}
    assert rows.keys() == in_listing
    web01 = rows[service.uuid_of("web01")]
    entity = service.site.vm_named("web01").entity
    assert entity is not None
    assert (web01["name"], web01["power"], web01["addresses"]) == ("web01", "on", ["127.1.0.1"])
    assert (web01["ngt_enabled"], web01["iso_mounted"], web01["link_active"]) == (True, False, True)
    assert (web01["vss_snapshot"], web01["file_level_restore"]) == (True, True)
    assert (web01["has_entity"], web01["ngt_uuid"]) == (True, entity.ngt_uuid)
    assert web01["first_seen_at"] == web01["last_seen_at"]
    assert web01["vanished_at"] is web01["guest_fault"] is None
    clone = rows[service.uuid_of("web01-clone")]
    assert (clone["has_entity"], clone["ngt_uuid"], clone["not_after"]) == (False, None, None)
    assert rows[service.uuid_of("switched-off")]["power"] == "off"
    assert rows[service.uuid_of("会計サーバー")]["name"] == "会計サーバー"


async def test_each_source_of_a_date_is_stored_and_the_guest_s_own_certificate_counts(begin: Begin) -> None:
    service = await begin(demo_site())
    await complete(service)
    installed = service.site.vm_named("db01").installed
    assert installed is not None
    not_after = datetime.fromtimestamp(installed.not_after, UTC)
    assert await sources(service, "db01") == {"guest_certificate": not_after, "cvm_expiry_date": not_after}
    db01 = await vm_row(service, "db01")
    assert (db01["certificate_source"], db01["not_after"]) == ("guest_certificate", not_after)
    assert (db01["serial"], db01["subject"]) == (f"{installed.serial:x}", f"CN={installed.ngt_uuid}")
    assert db01["issuer"].startswith("CN=")
    assert len(db01["fingerprint"]) == 64
    assert (await vm_row(service, "switched-off"))["certificate_source"] == "cvm_expiry_date"


async def test_one_listing_and_one_query_do_for_all_vms(begin: Begin) -> None:
    service = await begin(uniform_site(vms=30), guests=False)
    scan = await complete(service)
    assert (counts(scan), scan.counts.guests_asked) == ((30, 30, 0), 0)
    assert service.site.journal.listings("c1") == 1
    assert len(service.site.journal.calls("query_vm_tools_entities")) == 1


async def test_where_ncli_prints_only_text_the_rest_is_known_from_the_entities(begin: Begin) -> None:
    service = await begin(uniform_site(vms=3, traits=Traits(ncli_json=False, serial_port=True)))
    service.site.cluster_of(service.uuid_of("vm0002")).delete_vm_tools_entity(service.uuid_of("vm0002"))
    scan = await complete(service)
    # Whether a VM is on is not said, so every guest that may be is asked.
    assert (counts(scan), scan.counts.guests_asked, scan.counts.guests_failed) == ((3, 3, 0), 2, 0)
    one, other = await vm_row(service, "vm0001"), await vm_row(service, "vm0002")
    assert (one["power"], one["ngt_enabled"], one["link_active"]) == (None, True, True)
    assert (one["communication_type"], one["certificate_source"]) == ("kSerialPort", "guest_certificate")
    assert (other["ngt_enabled"], other["has_entity"], other["certificate_source"]) == (None, False, None)


async def test_a_second_scan_stores_what_changed_and_keeps_when_a_vm_was_first_seen(begin: Begin) -> None:
    service = await begin(uniform_site(vms=2), guests=False)
    await complete(service)
    before = await vm_row(service, "vm0001")
    vm = service.site.vm_named("vm0001")
    vm.name, vm.addresses = "renamed", ("10.9.9.9",)
    await service.site.switch_power(vm.uuid, on=False)
    assert counts(await complete(service)) == (2, 0, 0)
    after = await vm_row(service, vm)
    assert (after["name"], after["addresses"], after["power"]) == ("renamed", ["10.9.9.9"], "off")
    assert after["first_seen_at"] == before["first_seen_at"]
    assert after["last_seen_at"] > before["last_seen_at"]
    row = await cluster_row(service)
    assert row["scanned_at"] == after["last_seen_at"]


async def test_the_dates_of_a_vm_that_was_renewed_are_new_after_the_next_scan(begin: Begin) -> None:
    service = await begin(uniform_site(vms=1))
    await complete(service)
    old = (await vm_row(service, "vm0001"))["not_after"]
    assert (await service.renewed("vm0001")).outcome == "renewed"
    await complete(service)
    row = await vm_row(service, "vm0001")
    assert row["not_after"] > old + timedelta(days=900)
    assert set((await sources(service, "vm0001")).values()) == {row["not_after"]}


# VMs that go and come.


async def test_a_vm_that_vanished_is_marked_and_comes_back(begin: Begin) -> None:
    service = await begin(uniform_site(vms=3), guests=False)
    await complete(service)
    vms = service.site.clusters["c1"].vms
    gone = service.site.vm_named("vm0002")
    del vms[gone.uuid]
    assert counts(await complete(service)) == (2, 0, 1)
    first = await vm_row(service, gone)
    assert first["vanished_at"] is not None
    assert first["not_after"] is not None
    assert counts(await complete(service)) == (2, 0, 0)
    assert (await vm_row(service, gone))["vanished_at"] == first["vanished_at"]
    vms[gone.uuid] = gone
    assert counts(await complete(service)) == (3, 0, 0)
    assert (await vm_row(service, gone))["vanished_at"] is None


async def test_an_answer_that_was_long_in_coming_shows_what_was_when_it_was_asked_for(begin: Begin) -> None:
    service = await begin(uniform_site(vms=2), guests=False)
    await complete(service)
    renewed, made_since = service.site.vm_named("vm0001"), service.site.vm_named("vm0002")
    before = await vm_row(service, renewed)
    half_an_hour_ago = before["last_seen_at"] - timedelta(minutes=30)
    seen = {"last_seen_at": half_an_hour_ago, "renewed_at": half_an_hour_ago}
    async with service.database.transaction() as connection:
        await connection.execute(VM.update().values(**seen))
        await connection.execute(CERTIFICATE_OBSERVATION.delete())
    del service.site.clusters["c1"].vms[made_since.uuid]
    cluster = service.worker.clusters["c1"]
    listing, query = cluster.listing, cluster.query

    async def long_listing(**how: Any) -> Listing:
        return replace(await listing(**how), duration_s=3600)

    async def long_query(*wanted: Any, **how: Any) -> Query:
        found = await query(*wanted, **how)
        return replace(found, asked=replace(found.asked, result=replace(found.asked.result, duration_s=3600)))

    vars(cluster).update(listing=long_listing, query=long_query)
    await complete(service)
    assert await sources(service, "vm0001") == {}
    assert (await vm_row(service, made_since))["vanished_at"] is None


async def test_a_vm_that_moved_to_another_cluster_is_new_there_and_gone_here(begin: Begin) -> None:
    service = await begin(TWO_CLUSTERS, guests=False)
    await complete(service, "c1")
    await complete(service, "c2")
    c1, c2 = service.site.clusters["c1"], service.site.clusters["c2"]
    moved = service.site.vm_named("web02")
    c2.vms[moved.uuid] = c1.vms.pop(moved.uuid)
    assert counts(await complete(service, "c2")) == (2, 1, 0)
    assert (await vm_row(service, moved, "c1"))["vanished_at"] is None
    assert counts(await complete(service, "c1")) == (1, 0, 1)
    assert (await vm_row(service, moved, "c1"))["vanished_at"] is not None
    assert (await vm_row(service, moved, "c2"))["vanished_at"] is None


async def test_a_cluster_that_lists_no_vm_at_all_has_not_lost_them(begin: Begin) -> None:
    service = await begin(uniform_site(vms=2), guests=False)
    await complete(service)
    service.site.clusters["c1"].vms.clear()
    scan = await service.scanned()
    assert (scan.outcome, scan.error_code) == ("failed", "unexpected-output")
    assert scan.error_message is not None
    assert "lists no VM at all" in scan.error_message
    assert [row["vanished_at"] for row in await stored(service, VM)] == [None, None]


async def test_an_empty_cluster_is_scanned_as_well_as_any(begin: Begin) -> None:
    service = await begin(uniform_site(vms=0), guests=False)
    assert counts(await complete(service)) == (0, 0, 0)
    assert (await cluster_row(service))["scanned_at"] is not None


# What goes wrong.


async def test_a_cluster_that_is_down_says_so_keeps_its_rows_and_holds_up_no_other(begin: Begin) -> None:
    service = await begin(TWO_CLUSTERS, guests=False, limits={"retry_first_s": 0.05, "retry_last_s": 0.1})
    await complete(service, "c1")
    await service.site.cvms["c1"][0].down()
    failed, well = await service.scanned("c1"), await complete(service, "c2")
    assert (failed.status, failed.outcome, failed.error_code) == ("failed", "failed", "cvm-unreachable")
    assert failed.error_message is not None
    assert failed.error_message in failed.message
    assert counts(well) == (1, 1, 0)
    row = await cluster_row(service, "c1")
    assert (row["scan_fault_code"], row["scan_fault"]) == ("cvm-unreachable", failed.error_message)
    assert row["scanned_at"] < row["scan_fault_at"]
    assert (await vm_row(service, "web01"))["vanished_at"] is None
    (cvm,) = await stored(service, CVM, cluster="c1")
    assert (cvm["is_up"], cvm["fault_code"]) == (False, "cvm-unreachable")
    await service.site.cvms["c1"][0].up()
    await service.scan_ended((await service.scan("c1")).id)


async def test_a_slow_cluster_holds_up_no_other(begin: Begin) -> None:
    service = await begin(TWO_CLUSTERS, guests=False)
    for listing in ("vm ls", "vm list"):
        service.site.order(ToolFault(does=Does.HANG, host="c1-cvm0", sub_command=listing))
    slow = await service.scan("c1")
    await complete(service, "c2")
    assert not (await service.scans.find(slow.id) or slow).done
    ended = await service.scan_ended(slow.id)
    assert (ended.outcome, ended.error_code) == ("failed", "command-timeout")


async def test_a_stop_in_the_middle_of_a_listing_is_no_error_of_the_log(begin: Begin) -> None:
    service = await begin(TWO_CLUSTERS, guests=False, with_worker=False)
    service.site.order(ToolFault(does=Does.HANG, sub_command="vm ls", times=None))
    unheard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
    scan = await service.scan("c1")
    async with service.at_work():
        await until(lambda: bool(service.site.journal.calls("vm ls")))
    gc.collect()
    assert unheard == []
    assert (await service.scans.find(scan.id) or scan).message == "the service stopped; the scan begins anew"


@pytest.mark.parametrize("ncli_json", [True, False])
async def test_a_torn_listing_changes_nothing(begin: Begin, ncli_json: bool) -> None:
    service = await begin(uniform_site(vms=3, cvms=1, traits=Traits(ncli_json=ncli_json)), guests=False)
    await complete(service)
    before = await stored(service, VM)
    cut = service.site.tool_port.tools_directory / "ncli"
    whole = cut.read_text()
    cut.rename(cut.with_name("whole-ncli"))
    cut.write_text(
        f'#!/bin/bash\nout=$("{cut.with_name("whole-ncli")}" "$@"); rc=$?; printf %s "${{out:0:700}}"; exit $rc\n'
    )
    cut.chmod(0o755)
    scan = await service.scanned()
    assert (scan.outcome, scan.error_code) == ("failed", "unexpected-output"), scan
    assert await stored(service, VM) == before
    assert (await cluster_row(service))["scan_fault_code"] == "unexpected-output"
    cut.write_text(whole)
    await complete(service)
    assert (await cluster_row(service))["scan_fault_code"] is None


@pytest.mark.parametrize("does", [Does.GARBAGE, Does.NO_ANSWER, Does.REFUSE, Does.HANG])
async def test_a_query_that_fails_makes_the_scan_partial_and_keeps_what_was_known(begin: Begin, does: Does) -> None:
    service = await begin(uniform_site(vms=3, cvms=1), limits={"look_timeout_s": 1})
    await complete(service)
    before = await vm_row(service, "vm0001")
    gone = service.site.vm_named("vm0003")
    del service.site.clusters["c1"].vms[gone.uuid]
    service.site.vm_named("vm0001").name = "renamed"
    service.site.order(ToolFault(does=does, sub_command="query_vm_tools_entities", times=None))
    scan = await service.scanned()
    assert (scan.status, scan.outcome) == ("succeeded", "partial"), scan
    assert scan.error_code in {"unexpected-output", "command-timeout"}
    assert "stored certificate dates are unchanged" in scan.message
    assert (counts(scan), scan.counts.dates_seen, scan.counts.guests_failed) == ((2, 0, 1), None, 0)
    after = await vm_row(service, service.site.vm_named("renamed"))
    kept = ("has_entity", "ngt_uuid", "link_active", "vss_snapshot", "file_level_restore", "not_after")
    assert [after[name] for name in kept] == [before[name] for name in kept]
    assert after["name"] == "renamed"
    assert (await vm_row(service, gone))["vanished_at"] is not None
    row = await cluster_row(service)
    assert row["scan_fault_code"] == scan.error_code
    assert row["scanned_at"] == before["last_seen_at"]


async def test_a_query_that_lists_nobody_is_not_believed_where_ncli_says_otherwise(begin: Begin) -> None:
    service = await begin(uniform_site(vms=2, cvms=1), guests=False)
    await complete(service)
    tool = service.site.tool_port.tools_directory / "nutanix_guest_tools_cli"
    tool.write_text('#!/bin/bash\n[ $# = 0 ] && echo query_vm_tools_entities || echo "result_vec: kNoError"\n')
    scan = await service.scanned()
    assert (scan.outcome, scan.error_code) == ("partial", "unexpected-output")
    assert (await vm_row(service, "vm0001"))["has_entity"] is True


async def test_a_cluster_without_dates_is_scanned_whole_all_the_same(begin: Begin) -> None:
    traits = Traits(reported_expiry=ReportedExpiry.ABSENT)
    service = await begin(uniform_site(vms=2, traits=traits), guests=False)
    scan = await complete(service)
    assert scan.counts.dates_seen == 0
    row = await vm_row(service, "vm0001")
    assert (row["has_entity"], row["not_after"]) == (True, None)


async def test_a_cluster_that_is_not_configured_any_more_ends_its_scan(begin: Begin) -> None:
    service = await begin(uniform_site(vms=1))
    started = await service.scans.start("gone", origin=ScanOrigin.REQUESTED, caller=OPERATOR)
    scan = await service.scan_ended(started.scan.id)
    assert (scan.outcome, scan.error_code) == ("failed", "cluster-not-found")


# One VM.


async def test_a_scan_of_one_vm_does_the_same_for_that_one_alone(begin: Begin) -> None:
    service = await begin(demo_site())
    scan = await complete(service, vm="db01")
    assert (counts(scan), scan.counts.dates_seen, scan.counts.guests_asked) == ((1, 1, 0), 1, 1)
    (row,) = await stored(service, VM)
    assert (row["name"], row["certificate_source"], row["has_entity"]) == ("db01", "guest_certificate", True)
    assert (await cluster_row(service))["scanned_at"] is None
    # The listing of a moment ago serves the next one too, and the entity is asked for anew.
    await complete(service, vm="web01")
    assert service.site.journal.listings("c1") == 1
    assert len(service.site.journal.calls("query_vm_tools_entities")) == 2


async def test_that_one_vm_is_gone_is_believed_of_a_new_listing_alone(begin: Begin) -> None:
    service = await begin(uniform_site(vms=2), guests=False)
    await complete(service)
    new = service.site.clusters["c1"].add_vm(VmSpec("new"), addresses=("10.0.0.9",))
    assert counts(await complete(service, vm=new)) == (1, 1, 0)
    gone = service.site.vm_named("vm0002")
    del service.site.clusters["c1"].vms[gone.uuid]
    started = await service.scans.start("c1", vm_uuid=VmUuid(gone.uuid), origin=ScanOrigin.REFRESH, caller=OPERATOR)
    # The listing that is known still has it.
    scan = await service.scan_ended(started.scan.id)
    assert counts(scan) == (1, 0, 0)
    await complete(service, vm=service.site.vm_named("vm0001"))
    service.worker.clusters["c1"]._listing = None
    ended = await service.scans.start("c1", vm_uuid=VmUuid(gone.uuid), origin=ScanOrigin.REFRESH, caller=OPERATOR)
    scan = await service.scan_ended(ended.scan.id)
    assert (counts(scan), scan.message) == ((0, 0, 1), f"VM {gone.uuid} is not on c1")
    assert (await vm_row(service, gone))["vanished_at"] is not None


async def test_a_controller_vm_is_not_scanned(begin: Begin) -> None:
    service = await begin(demo_site())
    scan = await service.scanned(vm="NTNX-CVM-A")
    assert (scan.outcome, scan.error_code) == ("failed", "controller-vm")
    assert await stored(service, VM) == []

"""What a diagnosis reads: which row of a VM counts, which job, and what the watch saw since the last scan."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func

from app.ngt.diagnosis.facts import ClusterFacts, KnownCertificateDates
from app.ngt.errors import Fault, FaultCode
from app.ngt.renewal.progress import Before, EntityStage, GuestSighting, Progress, Sighting, WaitReason
from app.ngt.renewal.request import RenewalRequest
from app.ngt.vocabulary import CertificateSource, CvmState, PowerState, VmToolsEntity, VmUuid
from app.store.diagnosis import DiagnosisFacts, StoredFacts
from app.store.inventory.scan_results import Inventory
from app.store.jobs.commands import Jobs
from app.store.jobs.progress_json import dump_progress, dump_sighting
from app.store.observations import store_observations
from app.store.postgres.database import Database
from app.store.postgres.queue import WakeUps
from app.store.postgres.tables import CLUSTER, CVM, PAUSE, VM
from app.store.records.inventory import Observation
from app.store.records.scans import ScanOrigin, ScanOutcome
from app.store.scans.claims import ScanClaims, ScanEnd
from app.store.scans.start import start_scan
from tests.store.conftest import ANN, BEN, Leave, new_vm, renewal

TODAY = datetime(2026, 11, 24, tzinfo=UTC)
ENTITY = VmToolsEntity(
    vm_uuid=VmUuid("20edafba-0644-4e57-a3cf-4abef2f69a5f"),
    ngt_uuid="new",
    name="web01",
    enabled=True,
    iso_mounted=False,
    vss_snapshot=True,
    file_level_restore=False,
    link_active=True,
    communication_type="kSerialPort",
    client_cert_expiry_date=None,
)


def days(number: float) -> timedelta:
    return timedelta(days=number)


@pytest.fixture
def known(database: Database) -> DiagnosisFacts:
    return DiagnosisFacts(database)


async def write(database: Database, vm: VmUuid, cluster: str = "c1", **columns: Any) -> None:
    async with database.transaction() as connection:
        await connection.execute(VM.insert().values(vm_uuid=vm, cluster=cluster, **columns))


async def read(known: DiagnosisFacts, vm: VmUuid, *clusters: str) -> StoredFacts:
    stored = await known.read(vm, clusters or ("c1", "c2"), ANN)
    assert stored is not None
    return stored


async def test_a_vm_that_nobody_has_seen_has_no_facts(database: Database, known: DiagnosisFacts) -> None:
    vm = new_vm()
    await write(database, vm, "c1")
    assert await known.read(vm, ("c2",), ANN) is None
    assert await known.read(vm, (), ANN) is None
    assert await known.read(new_vm(), ("c1",), ANN) is None


@pytest.mark.parametrize(
    ("on_c1", "on_c2", "counts"),
    [
        ({"last_seen_at": TODAY}, {"last_seen_at": TODAY - days(1)}, "c1"),
        ({"last_seen_at": TODAY - days(1)}, {"observed_at": TODAY}, "c2"),
        ({"last_seen_at": TODAY, "vanished_at": TODAY}, {"last_seen_at": TODAY - days(30)}, "c2"),
        ({}, {"last_seen_at": TODAY}, "c2"),
    ],
)
async def test_the_row_that_counts_is_where_the_vm_is(
    database: Database, known: DiagnosisFacts, on_c1: dict[str, Any], on_c2: dict[str, Any], counts: str
) -> None:
    vm = new_vm()
    await write(database, vm, "c1", **on_c1)
    await write(database, vm, "c2", **on_c2)
    assert (await read(known, vm)).facts.vm.cluster == counts


async def test_what_the_last_scan_saw_is_read(database: Database, known: DiagnosisFacts) -> None:
    vm = new_vm()
    seen: dict[str, Any] = {
        "name": "web01",
        "has_entity": True,
        "ngt_uuid": "own",
        "ngt_enabled": True,
        "iso_mounted": True,
        "link_active": False,
        "communication_type": "kIPv4",
        "guest_fault_code": "guest-not-reached",
        "guest_fault": "10.1.0.5 does not answer",
        "renewed_at": TODAY - days(900),
        "awaiting_pickup_since": TODAY - days(1),
    }
    await write(database, vm, power="off", addresses=["10.1.0.5"], last_seen_at=TODAY, **seen)
    said = [
        Observation(vm, source, TODAY, TODAY + days(left))
        for source, left in ((CertificateSource.GUEST_CERTIFICATE, 10), (CertificateSource.PUSHED_CERTIFICATE, 20))
    ]
    async with database.transaction() as connection:
        await store_observations(connection, "c1", said)
    facts = (await read(known, vm)).facts.vm
    assert {name: getattr(facts, name) for name in seen} == seen
    assert (facts.power, facts.addresses, facts.seen_at) == (PowerState.OFF, ("10.1.0.5",), TODAY)
    assert facts.certificate == KnownCertificateDates(CertificateSource.GUEST_CERTIFICATE, TODAY, TODAY + days(10))
    assert facts.date_sources == {CertificateSource.GUEST_CERTIFICATE, CertificateSource.PUSHED_CERTIFICATE}


async def test_a_later_sighting_of_the_watch_counts_and_an_earlier_one_does_not(
    database: Database, known: DiagnosisFacts
) -> None:
    later, earlier, gone = new_vm(), new_vm(), new_vm()
    scanned: dict[str, Any] = {"last_seen_at": TODAY, "link_active": False, "has_entity": True, "power": "on"}
    for vm, at, entity in ((later, 1, ENTITY), (earlier, -1, ENTITY), (gone, 1, None)):
        sighting = Sighting(TODAY + days(at), entity, PowerState.OFF if vm == later else PowerState.UNKNOWN)
        await write(database, vm, sighting=dump_sighting(sighting), observed_at=sighting.at, **scanned)
    facts = (await read(known, later)).facts.vm
    assert (facts.seen_at, facts.link_active, facts.power) == (TODAY + days(1), True, PowerState.OFF)
    assert (facts.name, facts.ngt_uuid, facts.communication_type) == ("web01", "new", "kSerialPort")
    facts = (await read(known, earlier)).facts.vm
    assert (facts.seen_at, facts.link_active, facts.ngt_uuid) == (TODAY, False, None)
    facts = (await read(known, gone)).facts.vm
    assert (facts.has_entity, facts.link_active, facts.power) == (False, None, PowerState.ON)


async def test_the_last_renewal_that_was_to_change_something_is_read_with_what_it_learnt(
    database: Database, known: DiagnosisFacts, jobs: Jobs, leave: Leave
) -> None:
    vm = new_vm()
    await write(database, vm)
    assert (await read(known, vm)).facts.job is None
    first = (await jobs.start_renewal(renewal(vm))).job
    await leave(first.id, status="failed", done=True, outcome="failed")
    second = (await jobs.start_renewal(renewal(vm))).job
    plan = (await jobs.start_renewal(renewal(vm, validate_only=True))).job
    assert plan.created_at >= second.created_at
    guest = GuestSighting(TODAY, None, "another", "10.1.0.5:2222", "SHA256:key")
    progress = Progress(
        vm_uuid=vm,
        request=RenewalRequest(),
        before=Before(Sighting(TODAY, replace(ENTITY, ngt_uuid="old")), guest),
        entity=EntityStage.ISSUED,
        delete_begun=True,
        seen=Sighting(TODAY, ENTITY),
    )
    await leave(
        second.id,
        status="waiting",
        wait_reason="agent_restart",
        message="restart the agent",
        stranded_since=TODAY,
        progress=dump_progress(progress),
        error_code="no-free-cdrom",
        remaining_action="start the VM",
    )
    job = (await read(known, vm)).facts.job
    assert job is not None
    assert (job.id, job.done, job.outcome, job.message) == (second.id, False, None, "restart the agent")
    assert (job.wait_reason, job.error_code) == (WaitReason.AGENT_RESTART, FaultCode.NO_FREE_CDROM)
    assert (job.stranded, job.delete_begun, job.issued) == (True, True, True)
    assert (job.guest_names, job.guest_address, job.entities) == ("another", "10.1.0.5", frozenset({"old", "new"}))
    assert job.remaining_action == "start the VM"


async def test_a_job_whose_vm_was_not_found_yet_is_only_shown_to_who_may_see_it(
    database: Database, known: DiagnosisFacts, jobs: Jobs
) -> None:
    vm = new_vm()
    await write(database, vm)
    job = (await jobs.start_renewal(renewal(vm, cluster=None))).job
    for caller, shown in ((ANN, True), (BEN, False), (replace(BEN, id=ANN.id), True)):
        stored = await known.read(vm, ("c1",), caller)
        assert stored is not None
        assert (None if stored.facts.job is None else stored.facts.job.id) == (job.id if shown else None)


async def test_a_job_of_another_cluster_is_none_of_this_vms(
    database: Database, known: DiagnosisFacts, jobs: Jobs
) -> None:
    vm = new_vm()
    await write(database, vm, "c2")
    await jobs.start_renewal(renewal(vm, cluster="c1"))
    assert (await read(known, vm)).facts.job is None


async def test_what_is_remembered_of_the_cluster_is_read(database: Database, known: DiagnosisFacts) -> None:
    vm = new_vm()
    await write(database, vm)
    assert (await read(known, vm)).facts.cluster == ClusterFacts()
    async with database.transaction() as connection:
        paused: dict[str, Any] = {"paused_at": TODAY, "pause_reason": "AOS upgrade"}
        await connection.execute(CLUSTER.insert().values(name="c1", **paused))
        for cluster, cvm, is_up in (("c1", "10.0.0.31", False), ("c1", "10.0.0.30", True), ("c2", "10.0.0.40", True)):
            looked: dict[str, Any] = {"changed_at": TODAY, "checked_at": TODAY, "fault": None if is_up else "timed out"}
            await connection.execute(CVM.insert().values(cluster=cluster, address=cvm, is_up=is_up, **looked))
    assert (await read(known, vm)).facts.cluster == ClusterFacts(
        cvms=(
            CvmState("10.0.0.30", True, TODAY, changed_at=TODAY),
            CvmState("10.0.0.31", False, TODAY, None, "timed out", TODAY),
        ),
        **paused,
    )


async def test_the_last_scan_that_covers_the_vm_counts_when_it_saw_nothing(
    database: Database, wakeups: WakeUps, known: DiagnosisFacts
) -> None:
    vm, other = new_vm(), new_vm()
    await write(database, vm)
    running = ScanClaims(database, wakeups, runner="a test", lease_s=60)
    silent = ScanEnd(ScanOutcome.FAILED, "nothing", fault=Fault(FaultCode.GATEWAY_DOWN, "Prism is down"))
    partial = replace(silent, outcome=ScanOutcome.PARTIAL)
    for cluster, about, end, told in (
        ("c2", None, silent, None),
        ("c1", other, silent, None),
        ("c1", None, silent, "Prism is down"),
        ("c1", None, partial, None),
        ("c1", vm, replace(silent, fault=None), "nothing"),
        ("c1", vm, ScanEnd(ScanOutcome.COMPLETE, "seen"), None),
    ):
        async with database.transaction() as connection:
            made = await start_scan(
                connection, wakeups, cluster, vm_uuid=about, origin=ScanOrigin.REQUESTED, caller=ANN
            )
        claim = await running.claim(made.scan.id)
        assert claim is not None
        await Inventory(database).finish(claim, end)
        facts = (await read(known, vm)).facts.cluster
        assert (facts.scan_fault, facts.scan_fault_at is not None) == (told, told is not None)


async def test_a_pause_that_is_over_holds_nobody(database: Database, known: DiagnosisFacts) -> None:
    vm = new_vm()
    await write(database, vm)
    for until, stands in ((None, True), (func.now() + days(1), True), (func.now() - days(1), False)):
        async with database.transaction() as connection:
            await connection.execute(PAUSE.delete())
            await connection.execute(PAUSE.insert().values(paused_by="ann", reason="moving", until=until))
        facts = (await read(known, vm)).facts
        assert (facts.service_paused_at is not None) is stands
        assert facts.service_pause_reason == ("moving" if stands else None)

"""Hundreds of jobs that wait for people: they cost the cluster one listing per interval, however many they are."""

from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

from app.ngt.renewal.progress import Before, EntityStage, FoundVm, Sighting
from app.ngt.vocabulary import PowerState, VmToolsEntity, VmUuid
from app.simulator.journal import Kind
from app.simulator.spec import uniform_site
from app.store.jobs.claims import JobClaims
from app.store.records.claims import ProgressColumns, Release
from app.store.records.jobs import JobRecord
from tests.crash.victims import until
from tests.work.conftest import Begin
from tests.work.service import Service, shown

_WAITING = 500
_INTERVAL_S = 1.0


async def test_five_hundred_waiting_jobs_make_one_listing_per_interval(begin: Begin) -> None:
    service = await begin(
        uniform_site(vms=_WAITING),
        limits={"watch_first_interval_s": _INTERVAL_S, "watch_last_interval_s": _INTERVAL_S, "sweep_interval_s": 5},
        with_worker=False,
        guests=False,
        verify_timeout_s=900,
    )
    running = JobClaims(service.database, service.wakeups, runner=f"test-{uuid4()}", lease_s=30)
    jobs = [await _waiting_job(service, running, number) for number in range(1, _WAITING + 1)]
    journal = service.site.journal
    async with service.at_work():
        await until(lambda: journal.listings("c1") >= 2)
        quiet = len(journal.records)
        await until(lambda: journal.listings("c1") >= 5)
        asked = [record for record in journal.records[quiet:] if record.kind is Kind.TOOL]
        for name in ("vm ls", "query_vm_tools_entities"):
            times = [record.at for record in asked if record.sub_command == name]
            # One delayed round may be close to the next: only their number over all of the time is bounded.
            assert len(times) <= (times[-1] - times[0]) / _INTERVAL_S + 2
        assert {record.sub_command for record in asked} == {"vm ls", "query_vm_tools_entities"}
        assert journal.logins("c1-cvm0") == 1
        # And one that is restarted is noticed among them.
        service.site.clusters["c1"].restart_agent(jobs[250].vm_uuid)
        done = await service.done(jobs[250])
        assert done.outcome == "renewed", shown(done)


async def _waiting_job(service: Service, running: JobClaims, number: int) -> JobRecord:
    """A job as it stands once its ISO is mounted, written by the store's own functions."""
    vm = service.site.vm_named(f"vm{number:04}")
    job = await service.renew(vm)
    claim = await running.claim(job.id, {})
    assert claim is not None
    before = _recreate(service, vm.uuid)
    seen = Sighting(claim.now, before, PowerState.ON)
    progress = replace(
        claim.progress,
        cluster="c1",
        vm=FoundVm(vm.name, PowerState.ON, vm.addresses, None),
        before=Before(seen, None),
        entity=EntityStage.ISSUED,
        delete_begun=True,
        issued_at=claim.now,
        between=replace(seen, entity=replace(before, client_cert_expiry_date=None)),
        mounted_at=claim.now,
        verify_by=claim.now + timedelta(seconds=900),
    )
    state = ProgressColumns(progress=progress, results={}, takes_slot=False, stranded=False, awaits_pickup=True)
    back = Release("waiting", "agent_restart", "restart the agent", progress.verify_by, progress.verify_by)
    await running.release(claim, state, back, None, cluster="c1")
    running.stop_heartbeat(claim)
    return job


def _recreate(service: Service, vm_uuid: str) -> VmToolsEntity:
    """Does on the cluster what the job would have done; gives the entity as it was before."""
    cluster = service.site.clusters["c1"]
    old = cluster.vms[vm_uuid].entity
    assert old is not None
    cluster.delete_vm_tools_entity(vm_uuid)
    cluster.create_vm_tools_entity(vm_uuid)
    cluster.mount_guest_tools(vm_uuid)
    return VmToolsEntity(
        vm_uuid=VmUuid(vm_uuid),
        ngt_uuid=old.ngt_uuid,
        name=cluster.vms[vm_uuid].name,
        enabled=True,
        iso_mounted=False,
        vss_snapshot=True,
        file_level_restore=False,
        link_active=True,
        communication_type=None,
        client_cert_expiry_date=old.certificate.not_after,
    )

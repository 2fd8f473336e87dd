"""A diagnosis over HTTP: the look that a worker makes while the request waits, and what is told without one."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
from sqlalchemy import func, select

from app.ngt.errors import Fault, FaultCode
from app.settings.callers.scopes import Scope
from app.store.inventory.scan_results import Inventory
from app.store.postgres.tables import CERTIFICATE_OBSERVATION, SCAN
from app.store.postgres.tables import VM as VM_TABLE
from app.store.records.scans import ScanOrigin, ScanOutcome, ScanStatus
from app.store.scans.claims import ScanClaims, ScanEnd
from tests.api.conftest import EVERYTHING, RENEW, VM, Service, assert_problem
from tests.limits import LIMIT_S

DIAGNOSIS = f"/vms/{VM}/ngt/diagnosis"
STORED = f"{DIAGNOSIS}?look=false"
WELL: dict[str, Any] = {
    "name": "web01",
    "power": "on",
    "addresses": ["10.1.0.5"],
    "has_entity": True,
    "ngt_enabled": True,
    "link_active": True,
    "last_seen_at": func.now(),
}


async def know(service: Service, *, cluster: str = "c1", left_days: float | None = 500, **columns: Any) -> None:
    """The last scan saw the VM like that, and how long its certificate is good."""
    date: dict[str, Any] = {}
    if left_days is not None:
        date = {
            "not_after": func.now() + timedelta(days=left_days),
            "certificate_source": "guest_certificate",
            "certificate_observed_at": func.now(),
        }
    async with service.services.store.database.transaction() as connection:
        known = VM_TABLE.c.vm_uuid == VM, VM_TABLE.c.cluster == cluster
        await connection.execute(VM_TABLE.delete().where(*known))
        await connection.execute(VM_TABLE.insert().values(vm_uuid=VM, cluster=cluster, **WELL | date | columns))
        if date:
            said = {"source": "guest_certificate", "observed_at": func.now(), "not_after": date["not_after"]}
            await connection.execute(CERTIFICATE_OBSERVATION.insert().values(vm_uuid=VM, cluster=cluster, **said))


async def scans(service: Service) -> list[tuple[str, str | None, str]]:
    async with service.services.store.database.transaction() as connection:
        rows = await connection.execute(select(SCAN.c.cluster, SCAN.c.vm_uuid, SCAN.c.origin))
        return [(row.cluster, row.vm_uuid, row.origin) for row in rows]


@asynccontextmanager
async def worker(service: Service, end: ScanEnd, **seen: Any) -> AsyncIterator[None]:
    """A worker that makes each scan that is started: it sees the VM as given, if at all, and ends the scan."""
    running = ScanClaims(service.services.store.database, service.services.store.wakeups, runner="a test", lease_s=60)

    async def work(listening: psycopg.AsyncConnection[Any]) -> None:
        async for notify in listening.notifies(timeout=LIMIT_S):
            claim = await running.claim(UUID(notify.payload))
            if claim is not None:
                if seen:
                    await know(service, cluster=claim.cluster, **seen)
                await Inventory(service.services.store.database).finish(claim, end)

    async with await psycopg.AsyncConnection.connect(service.services.store.database.url, autocommit=True) as listening:
        await listening.execute("LISTEN ngt_scan")
        at_work = asyncio.create_task(work(listening))
        try:
            yield
        finally:
            at_work.cancel()
            await asyncio.gather(at_work, return_exceptions=True)


COMPLETE = ScanEnd(ScanOutcome.COMPLETE, "1 VM was seen")


async def codes(client: httpx.AsyncClient, path: str = STORED) -> list[str]:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    return [finding["code"] for finding in answer.json()["findings"]]


async def test_a_vm_that_is_well_is_told_as_such_and_with_what_was_checked(
    service: Service, caller: httpx.AsyncClient
) -> None:
    await know(service)
    body = (await caller.get(STORED)).json()
    assert body["healthy"] is True
    assert body["summary"] == "VM 'web01': nothing is wrong with its NGT, as far as it was checked."
    assert (body["vm_uuid"], body["vm_name"], body["cluster"]) == (VM, "web01", "c1")
    (finding,) = body["findings"]
    assert (finding["code"], finding["severity"]) == ("nothing-is-wrong", "ok")
    assert not {"call_method", "call_path", "call_body"} & finding.keys()


async def test_the_call_of_a_finding_can_be_made_as_it_stands(service: Service, caller: httpx.AsyncClient) -> None:
    await know(service, cluster="c2", has_entity=False, ngt_enabled=False, power="off")
    (finding, *_) = (await caller.get(STORED)).json()["findings"]
    assert finding["code"] == "clone-without-entity"
    assert (finding["call_method"], finding["call_path"]) == ("POST", RENEW)
    assert json.loads(finding["call_body"]) == {
        "create_if_absent": True,
        "when_powered_off": "proceed",
        "accept_unverified": True,
    }
    started = await caller.request(finding["call_method"], finding["call_path"], json=json.loads(finding["call_body"]))
    assert started.status_code == 202, started.text
    assert await codes(caller) == ["clone-without-entity", "vm-not-running", "renewal-open"]
    await service.leave(started.json()["id"], status="waiting", wait_reason="agent_restart", message="restart it")
    await know(service, cluster="c2", awaiting_pickup_since=func.now(), iso_mounted=True)
    findings = {each["code"]: each for each in (await caller.get(STORED)).json()["findings"]}
    waiting = findings["awaiting-pickup"]
    assert "call_body" not in waiting
    told = await caller.request(waiting["call_method"], waiting["call_path"])
    assert (told.status_code, told.json()["id"]) == (202, started.json()["id"])


async def test_a_failed_renewal_is_gone_on_with_by_its_call(service: Service, caller: httpx.AsyncClient) -> None:
    await know(service, left_days=-3, link_active=False)
    job = (await caller.post(RENEW)).json()["id"]
    failed = {"status": "failed", "outcome": "failed", "error_code": "gateway-down", "error_message": "Prism is down"}
    await service.end(job, **failed)
    findings = (await caller.get(STORED)).json()["findings"]
    assert [each["code"] for each in findings] == ["certificate-expired", "renewal-not-ended-well"]
    assert findings[1]["message"] == f"The last renewal of VM 'web01', job {job}, failed: Prism is down."
    assert "genesis status" in findings[1]["next_step"]
    retried = await caller.request(findings[1]["call_method"], findings[1]["call_path"])
    assert (retried.status_code, retried.json()["attempt"]) == (202, 2)


async def test_what_the_configuration_says_of_the_cluster_counts(service: Service, caller: httpx.AsyncClient) -> None:
    """The guests of c1 at these addresses can be reached; others cannot, so a person has to restart their agents."""
    for addresses, body in (
        (["10.1.0.5"], None),
        (["192.0.2.9"], {"restart_agent": "manual", "accept_unverified": True}),
    ):
        await know(service, left_days=5, addresses=addresses)
        (finding,) = (await caller.get(STORED)).json()["findings"]
        assert finding["code"] == "certificate-expires-soon"
        assert (json.loads(finding["call_body"]) if "call_body" in finding else None) == body


async def test_the_cluster_is_looked_at_before_the_answer(service: Service, caller: httpx.AsyncClient) -> None:
    await know(service)
    async with worker(service, COMPLETE, left_days=-1):
        body = (await caller.get(DIAGNOSIS)).json()
    assert (body["looked"], body["look_failed"]) == (True, False)
    assert body["look_message"] == "The cluster was looked at: 1 VM was seen"
    assert [finding["code"] for finding in body["findings"]] == ["certificate-expired"]
    assert await scans(service) == [("c1", VM, ScanOrigin.DIAGNOSIS)]


async def test_a_look_of_a_moment_ago_is_used_again_and_an_older_one_is_not(
    service: Service, caller: httpx.AsyncClient
) -> None:
    await know(service)
    async with worker(service, COMPLETE):
        first = (await caller.get(DIAGNOSIS)).json()
    again = (await caller.get(DIAGNOSIS)).json()
    assert (again["looked"], again["scan_id"]) == (True, first["scan_id"])
    async with service.services.store.database.transaction() as connection:
        await connection.execute(SCAN.update().values(finished_at=func.now() - timedelta(seconds=61)))
    async with worker(service, COMPLETE):
        later = (await caller.get(DIAGNOSIS)).json()
    assert later["looked"]
    assert later["scan_id"] != first["scan_id"]


async def test_a_look_from_before_the_end_of_a_renewal_is_not_used(service: Service, caller: httpx.AsyncClient) -> None:
    await know(service)
    async with worker(service, COMPLETE):
        await caller.get(DIAGNOSIS)
    await service.end((await caller.post(RENEW)).json()["id"])
    async with worker(service, COMPLETE):
        assert (await caller.get(DIAGNOSIS)).json()["looked"]
    assert len(await scans(service)) == 2


async def test_a_look_that_fails_is_told_and_the_rest_is_from_what_is_stored(
    service: Service, caller: httpx.AsyncClient
) -> None:
    await know(service, left_days=-1)
    fault = Fault(FaultCode.CVM_UNREACHABLE, "No CVM of c1 answers.")
    async with worker(service, ScanEnd(ScanOutcome.FAILED, "nothing was seen", fault=fault)):
        body = (await caller.get(DIAGNOSIS)).json()
    assert (body["looked"], body["look_failed"], body["healthy"]) == (False, True, False)
    assert body["look_message"] == "The look failed, and this is from what was stored before: No CVM of c1 answers."
    expired, silent = body["findings"]
    assert (expired["code"], silent["code"]) == ("certificate-expired", "cluster-not-reached")
    assert silent["next_step"] == (
        "Check that this service reaches a CVM of the cluster on its SSH port (`ngt-renewal doctor`)."
    )


@pytest.mark.parametrize(
    ("path", "headers", "said"),
    [
        (f"{DIAGNOSIS}?wait=0", {}, "not done after 0 s"),
        (f"{DIAGNOSIS}?wait=1", {}, "not done after 1 s"),
        (DIAGNOSIS, {"Prefer": "wait=1"}, "not done after 1 s"),
    ],
)
async def test_a_look_that_is_not_done_in_time_is_told(
    service: Service, caller: httpx.AsyncClient, path: str, headers: dict[str, str], said: str
) -> None:
    await know(service)
    answer = await caller.get(path, headers=headers)
    body = answer.json()
    assert (body["looked"], body["look_failed"], body["healthy"]) == (False, False, True)
    assert said in body["look_message"]
    assert answer.headers.get("preference-applied") == headers.get("Prefer")
    scan = await service.services.store.scans.find(UUID(body["scan_id"]))
    assert scan is not None
    assert (scan.status, scan.caller) == (ScanStatus.QUEUED, "a test")


async def test_without_the_scope_to_scan_nobody_looks(service: Service) -> None:
    await know(service)
    async with service.client(await service.key(Scope.VMS_READ)) as client:
        body = (await client.get(DIAGNOSIS)).json()
    assert (body["looked"], body["look_failed"], "scan_id" in body) == (False, False, False)
    assert "needs the scope clusters:scan" in body["look_message"]
    assert await scans(service) == []


async def test_a_vm_that_was_never_seen_is_looked_for_on_the_cluster_that_is_named(
    service: Service, caller: httpx.AsyncClient
) -> None:
    problem = assert_problem(await caller.get(DIAGNOSIS), 404, "vm-not-found")
    assert "POST /clusters/{cluster}/scan" in problem["detail"]
    async with worker(service, COMPLETE):
        missed = assert_problem(await caller.get(f"{DIAGNOSIS}?cluster=c1"), 404, "vm-not-found")
    assert missed["detail"].endswith("The cluster was looked at: 1 VM was seen.")
    fault = Fault(FaultCode.CVM_UNREACHABLE, "no CVM of c1 answers")
    async with worker(service, ScanEnd(ScanOutcome.FAILED, "nothing was seen", fault=fault)):
        failed = assert_problem(await caller.get(f"{DIAGNOSIS}?cluster=c1"), 404, "vm-not-found")
    assert failed["detail"].endswith("The look failed: no CVM of c1 answers.")
    async with worker(service, COMPLETE, left_days=5):
        body = (await caller.get(f"{DIAGNOSIS}?cluster=c2")).json()
    assert (body["cluster"], body["looked"]) == ("c2", True)
    assert await scans(service) == [(name, VM, ScanOrigin.DIAGNOSIS) for name in ("c1", "c1", "c2")]


async def test_a_key_sees_only_the_vms_of_its_clusters(service: Service) -> None:
    await know(service, cluster="c1")
    async with service.client(await service.key(*EVERYTHING, clusters=frozenset({"c2"}))) as client:
        for path in (STORED, DIAGNOSIS, f"{STORED}&cluster=c2"):
            problem = assert_problem(await client.get(path), 404, "vm-not-found")
            assert "c1" not in problem["detail"].replace(VM, "")
        assert await scans(service) == []
        assert_problem(await client.get(f"{STORED}&cluster=c1"), 403, "target-not-allowed")
        await know(service, cluster="c2", left_days=-1)
        assert await codes(client) == ["certificate-expired"]
    async with service.client(await service.key(*EVERYTHING)) as client:
        assert_problem(await client.get(f"{DIAGNOSIS}?cluster=gone"), 404, "cluster-not-found")
        assert_problem(await client.get(f"{DIAGNOSIS}?cluster=C1"), 422, "validation-failed")


async def test_what_waits_longer_than_allowed_or_is_no_uuid_is_refused(caller: httpx.AsyncClient) -> None:
    for path in (f"{DIAGNOSIS}?wait=21", f"{DIAGNOSIS}?wait=-1", f"{DIAGNOSIS}?look=perhaps", f"{DIAGNOSIS}?deep=true"):
        assert_problem(await caller.get(path), 422, "validation-failed")
    assert_problem(await caller.get("/vms/web01/ngt/diagnosis"), 422, "validation-failed")


async def test_a_vm_of_which_only_a_job_has_told_is_called_unseen(service: Service, caller: httpx.AsyncClient) -> None:
    await service.saw(VM, "c1")
    body = (await caller.get(STORED)).json()
    assert [finding["code"] for finding in body["findings"]] == ["never-seen"]
    assert not {"vm_name", "seen_at"} & body.keys()


async def test_a_job_that_the_key_may_not_see_is_not_told(service: Service, caller: httpx.AsyncClient) -> None:
    await know(service, cluster="c2")
    async with service.services.store.database.transaction() as connection:
        await connection.execute(VM_TABLE.update().values(last_seen_at=None, vanished_at=None))
    await caller.post(RENEW, json={"cluster": "c1", "restart_agent": "manual"})
    async with service.client(await service.key(*EVERYTHING, clusters=frozenset({"c2"}))) as client:
        assert "renewal-open" not in await codes(client)


async def test_one_look_serves_all_who_wait_for_it(service: Service, caller: httpx.AsyncClient) -> None:
    await know(service)
    async with worker(service, COMPLETE):
        answers = await asyncio.gather(*(caller.get(DIAGNOSIS) for _ in range(5)))
    assert {answer.json()["looked"] for answer in answers} == {True}
    assert len({answer.json()["scan_id"] for answer in answers}) <= 2

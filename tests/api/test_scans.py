"""Having a cluster scanned over HTTP, and following the scan; and the health of a cluster as the database knows it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import func

from app.ngt.errors import Fault, FaultCode
from app.ngt.vocabulary import CvmState
from app.settings.callers.scopes import Scope
from app.store.clusters.cvms import Cvms
from app.store.inventory.scan_results import Inventory
from app.store.postgres.tables import CLUSTER, SCAN
from app.store.postgres.tables import VM as VM_TABLE
from app.store.records.scans import ScanCounts, ScanOutcome
from app.store.scans.claims import ScanClaims, ScanEnd
from tests.api.conftest import RENEW, VM, Service, assert_problem
from tests.api.server import until
from tests.limits import LIMIT_S

COMPLETE = ScanEnd(ScanOutcome.COMPLETE, "3 VMs seen", ScanCounts(3, 1, 0, 2, 0, 0))
NOW = datetime.now(UTC).replace(microsecond=0)

End = Callable[..., Awaitable[None]]


@pytest_asyncio.fixture
async def end(service: Service) -> AsyncIterator[End]:
    """Ends a scan as a worker does: `end(id, how)`."""
    services = service.services
    running = ScanClaims(services.store.database, services.store.wakeups, runner="w1", lease_s=60)

    async def end_scan(scan_id: str, how: ScanEnd = COMPLETE) -> None:
        claim = await running.claim(UUID(scan_id))
        assert claim is not None
        await Inventory(services.store.database).finish(claim, how, NOW)

    yield end_scan


async def posted(caller: httpx.AsyncClient, cluster: str = "c1") -> dict[str, Any]:
    answer = await caller.post(f"/clusters/{cluster}/scan")
    assert answer.status_code == 202, answer.text
    scan: dict[str, Any] = answer.json()
    return scan


async def test_a_scan_is_accepted_with_the_way_to_follow_it(caller: httpx.AsyncClient) -> None:
    answer = await caller.post("/clusters/c1/scan")
    scan = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/scans/{scan['id']}"
    assert int(answer.headers["retry-after"]) > 0
    assert scan == {
        "id": scan["id"],
        "cluster": "c1",
        "origin": "requested",
        "status": "queued",
        "done": False,
        "message": "waits for its turn",
        "joined": False,
        "caller": "a test",
        "created_at": scan["created_at"],
        "updated_at": scan["updated_at"],
    }
    read = await caller.get(answer.headers["location"])
    assert (read.status_code, read.json()) == (200, scan)
    assert int(read.headers["retry-after"]) > 0


async def test_a_second_request_joins_the_open_scan(caller: httpx.AsyncClient, end: End) -> None:
    first, second, other = await posted(caller), await posted(caller), await posted(caller, "c2")
    assert (second["id"], second["joined"]) == (first["id"], True)
    assert (other["id"] != first["id"], other["joined"]) == (True, False)
    await end(first["id"])
    assert not (await posted(caller))["joined"]


async def test_a_scan_that_has_ended_shows_what_it_saw(caller: httpx.AsyncClient, end: End) -> None:
    scan = await posted(caller)
    await end(scan["id"])
    read = await caller.get(f"/scans/{scan['id']}")
    done = read.json()
    assert "retry-after" not in read.headers
    assert (done["status"], done["done"], done["outcome"], done["message"]) == (
        "succeeded", True, "complete", "3 VMs seen",
    )  # fmt: skip
    assert (done["vms_seen"], done["vms_new"], done["vms_vanished"], done["dates_seen"]) == (3, 1, 0, 2)
    assert {"started_at", "finished_at"} <= done.keys()
    assert "error_code" not in done


async def test_a_scan_that_failed_says_what_to_do(caller: httpx.AsyncClient, end: End) -> None:
    scan = await posted(caller)
    fault = Fault(FaultCode.CVM_UNREACHABLE, "no CVM of c1 answered")
    await end(scan["id"], ScanEnd(ScanOutcome.FAILED, "nothing was stored", fault=fault))
    read = await caller.get(f"/scans/{scan['id']}")
    assert read.status_code == 200
    failed = read.json()
    assert (failed["status"], failed["outcome"], failed["error_code"]) == ("failed", "failed", "cvm-unreachable")
    assert failed["error_action"].startswith("For the operator of the cluster: ")
    assert "vms_seen" not in failed


async def test_a_wait_is_answered_at_the_end_of_the_scan(caller: httpx.AsyncClient, end: End, service: Service) -> None:
    await service.services.store.changes.listening()
    scan = await posted(caller)
    waiting = asyncio.create_task(caller.get(f"/scans/{scan['id']}?wait=20"))
    await until(lambda: service.services.store.changes.watched() == 1)
    await end(scan["id"])
    async with asyncio.timeout(LIMIT_S):
        assert (await waiting).json()["done"] is True
    preferred = await caller.get(f"/scans/{scan['id']}", headers={"Prefer": "wait=60"})
    assert preferred.headers["preference-applied"] == "wait=20"
    assert_problem(await caller.get(f"/scans/{scan['id']}?wait=21"), 422, "validation-failed")


async def test_a_scan_that_has_not_changed_is_304(caller: httpx.AsyncClient, end: End) -> None:
    scan = await posted(caller)
    tag = (await caller.get(f"/scans/{scan['id']}")).headers["etag"]
    same = await caller.get(f"/scans/{scan['id']}", headers={"If-None-Match": tag})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    await end(scan["id"])
    assert (await caller.get(f"/scans/{scan['id']}", headers={"If-None-Match": tag})).status_code == 200


async def test_scans_are_listed_newest_first_page_by_page(caller: httpx.AsyncClient, end: End) -> None:
    ids: list[str] = []
    for cluster in ("c1", "c2", "c1", "c1"):
        scan = await posted(caller, cluster)
        await end(scan["id"])
        ids.insert(0, scan["id"])
    page = await caller.get("/scans?limit=3")
    assert [scan["id"] for scan in page.json()["items"]] == ids[:3]
    assert page.json()["next_cursor"] in page.headers["link"]
    rest = await caller.get("/scans", params={"limit": "3", "cursor": page.json()["next_cursor"]})
    assert [scan["id"] for scan in rest.json()["items"]] == ids[3:]
    assert "next_cursor" not in rest.json()
    assert [scan["id"] for scan in (await caller.get("/scans?cluster=c2")).json()["items"]] == [ids[2]]
    assert_problem(await caller.get("/scans?cluster=C2"), 422, "validation-failed")
    assert_problem(await caller.get("/scans?cursor=x"), 422, "validation-failed")


async def test_what_does_not_exist_is_404_and_what_is_not_allowed_403(
    caller: httpx.AsyncClient, service: Service
) -> None:
    assert_problem(await caller.get(f"/scans/{uuid4()}"), 404, "scan-not-found")
    for method, path in (("POST", "/clusters/gone/scan"), ("GET", "/clusters/gone/health")):
        assert_problem(await caller.request(method, path), 404, "cluster-not-found")
    scan = await posted(caller)
    async with service.client(await service.key(*Scope, clusters=frozenset({"c2"}))) as other:
        assert_problem(await other.get(f"/scans/{scan['id']}"), 404, "scan-not-found")
        assert_problem(await other.post("/clusters/c1/scan"), 403, "target-not-allowed")
        assert_problem(await other.get("/clusters/c1/health"), 403, "target-not-allowed")
        assert (await other.get("/scans")).json() == {"items": []}


# Health.


async def test_a_cluster_of_which_nothing_is_known_says_so(caller: httpx.AsyncClient) -> None:
    assert (await caller.get("/clusters/c1/health")).json() == {
        "name": "c1",
        "cvms": [{"address": "10.0.0.31", "state": "unknown"}],
        "scanning": False,
        "paused": False,
        "open_jobs": 0,
        "stranded_vms": 0,
        "vms_awaiting_pickup": 0,
    }


@pytest.mark.parametrize("is_up", [True, False])
async def test_a_cvm_is_shown_as_it_was_last_found(caller: httpx.AsyncClient, service: Service, is_up: bool) -> None:
    cvms = Cvms(service.services.store.database)
    fault = (None, None) if is_up else ("ssh-auth-failed", "10.0.0.31 refused the login")
    for minutes, up, why in ((9, not is_up, ("x", "y")), (5, is_up, fault), (1, is_up, fault), (3, not is_up, fault)):
        at = NOW - timedelta(minutes=minutes)
        await cvms.store("c1", [CvmState("10.0.0.31", up, at, *why), CvmState("10.0.0.99", True, at)])
    health = (await caller.get("/clusters/c1/health")).json()
    assert health["reachable"] is is_up
    (cvm,) = health["cvms"]
    assert (cvm["state"], cvm.get("error_code"), cvm.get("error_message")) == ("up" if is_up else "down", *fault)
    assert datetime.fromisoformat(cvm["since_at"]) == NOW - timedelta(minutes=5)
    assert datetime.fromisoformat(cvm["checked_at"]) == NOW - timedelta(minutes=1)


async def test_health_tells_of_scans_pauses_and_what_is_open(
    caller: httpx.AsyncClient, service: Service, end: End
) -> None:
    job = (await caller.post(RENEW, json={"cluster": "c1"})).json()["id"]
    await service.leave(job, stranded_since=func.now())
    await service.saw(VM, "c1")
    async with service.services.store.database.transaction() as connection:
        await connection.execute(VM_TABLE.update().values(awaiting_pickup_since=func.now()))
        gone = {"cluster": "c1", "awaiting_pickup_since": func.now(), "vanished_at": func.now()}
        await connection.execute(VM_TABLE.insert().values(vm_uuid="5e6b0a3c-52f1-4d0e-b45f-9f8a4a1f4b11", **gone))
    await caller.post("/clusters/c1/pause", json={"reason": "upgrade"})
    await end((await posted(caller))["id"])
    second = await posted(caller)
    health = (await caller.get("/clusters/c1/health")).json()
    assert datetime.fromisoformat(health["scanned_at"]) == NOW
    assert (health["scanning"], health["paused"], health["pause_reason"]) == (True, True, "upgrade")
    assert (health["open_jobs"], health["stranded_vms"], health["vms_awaiting_pickup"]) == (1, 1, 1)
    async with service.services.store.database.transaction() as connection:
        await connection.execute(VM_TABLE.update().values(vanished_at=func.now()))
    assert (await caller.get("/clusters/c1/health")).json()["vms_awaiting_pickup"] == 0
    await end(second["id"], ScanEnd(ScanOutcome.PARTIAL, "", fault=Fault(FaultCode.COMMAND_TIMEOUT, "no answer")))
    health = (await caller.get("/clusters/c1/health")).json()
    assert (health["scanning"], health["scan_error_code"], health["scan_error_message"]) == (
        False,
        "command-timeout",
        "no answer",
    )
    assert datetime.fromisoformat(health["scanned_at"]) == NOW
    await end((await posted(caller))["id"])
    health = (await caller.get("/clusters/c1/health")).json()
    assert not {"scan_error_code", "scan_error_message", "scan_failed_at"} & health.keys()
    async with service.services.store.database.transaction() as connection:
        for table in (SCAN, CLUSTER):
            await connection.execute(table.delete())
    assert (await caller.get("/clusters/c1/health")).json()["paused"] is False

"""Listing VMs, reading one, and the weeks in which their certificates expire."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import update

from app.ngt.errors import Fault, FaultCode
from app.settings.callers.scopes import Scope
from app.store.inventory.scan_results import Inventory
from app.store.postgres.tables import VM as VM_TABLE
from app.store.records.scans import ScanCounts, ScanOutcome
from app.store.scans.claims import ScanClaims, ScanEnd
from tests.api.conftest import RENEW, VM, Service, assert_problem
from tests.api.inventory.vms import add_vm, from_now, written
from tests.api.server import until
from tests.limits import LIMIT_S


async def names(client: httpx.AsyncClient, **query: str | int) -> list[str | None]:
    answer = await client.get("/vms", params=query)
    assert answer.status_code == 200, answer.text
    return [vm.get("name") for vm in answer.json()["items"]]


async def test_a_vm_is_shown_flat_and_without_a_null(service: Service, caller: httpx.AsyncClient) -> None:
    not_after = from_now(days=12, minutes=1)
    facts: dict[str, Any] = {
        "power": "on",
        "addresses": ["10.1.0.5", "10.1.0.6"],
        "ngt_enabled": True,
        "has_entity": True,
        "iso_mounted": False,
        "link_active": True,
        "vss_snapshot": True,
        "file_level_restore": False,
        "serial": "1f",
        "fingerprint": "ab" * 32,
        "subject": "CN=web01",
        "issuer": "CN=NGT",
        "certificate_source": "guest_certificate",
    }
    times: dict[str, Any] = {name: datetime(2026, 11, 23, 1, 2, 3, 456_000, tzinfo=UTC) for name in _INSTANTS}
    fault: dict[str, Any] = {
        "guest_fault_code": "guest-not-reached",
        "guest_fault": "no answer",
        "guest_fault_at": times["renewed_at"],
    }
    vm = await add_vm(service, "web01", not_after=not_after, not_before=from_now(days=-988), **facts, **times, **fault)
    (shown,) = (await caller.get("/vms")).json()["items"]
    assert shown == {
        "vm_uuid": vm,
        "name": "web01",
        "cluster": "c1",
        **facts,
        "not_before": written(from_now(days=-988)),
        "not_after": written(not_after),
        "days_left": 12,
        "expired": False,
        **dict.fromkeys(_INSTANTS, "2026-11-23T01:02:03.456Z"),
        "guest_error_code": "guest-not-reached",
        "guest_error_message": "no answer",
        "guest_error_at": "2026-11-23T01:02:03.456Z",
    }
    assert (await caller.get(f"/vms/{vm.upper()}")).json() == shown


_INSTANTS = ("certificate_observed_at", "first_seen_at", "last_seen_at", "renewed_at", "awaiting_pickup_since")


async def test_what_is_not_known_of_a_vm_is_absent(service: Service, caller: httpx.AsyncClient) -> None:
    vm = await add_vm(service, power="unknown")
    assert (await caller.get("/vms")).json() == {"items": [{"vm_uuid": vm, "cluster": "c1", "addresses": []}]}
    bare = {"vm_uuid": vm, "cluster": "c1", "addresses": [], "observations": []}
    assert (await caller.get(f"/vms/{vm}/ngt")).json() == bare


async def test_no_more_addresses_are_shown_than_the_document_says(service: Service, caller: httpx.AsyncClient) -> None:
    vm = await add_vm(service, addresses=[f"fd00::{n:x}" for n in range(300)])
    assert len((await caller.get(f"/vms/{vm}")).json()["addresses"]) == 100


async def test_each_filter_is_taken_from_the_query(service: Service, caller: httpx.AsyncClient) -> None:
    await add_vm(service, "web01", not_after=from_now(days=5), link_active=True, power="on")
    await add_vm(service, "web02", not_after=from_now(days=-5), link_active=False, power="off", cluster="c2")
    await add_vm(service, "db*", not_after=from_now(days=50))
    await add_vm(service, "db01")
    await add_vm(service, "gone", not_after=from_now(days=-1), vanished_at=from_now(days=-1))
    rows: list[tuple[dict[str, str | int], list[str]]] = [
        ({}, ["web02", "web01", "db*", "db01"]),
        ({"sort": "-not_after"}, ["db*", "web01", "web02", "db01"]),
        ({"sort": "name"}, ["db*", "db01", "web01", "web02"]),
        ({"name": "web01"}, ["web01"]),
        ({"name": "web*"}, ["web02", "web01"]),
        ({"name": "Web*"}, []),
        ({"name": "db**"}, ["db*"]),
        ({"name": "*"}, ["web02", "web01", "db*", "db01"]),
        ({"cluster": "c2"}, ["web02"]),
        ({"expires_within_days": 30}, ["web02", "web01"]),
        ({"expires_within_days": 30, "expired": "false"}, ["web01"]),
        ({"expired": "true"}, ["web02"]),
        ({"unknown_expiry": "true"}, ["db01"]),
        ({"unknown_expiry": "false"}, ["web02", "web01", "db*"]),
        ({"link_active": "true"}, ["web01"]),
        ({"power": "off"}, ["web02"]),
        ({"power": "unknown", "unknown_expiry": "true"}, ["db01"]),
        ({"vanished": "true"}, ["gone"]),
        ({"vanished": "false", "limit": 200}, ["web02", "web01", "db*", "db01"]),
    ]
    for query, expected in rows:
        assert await names(caller, **query) == expected, query


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", "0"),
        ("limit", "201"),
        ("limit", "ten"),
        ("expires_within_days", "-1"),
        ("expires_within_days", "36501"),
        ("expires_within_days", "1.5"),
        ("expired", "maybe"),
        ("unknown_expiry", "null"),
        ("link_active", "2"),
        ("power", "paused"),
        ("vanished", ""),
        ("sort", "cluster"),
        ("sort", "+name"),
        ("name", "a\nb"),
        ("name", "a" * 256),
        ("cluster", "C1"),
        ("cursor", "a" * 2049),
        ("nmae", "web01"),
    ],
)
async def test_what_is_no_filter_is_refused(caller: httpx.AsyncClient, name: str, value: str) -> None:
    problem = assert_problem(await caller.get("/vms", params={name: value}), 422, "validation-failed")
    assert [error["pointer"] for error in problem["errors"]] == [f"/query/{name}"]


# Pages.


async def walk(client: httpx.AsyncClient, **query: str | int) -> list[str]:
    """The UUIDs of all pages, each reached by the link of the one before."""
    answer = await client.get("/vms", params=query)
    seen: list[str] = []
    while True:
        page = answer.json()
        seen += [vm["vm_uuid"] for vm in page["items"]]
        assert ("next" in answer.links) is ("next_cursor" in page)
        if "next" not in answer.links:
            return seen
        link = httpx.URL(answer.links["next"]["url"])
        assert dict(link.params) == {name: str(value) for name, value in query.items()} | {
            "cursor": page["next_cursor"]
        }
        answer = await client.get(str(link))


@pytest.mark.parametrize("sort", ["not_after", "-not_after", "name"])
async def test_every_page_leads_to_the_next_and_the_last_one_to_none(
    service: Service, caller: httpx.AsyncClient, sort: str
) -> None:
    shared = from_now(days=9)
    for name in ("a", "a", "", "日本" * 80, "日本" * 80, None):
        await add_vm(service, name, not_after=shared)
        await add_vm(service, name, cluster="c2")
    whole = [vm["vm_uuid"] for vm in (await caller.get("/vms", params={"sort": sort})).json()["items"]]
    assert len(set(whole)) == 12
    for limit in (1, 5, 12):
        assert await walk(caller, sort=sort, limit=limit) == whole
    assert len(await walk(caller, sort=sort, limit=1, cluster="c2", unknown_expiry="true")) == 6


def cursor_of(*services: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(services).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "!!!",
        "é",
        cursor_of(),
        cursor_of("not_after", 1, VM),
        cursor_of("not_after", 1, VM, "c1", "more"),
        cursor_of("not_after", "1", VM, "c1"),
        cursor_of("not_after", 1.5, VM, "c1"),
        cursor_of("not_after", 10**30, VM, "c1"),
        cursor_of("not_after", 1, "no-uuid", "c1"),
        cursor_of("not_after", 1, 7, "c1"),
        cursor_of("not_after", 1, VM, "C 1"),
        cursor_of("not_after", 1, VM, None),
        cursor_of("cluster", 1, VM, "c1"),
        cursor_of("name", 1, VM, "c1"),
        cursor_of("name", "a\x00b", VM, "c1"),
        cursor_of("name", "a" * 201, VM, "c1"),
        base64.urlsafe_b64encode(b'["name","\\ud800","' + VM.encode() + b'","c1"]').decode(),
        base64.urlsafe_b64encode(b"[" * 1400).decode(),
    ],
)
async def test_a_cursor_that_was_not_given_out_is_refused(caller: httpx.AsyncClient, cursor: str) -> None:
    answer = await caller.get("/vms", params={"cursor": cursor})
    problem = assert_problem(answer, 422, "validation-failed")
    assert problem["errors"] == [{"pointer": "/query/cursor", "detail": "This is not a cursor of a page of VMs."}]


async def test_a_cursor_of_another_order_is_refused_and_says_so(service: Service, caller: httpx.AsyncClient) -> None:
    for name in ("a", "b"):
        await add_vm(service, name)
    cursor = (await caller.get("/vms?limit=1&sort=name")).json()["next_cursor"]
    problem = assert_problem(await caller.get("/vms", params={"cursor": cursor}), 422, "validation-failed")
    said = "This cursor goes on with the order name, and the request asks for not_after."
    assert problem["errors"] == [{"pointer": "/query/cursor", "detail": said}]


# One VM.


async def test_the_ngt_of_a_vm_has_its_last_job(service: Service, caller: httpx.AsyncClient) -> None:
    await add_vm(service, "web01", vm_uuid=VM, ngt_uuid="an-entity", communication_type="kSsl")
    job = (await caller.post(RENEW, json={"cluster": "c1", "restart_agent": "manual"})).json()
    ngt = (await caller.get(f"/vms/{VM}/ngt")).json()
    assert (ngt["last_job_id"], ngt["last_job_status"], "last_job_outcome" in ngt) == (job["id"], "queued", False)
    assert (ngt["ngt_uuid"], ngt["communication_type"]) == ("an-entity", "kSsl")
    await service.end(job["id"])
    ngt = (await caller.get(f"/vms/{VM}/ngt")).json()
    assert (ngt["last_job_status"], ngt["last_job_outcome"]) == ("succeeded", "renewed")
    assert (await caller.get(f"/vms/{VM}")).json()["last_job_id"] == job["id"]


@pytest.mark.parametrize("path", ["/vms/{}", "/vms/{}/ngt"])
async def test_a_vm_that_was_never_seen_is_not_found_and_the_answer_says_how_to_have_it_seen(
    caller: httpx.AsyncClient, path: str
) -> None:
    problem = assert_problem(await caller.get(path.format(uuid4())), 404, "vm-not-found")
    assert "POST /clusters/{cluster}/scan" in problem["action"]
    assert_problem(await caller.get(path.format("web01")), 422, "validation-failed")


async def test_a_vm_on_two_clusters_is_the_one_that_is_there(service: Service, caller: httpx.AsyncClient) -> None:
    vm = await add_vm(service, cluster="c1", last_seen_at=from_now(hours=-1), vanished_at=from_now())
    await add_vm(service, cluster="c2", vm_uuid=vm, last_seen_at=from_now(days=-1))
    assert (await caller.get(f"/vms/{vm}")).json()["cluster"] == "c2"
    async with service.client(await service.key(Scope.VMS_READ, clusters=frozenset({"c1"}))) as client:
        gone = (await client.get(f"/vms/{vm}")).json()
        assert (gone["cluster"], "vanished_at" in gone) == ("c1", True)


@pytest.mark.parametrize("accept", ["application/json", "text/csv"])
async def test_a_cluster_that_there_is_not_has_no_empty_list(caller: httpx.AsyncClient, accept: str) -> None:
    answer = await caller.get("/vms", params={"cluster": "gone", "expired": "true"}, headers={"Accept": accept})
    assert_problem(answer, 404, "cluster-not-found")


async def test_a_key_of_one_cluster_sees_only_its_vms(service: Service) -> None:
    mine = await add_vm(service, "mine", cluster="c1", not_after=from_now(days=1))
    other = await add_vm(service, "other", cluster="c2", not_after=from_now(days=1))
    await add_vm(service, "forgotten", cluster="not-configured", not_after=from_now(days=1))
    async with service.client(
        await service.key(Scope.VMS_READ, clusters=frozenset({"c1", "not-configured"}))
    ) as client:
        assert await names(client) == ["mine"]
        assert_problem(await client.get("/vms", params={"cluster": "c2"}), 403, "target-not-allowed")
        assert (await client.get(f"/vms/{mine}")).status_code == 200
        for path in (f"/vms/{other}", f"/vms/{other}/ngt"):
            assert_problem(await client.get(path), 404, "vm-not-found")
        forecast = (await client.get("/forecast")).json()
        assert [total["cluster"] for total in forecast["clusters"]] == ["c1"]
        assert [week["cluster"] for week in forecast["items"]] == ["c1"]


# Looking again.


End = Callable[..., Awaitable[None]]
COMPLETE = ScanEnd(ScanOutcome.COMPLETE, "seen", ScanCounts(1, 0, 0, 1, 0, 0))


@pytest.fixture
def end(service: Service) -> End:
    """Ends a scan as a worker does: `end(id, how)`."""
    services = service.services
    running = ScanClaims(services.store.database, services.store.wakeups, runner="w1", lease_s=60)

    async def end_scan(scan_id: str, how: ScanEnd = COMPLETE) -> None:
        claim = await running.claim(UUID(scan_id))
        assert claim is not None
        await Inventory(services.store.database).finish(claim, how, datetime.now(UTC))

    return end_scan


async def test_a_refresh_starts_a_scan_of_the_vm_and_shows_what_was_known(
    service: Service, caller: httpx.AsyncClient, end: End
) -> None:
    await add_vm(service, "web01", vm_uuid=VM, cluster="c2")
    answer = await caller.get(f"/vms/{VM}/ngt?refresh=true")
    ngt = answer.json()
    assert answer.status_code == 200
    assert (ngt["name"], ngt["scan_status"], ngt["scan_done"]) == ("web01", "queued", False)
    assert answer.headers["location"] == f"/scans/{ngt['scan_id']}"
    assert int(answer.headers["retry-after"]) > 0
    scan = (await caller.get(answer.headers["location"])).json()
    assert (scan["vm_uuid"], scan["cluster"], scan["origin"], scan["done"]) == (VM, "c2", "refresh", False)
    # Whoever asks for the same meanwhile gets the same.
    assert (await caller.get(f"/vms/{VM}/ngt?refresh=true")).json()["scan_id"] == ngt["scan_id"]
    await end(ngt["scan_id"])
    assert (await caller.get(f"/vms/{VM}/ngt?refresh=true")).json()["scan_id"] != ngt["scan_id"]


async def test_without_refresh_nothing_is_started_and_nobody_waits(service: Service, caller: httpx.AsyncClient) -> None:
    await add_vm(service, "web01", vm_uuid=VM)
    for query in ("", "?refresh=false", "?wait=20"):
        answer = await caller.get(f"/vms/{VM}/ngt{query}")
        assert "scan_id" not in answer.json()
        assert "location" not in answer.headers
    assert (await caller.head(f"/vms/{VM}/ngt?refresh=true")).status_code == 200
    assert (await caller.get("/scans")).json() == {"items": []}


async def test_a_refresh_that_waits_shows_what_the_scan_found(
    service: Service, caller: httpx.AsyncClient, end: End
) -> None:
    await add_vm(service, "web01", vm_uuid=VM)
    await service.services.store.changes.listening()
    waiting = asyncio.create_task(caller.get(f"/vms/{VM}/ngt?refresh=true&wait=20"))
    await until(lambda: service.services.store.changes.watched() == 1)
    (scan,) = (await caller.get("/scans")).json()["items"]
    async with service.services.store.database.transaction() as connection:
        await connection.execute(update(VM_TABLE).values(name="renamed"))
    await end(scan["id"])
    async with asyncio.timeout(LIMIT_S):
        answer = await waiting
    ngt = answer.json()
    assert (ngt["name"], ngt["scan_id"], ngt["scan_done"], ngt["scan_outcome"]) == (
        "renamed", scan["id"], True, "complete",
    )  # fmt: skip
    assert "retry-after" not in answer.headers


async def test_a_refresh_that_failed_says_why_and_shows_what_was_known(
    service: Service, caller: httpx.AsyncClient, end: End
) -> None:
    await add_vm(service, "web01", vm_uuid=VM)
    await service.services.store.changes.listening()
    headers = {"Prefer": "wait=60"}
    waiting = asyncio.create_task(caller.get(f"/vms/{VM}/ngt?refresh=true", headers=headers))
    await until(lambda: service.services.store.changes.watched() == 1)
    (scan,) = (await caller.get("/scans")).json()["items"]
    fault = Fault(FaultCode.CVM_UNREACHABLE, "no CVM of c1 answered")
    await end(scan["id"], ScanEnd(ScanOutcome.FAILED, "nothing was stored", fault=fault))
    async with asyncio.timeout(LIMIT_S):
        answer = await waiting
    ngt = answer.json()
    assert (ngt["name"], ngt["scan_outcome"], ngt["scan_error_code"]) == ("web01", "failed", "cvm-unreachable")
    assert ngt["scan_error_message"] == "no CVM of c1 answered"
    assert answer.headers["preference-applied"] == "wait=20"


async def test_a_refresh_needs_the_scope_of_scans_too(service: Service) -> None:
    await add_vm(service, vm_uuid=VM)
    async with service.client(await service.key(Scope.VMS_READ)) as client:
        for vm_uuid in (VM, uuid4()):
            refused = await client.get(f"/vms/{vm_uuid}/ngt?refresh=true")
            assert_problem(refused, 403, "insufficient-scope")
            assert 'scope="clusters:scan"' in refused.headers["www-authenticate"]
        assert (await client.get(f"/vms/{VM}/ngt")).status_code == 200
    async with service.client(await service.key(Scope.VMS_READ, Scope.CLUSTERS_SCAN)) as client:
        assert (await client.get(f"/vms/{VM}/ngt?refresh=true")).status_code == 200
        assert_problem(await client.get(f"/vms/{uuid4()}/ngt?refresh=true"), 404, "vm-not-found")


@pytest.mark.parametrize("query", ["refresh=maybe", "refresh=", "wait=21", "wait=-1", "reload=true"])
async def test_what_is_no_way_to_look_again_is_refused(service: Service, caller: httpx.AsyncClient, query: str) -> None:
    await add_vm(service, vm_uuid=VM)
    assert_problem(await caller.get(f"/vms/{VM}/ngt?{query}"), 422, "validation-failed")


# The forecast.


async def test_the_forecast_has_the_weeks_and_the_totals_of_each_cluster(
    service: Service, caller: httpx.AsyncClient
) -> None:
    today = datetime.now(UTC).date()
    monday = today - timedelta(days=today.weekday()) + timedelta(weeks=4)
    begins = datetime(monday.year, monday.month, monday.day, tzinfo=UTC)
    for not_after in (begins, begins + timedelta(days=6), begins + timedelta(days=7), from_now(days=-1), None):
        await add_vm(service, not_after=not_after)
    await add_vm(service, cluster="c2", not_after=from_now(days=2000))
    answer = await caller.get("/forecast")
    assert answer.status_code == 200
    assert answer.json() == {
        "items": [
            {"cluster": "c1", "week_begins": monday.isoformat(), "expiring": 2},
            {"cluster": "c1", "week_begins": (monday + timedelta(weeks=1)).isoformat(), "expiring": 1},
        ],
        "clusters": [
            {"cluster": "c1", "vms": 5, "expired": 1, "unknown": 1, "within_1000_days": 3},
            {"cluster": "c2", "vms": 1, "expired": 0, "unknown": 0, "within_1000_days": 0},
            {"cluster": "c3", "vms": 0, "expired": 0, "unknown": 0, "within_1000_days": 0},
        ],
    }
    only = (await caller.get("/forecast?cluster=c2")).json()
    assert (only["items"], [total["cluster"] for total in only["clusters"]]) == ([], ["c2"])
    assert_problem(await caller.get("/forecast?cluster=gone"), 404, "cluster-not-found")
    assert_problem(await caller.get("/forecast?cluster=C1"), 422, "validation-failed")
    assert_problem(await caller.get("/forecast?weeks=3"), 422, "validation-failed")

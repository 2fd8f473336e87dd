"""The plan of automatic renewals, readable before it is switched on, and starting them again after failures."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import update

from app.settings import AutoRenew, RenewWindow, Settings
from app.settings.callers.scopes import Scope
from app.store.postgres.tables import CLUSTER, JOB
from app.store.postgres.tables import VM as VM_TABLE
from tests.api.conftest import VM, Service, assert_problem, serving

PLAN = "/clusters/c1/auto-renew/plan"
RESUME = "/clusters/c1/auto-renew/resume"
DAY = timedelta(days=1)
RULE = "automatic renewal of c1: expires 2027-01-10, within before_days = 60; no windows: always open"


def with_rules(settings: Settings, cluster: str = "c1", **rules: Any) -> Settings:
    changed = settings.clusters[cluster].model_copy(update={"auto_renew": AutoRenew(**rules)})
    return settings.model_copy(update={"clusters": {**settings.clusters, cluster: changed}})


def at_noon() -> RenewWindow:
    """Always open, in a zone where it is about noon, so that the day does not end during the test."""
    zone = f"Etc/GMT{datetime.now(UTC).hour - 12:+d}"
    return RenewWindow(cron="* * * * *", duration_minutes=1, time_zone=zone)


@pytest_asyncio.fixture
async def ruled(settings: Settings, database_url: str) -> AsyncIterator[Service]:
    """Switched on for c1: one hour each night, and only for VMs named web-."""
    window = RenewWindow(cron="0 22 * * *", duration_minutes=60, time_zone="Europe/Berlin")
    rules = with_rules(settings, enabled=True, windows=(window,), include=("web-*",), restart_agent="manual")
    async with serving(rules, database_url) as running:
        yield running


async def add(service: Service, name: str, days_left: float | None, **columns: Any) -> str:
    vm_uuid = str(uuid4())
    ends_at = None if days_left is None else datetime.now(UTC) + timedelta(days=days_left)
    seen = {"vm_uuid": vm_uuid, "cluster": "c1", "name": name, "not_after": ends_at, "power": "on"}
    async with service.services.store.database.transaction() as connection:
        await connection.execute(VM_TABLE.insert().values(**seen | columns))
    return vm_uuid


async def plan_of(service: Service, path: str = PLAN) -> dict[str, Any]:
    async with service.client(await service.key(Scope.VMS_READ)) as client:
        answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    plan: dict[str, Any] = answer.json()
    assert "null" not in answer.text
    return plan


async def test_the_plan_can_be_read_before_it_is_switched_on(service: Service) -> None:
    soon = await add(service, "soon", 10.5, certificate_source="computed")
    off = await add(service, "off", 9, power="off")
    plan = await plan_of(service)
    assert (plan["cluster"], plan["enabled"], plan["stopped"]) == ("c1", False, False)
    assert plan["sentences"][0] == ("Automatic renewal is off: nothing of this is done before `enabled = true` is set.")
    assert plan["sentences"][1].startswith("No renewal was proved on this cluster yet")
    assert plan["sentences"][2].startswith("1 certificate is planned, at most 1 a day, from ")
    assert (plan["before_days"], plan["at_most_per_day"], plan["at_most_at_once"]) == (60, 20, 2)
    assert (plan["stop_after_failures"], plan["restart_agent"], plan["windows"]) == (3, "ssh", [])
    assert (plan["open_now"], plan["started_today"]) == (True, 0)
    (item,) = plan["items"]
    assert (item["vm_uuid"], item["vm_name"], item["in_time"]) == (soon, "soon", True)
    assert item["planned_from"] == plan["next_opens_at"] == plan["openings"][0]["opens_at"]
    assert item["planned_until"] == plan["next_closes_at"]
    assert item["reason"].endswith(", which is computed, within before_days = 60")
    (left,) = plan["left_out"]
    assert (left["vm_uuid"], left["reason_code"]) == (off, "powered_off")
    assert (plan["planned_count"], plan["left_out_count"], plan["too_late_count"]) == (1, 1, 0)
    assert "needed_per_day" not in plan
    async with service.client(await service.key(Scope.JOBS_READ)) as client:
        assert (await client.get("/jobs")).json()["items"] == []


async def test_the_plan_has_the_rules_in_force_and_the_next_opening(ruled: Service) -> None:
    await add(ruled, "web-1", 30)
    await add(ruled, "db-1", 30)
    await add(ruled, "web-2", None)
    plan = await plan_of(ruled)
    assert plan["windows"] == [{"cron": "0 22 * * *", "duration_minutes": 60, "time_zone": "Europe/Berlin"}]
    assert (plan["enabled"], plan["include"], plan["exclude"], plan["restart_agent"]) == (True, ["web-*"], [], "manual")
    opens, closes = (datetime.fromisoformat(plan[name]) for name in ("next_opens_at", "next_closes_at"))
    assert closes - opens == timedelta(hours=1)
    assert plan["openings"] == [{"opens_at": plan["next_opens_at"], "closes_at": plan["next_closes_at"], "renewals": 1}]
    assert {one["vm_name"]: one["reason_code"] for one in plan["left_out"]} == {
        "db-1": "excluded",
        "web-2": "date_unknown",
    }


async def test_what_is_too_late_is_said_with_the_number_that_is_needed(settings: Settings, database_url: str) -> None:
    rules = with_rules(settings, enabled=True, at_most_per_day=2, windows=(at_noon(),))
    async with serving(rules, database_url) as service:
        for number in range(9):
            await add(service, f"vm-{number}", 2)
        await add(service, "gone", -1)
        plan = await plan_of(service)
    # Today and tomorrow are over in time.
    assert (plan["planned_count"], plan["too_late_count"], plan["needed_per_day"]) == (10, 7, 5)
    assert plan["too_late"][0]["vm_name"] == "gone"
    assert plan["too_late"][0]["reason"].startswith("expired ")
    assert plan["sentences"][-1] == (
        "7 certificates are not renewed in time by these rules, 1 of which expired already: `at_most_per_day` = 5 "
        "would be needed, and it is 2."
    )


async def test_a_plan_shows_at_most_a_thousand_of_each_and_counts_all(settings: Settings, database_url: str) -> None:
    ends_at = datetime.now(UTC) + 40 * DAY
    rows = [{"vm_uuid": str(uuid4()), "cluster": "c1", "not_after": ends_at} for _ in range(1500)]
    rows += [{"vm_uuid": str(uuid4()), "cluster": "c1", "not_after": None} for _ in range(1100)]
    async with serving(with_rules(settings, windows=(at_noon(),)), database_url) as service:
        async with service.services.store.database.transaction() as connection:
            await connection.execute(VM_TABLE.insert(), rows)
        plan = await plan_of(service)
    assert [len(plan[name]) for name in ("items", "too_late", "left_out")] == [1000, 700, 1000]
    assert [plan[f"{name}_count"] for name in ("planned", "too_late", "left_out")] == [1500, 700, 1100]
    assert plan["needed_per_day"] == 38


async def test_a_plan_says_what_lets_nothing_begin(ruled: Service, caller: httpx.AsyncClient) -> None:
    stopped = {"auto_failures_in_a_row": 3, "auto_stopped_at": datetime.now(UTC), "auto_stopped_reason": "3 failed"}
    async with ruled.services.store.database.transaction() as connection:
        await connection.execute(update(CLUSTER).where(CLUSTER.c.name == "c1").values(**stopped))
    await ruled.services.store.clusters.pause("c1", None, "a test")
    plan = await plan_of(ruled)
    assert (plan["stopped"], plan["stopped_reason"]) == (True, "3 failed")
    assert plan["sentences"][:3] == [
        "Automatic renewal was stopped: 3 failed.",
        "The cluster is paused: nothing begins before it is resumed.",
        "After the cause is fixed, `POST /clusters/c1/auto-renew/resume` starts it again.",
    ]
    assert plan["sentences"][-2:] == [
        "No certificate of c1 is planned.",
        "No VM of c1 is known: `GET /clusters/c1/health` shows its last scan.",
    ]


async def test_automatic_renewals_are_started_again_by_an_administrator(ruled: Service) -> None:
    stopped = {"auto_failures_in_a_row": 3, "auto_stopped_at": datetime.now(UTC), "auto_stopped_reason": "3 failed"}
    async with ruled.services.store.database.transaction() as connection:
        await connection.execute(update(CLUSTER).where(CLUSTER.c.name == "c1").values(**stopped))
    async with ruled.client(await ruled.key(Scope.ADMIN)) as client:
        shown = (await client.get("/clusters")).json()["items"][0]
        assert (shown["auto_renew"], shown["auto_renew_stopped"]) == (True, True)
        assert (shown["auto_renew_stopped_reason"], shown["auto_renew_failures_in_a_row"]) == ("3 failed", 3)
        assert "auto_renew_stopped_at" in shown
        await client.post(RESUME)
        resumed = await client.post(RESUME)
        assert resumed.status_code == 200
        body = resumed.json()
        assert (body["auto_renew_stopped"], body["auto_renew_failures_in_a_row"]) == (False, 0)
        assert not {"auto_renew_stopped_at", "auto_renew_stopped_reason"} & body.keys()
        assert (await client.get("/clusters")).json()["items"][0] == body


@pytest.mark.parametrize(("method", "path"), [("GET", "plan"), ("POST", "resume")])
async def test_only_clusters_that_exist_and_that_the_key_may_use(service: Service, method: str, path: str) -> None:
    async with service.client(await service.key(*Scope)) as client:
        answer = await client.request(method, f"/clusters/gone/auto-renew/{path}")
        assert_problem(answer, 404, "cluster-not-found")
        answer = await client.request(method, f"/clusters/C1;reboot/auto-renew/{path}")
        assert_problem(answer, 422, "validation-failed")
        answer = await client.request(method, f"/clusters/c1/auto-renew/{path}", params={"page": "2"})
        assert_problem(answer, 422, "validation-failed")
    async with service.client(await service.key(*Scope, clusters=frozenset({"c2"}))) as client:
        for name in ("c1", "gone"):
            answer = await client.request(method, f"/clusters/{name}/auto-renew/{path}")
            assert_problem(answer, 403, "target-not-allowed")
    async with service.client(await service.key(Scope.JOBS_READ, Scope.RENEW)) as client:
        assert_problem(await client.request(method, f"/clusters/c1/auto-renew/{path}"), 403, "insufficient-scope")


async def test_resuming_takes_no_body(caller: httpx.AsyncClient) -> None:
    assert_problem(await caller.post(RESUME, json={"reason": "mended"}), 422, "validation-failed")


async def test_a_job_says_whether_it_was_automatic_and_is_found_by_it(
    service: Service, caller: httpx.AsyncClient
) -> None:
    asked = (await caller.post(f"/vms/{VM}/ngt/renew", json={"cluster": "c1"})).json()
    assert asked["automatic"] is False
    assert "automatic_rule" not in asked
    other = (await caller.post(f"/vms/{uuid4()}/ngt/renew", json={"cluster": "c1"})).json()
    async with service.services.store.database.transaction() as connection:
        await connection.execute(update(JOB).where(JOB.c.id == other["id"]).values(automatic_rule=RULE))
    shown = (await caller.get(f"/jobs/{other['id']}")).json()
    assert (shown["automatic"], shown["automatic_rule"]) == (True, RULE)
    for automatic, found in (("true", other), ("false", asked)):
        items = (await caller.get("/jobs", params={"automatic": automatic})).json()["items"]
        assert [job["id"] for job in items] == [found["id"]]
    assert_problem(await caller.get("/jobs", params={"automatic": "perhaps"}), 422, "validation-failed")


async def test_a_request_that_asks_for_the_same_joins_the_automatic_job(
    service: Service, caller: httpx.AsyncClient
) -> None:
    asked = {"cluster": "c1", "skip_if_valid_days": 60}
    job = (await caller.post(f"/vms/{VM}/ngt/renew", json=asked)).json()
    async with service.services.store.database.transaction() as connection:
        await connection.execute(update(JOB).where(JOB.c.id == job["id"]).values(automatic_rule=RULE))
    joined = (await caller.post(f"/vms/{VM}/ngt/renew", json=asked)).json()
    assert (joined["id"], joined["joined"], joined["automatic"]) == (job["id"], True, True)

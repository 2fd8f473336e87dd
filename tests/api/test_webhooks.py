"""Webhooks over HTTP: the callback of a request, the targets, their deliveries, a replay, a test."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from app.ngt.renewal.request import RestartAgent
from app.settings import ClusterSettings, Settings
from app.settings.callers.scopes import Scope
from tests.api.conftest import EVERYTHING, RENEW, VM, Service, assert_problem, serving
from tests.work.webhooks.rows import change_deliveries, deliveries
from tests.work.webhooks.samples import target

SYS_ID = "0123456789abcdef0123456789abcdef"
SNOW = {"callback_target": "snow", "callback_record": SYS_ID}
_SECRET_PATH = "/T024/B0/a-token-in-the-path"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    key_file = tmp_path / "key"
    targets = (
        target(name="told", url=f"https://receiver.example{_SECRET_PATH}", events=["ngt.renewal.cancelled"]),
        target(name="snow", profile="servicenow_table", table="change_request"),
        target(name="staged", profile="servicenow_import", staging_table="u_ngt", callback_only=True),
        target(name="of-c2", clusters=["c2"]),
    )

    def cluster(cvm: str) -> ClusterSettings:
        return ClusterSettings(cvms=(cvm,), key_file=key_file, known_hosts=key_file, restart_agent=RestartAgent.MANUAL)

    # As a TOML file has them.
    webhooks: dict[str, Any] = {target.name: target.model_dump(exclude={"name"}) for target in targets}
    clusters = {"c1": cluster("10.0.0.31"), "c2": cluster("10.0.0.32")}
    return Settings(data_dir=tmp_path, clusters=clusters, webhooks=webhooks)


@pytest_asyncio.fixture
async def service(settings: Settings, database_url: str) -> AsyncIterator[Service]:
    async with serving(settings, database_url) as running:
        yield running


@pytest_asyncio.fixture
async def caller(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with service.client(await service.key(*EVERYTHING)) as client:
        yield client


async def ended(caller: httpx.AsyncClient, number: int = 0, **body: Any) -> str:
    """The id of a job on c1 that was cancelled."""
    vm = VM[:-4] + f"{number:04x}"
    started = await caller.post(f"/vms/{vm}/ngt/renew", json={"cluster": "c1", **body})
    assert started.status_code == 202, started.text
    job_id: str = started.json()["id"]
    assert (await caller.post(f"/jobs/{job_id}/cancel")).status_code == 202
    return job_id


async def listed(caller: httpx.AsyncClient, webhook: str, **query: Any) -> list[dict[str, Any]]:
    answer = await caller.get(f"/webhooks/{webhook}/deliveries", params=query)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


# The callback of a request.


@pytest.mark.parametrize(
    "body",
    [
        {"callback_target": "nobody"},
        {"callback_target": "Not A Name"},
        {"callback_target": "told", "callback_record": SYS_ID},
        {"callback_target": "snow"},
        {"callback_target": "snow", "callback_record": ""},
        {"callback_target": "snow", "callback_record": SYS_ID.upper()},
        {"callback_target": "snow", "callback_record": "CHG1"},
        {"callback_target": "snow", "callback_record": "../sys_user/1"},
        {"callback_target": "staged", "callback_record": "sys_user"},
        {"callback_record": SYS_ID},
        {"callback_target": "of-c2"},
        {**SNOW, "validate_only": True},
    ],
    ids=str,
)
async def test_a_callback_that_is_not_allowed_starts_nothing(
    service: Service, caller: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    if body.get("callback_target") == "Not A Name":
        assert_problem(await caller.post(RENEW, json={"cluster": "c1", **body}), 422, "validation-failed")
    else:
        problem = assert_problem(await caller.post(RENEW, json={"cluster": "c1", **body}), 400, "callback-not-allowed")
        assert problem["detail"].endswith("Nothing was started.")
    assert await service.stored() == (0, 0)


@pytest.mark.parametrize(
    ("body", "record"),
    [
        (SNOW, SYS_ID),
        ({"callback_target": "snow", "callback_record": "CHG0030123"}, "CHG0030123"),
        ({"callback_target": "staged"}, None),
        ({"callback_target": "staged", "callback_record": "RITM0010042"}, "RITM0010042"),
    ],
    ids=str,
)
async def test_a_callback_is_written_with_its_record(
    caller: httpx.AsyncClient, body: dict[str, Any], record: str | None
) -> None:
    job_id = await ended(caller, **body)
    (delivery,) = await listed(caller, body["callback_target"])
    assert delivery.get("record") == record
    assert (delivery["job_id"], delivery["event"]) == (job_id, "ngt.renewal.cancelled")
    assert (delivery["status"], delivery["attempts"], delivery["cluster"]) == ("pending", 0, "c1")
    assert delivery.keys().isdisjoint({"last_error", "finished_at", "last_http_status"})


async def test_an_empty_text_names_no_callback(caller: httpx.AsyncClient) -> None:
    await ended(caller, callback_target="", callback_record="")
    assert [await listed(caller, name) for name in ("snow", "staged")] == [[], []]


async def test_a_target_of_one_cluster_is_named_for_vms_of_that_cluster(caller: httpx.AsyncClient) -> None:
    everywhere = await caller.post(RENEW, json={"callback_target": "of-c2"})
    assert "name the `cluster`" in assert_problem(everywhere, 400, "callback-not-allowed")["detail"]
    there = await caller.post(RENEW, json={"callback_target": "of-c2", "cluster": "c2"})
    assert there.status_code == 202


async def test_a_callback_is_part_of_what_an_idempotency_key_stands_for(caller: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "CHG0030123-1"}
    first = await caller.post(RENEW, json=SNOW, headers=key)
    again = await caller.post(RENEW, json=SNOW, headers=key)
    assert (first.json()["id"], again.headers["idempotency-replayed"]) == (again.json()["id"], "true")
    other = await caller.post(RENEW, json={**SNOW, "callback_record": "CHG0030124"}, headers=key)
    assert_problem(other, 422, "idempotency-key-reused")


async def test_a_request_with_another_callback_joins_and_both_are_told(caller: httpx.AsyncClient) -> None:
    first = await caller.post(RENEW, json=SNOW)
    joined = await caller.post(RENEW, json={**SNOW, "callback_record": "CHG0030124"})
    assert (joined.json()["id"], joined.json()["joined"]) == (first.json()["id"], True)
    await caller.post(f"/jobs/{first.json()['id']}/cancel")
    assert {delivery["record"] for delivery in await listed(caller, "snow")} == {SYS_ID, "CHG0030124"}


# The targets.


async def test_the_targets_are_listed_without_any_secret(caller: httpx.AsyncClient) -> None:
    answer = await caller.get("/webhooks")
    told = {item["name"]: item for item in answer.json()["items"]}
    assert list(told) == ["of-c2", "snow", "staged", "told"]
    assert told["told"] == {
        "name": "told",
        "profile": "standard",
        "host": "receiver.example",
        "events": ["ngt.renewal.cancelled"],
        "clusters": [],
        "callback_only": False,
        "accepts_record": False,
        "needs_record": False,
        "disabled": False,
    }
    assert (told["snow"]["needs_record"], told["snow"]["callback_only"], told["snow"]["events"]) == (True, True, ["*"])
    assert _SECRET_PATH not in answer.text
    assert "secret" not in answer.text


async def test_a_key_of_one_cluster_sees_what_concerns_it_alone(service: Service, caller: httpx.AsyncClient) -> None:
    await ended(caller)
    limited = await service.key(*EVERYTHING, clusters=frozenset({"c2"}))
    (delivery,) = await listed(caller, "told")
    async with service.client(limited) as other:
        assert await listed(other, "told") == []
        assert "of-c2" in {item["name"] for item in (await other.get("/webhooks")).json()["items"]}
        replayed = await other.post(f"/deliveries/{delivery['id']}/replay")
        assert_problem(replayed, 404, "delivery-not-found")
    async with service.client(await service.key(*EVERYTHING, clusters=frozenset({"c1"}))) as own:
        assert len(await listed(own, "told")) == 1
        assert "of-c2" not in {item["name"] for item in (await own.get("/webhooks")).json()["items"]}
        for path in ("/webhooks/of-c2/deliveries", "/webhooks/nobody/deliveries"):
            assert_problem(await own.get(path), 404, "webhook-not-found")
        assert_problem(await own.post("/webhooks/of-c2/test"), 404, "webhook-not-found")


async def test_reading_and_acting_need_their_scopes(service: Service, caller: httpx.AsyncClient) -> None:
    await ended(caller)
    (delivery,) = await listed(caller, "told")
    async with service.client(await service.key(Scope.JOBS_READ)) as reader:
        assert (await reader.get("/webhooks")).status_code == 200
        for path in ("/webhooks/told/test", f"/deliveries/{delivery['id']}/replay"):
            assert_problem(await reader.post(path), 403, "insufficient-scope")
    async with service.client(await service.key(Scope.RENEW)) as other:
        for path in ("/webhooks", "/webhooks/told/deliveries"):
            assert_problem(await other.get(path), 403, "insufficient-scope")


# Deliveries.


async def test_deliveries_are_listed_page_by_page_newest_first(caller: httpx.AsyncClient) -> None:
    jobs = [await ended(caller, number) for number in range(5)]
    seen: list[str] = []
    url: str | None = "/webhooks/told/deliveries?limit=2&status=pending"
    pages = 0
    while url is not None:
        answer = await caller.get(url)
        seen += [item["job_id"] for item in answer.json()["items"]]
        pages += 1
        url = answer.links.get("next", {}).get("url")
        assert ("next_cursor" in answer.json()) is (url is not None)
    assert (seen, pages) == (jobs[::-1], 3)
    assert await listed(caller, "told", status="delivered") == []
    assert_problem(await caller.get("/webhooks/told/deliveries?cursor=x"), 422, "validation-failed")
    assert_problem(await caller.get("/webhooks/told/deliveries?status=lost"), 422, "validation-failed")


async def test_a_delivery_that_has_ended_is_replayed(service: Service, caller: httpx.AsyncClient) -> None:
    await ended(caller)
    (delivery,) = await listed(caller, "told")
    replay = f"/deliveries/{delivery['id']}/replay"
    assert "pending" in assert_problem(await caller.post(replay), 409, "delivery-not-replayable")["detail"]
    await change_deliveries(service.services.store.database, status="exhausted", due_at=None, attempts=10)
    replayed = await caller.post(replay)
    assert replayed.status_code == 202
    assert (replayed.json()["id"], replayed.json()["status"]) == (delivery["id"], "pending")
    assert (replayed.json()["attempts"], "due_at" in replayed.json()) == (0, True)
    unknown = await caller.post("/deliveries/0199c1f2-7d10-7b52-a1ad-3a0f0c9a0b6e/replay")
    assert_problem(unknown, 404, "delivery-not-found")


async def test_what_was_sent_to_a_target_that_was_removed_is_still_shown(
    service: Service, caller: httpx.AsyncClient
) -> None:
    await ended(caller)
    await change_deliveries(service.services.store.database, target="removed", status="removed", due_at=None)
    (delivery,) = await listed(caller, "removed")
    problem = assert_problem(await caller.post(f"/deliveries/{delivery['id']}/replay"), 409, "delivery-not-replayable")
    assert "not configured" in problem["detail"]


async def test_a_test_is_put_on_its_way(service: Service, caller: httpx.AsyncClient) -> None:
    answer = await caller.post("/webhooks/snow/test")
    assert answer.status_code == 202
    assert (answer.json()["event"], answer.json()["status"]) == ("webhook.test", "pending")
    assert [delivery["id"] for delivery in await listed(caller, "snow")] == [answer.json()["id"]]
    (row,) = await deliveries(service.services.store.database)
    assert row["facts"] == {"message": "This is a test; nothing happened."}
    assert_problem(await caller.post("/webhooks/nobody/test"), 404, "webhook-not-found")


async def test_what_is_pending_is_counted(caller: httpx.AsyncClient) -> None:
    assert "ngt_webhook_pending 0.0" in (await caller.get("/metrics")).text
    await ended(caller)
    metrics = (await caller.get("/metrics")).text
    assert "ngt_webhook_pending 1.0" in metrics
    assert "\nngt_webhook_oldest_pending_timestamp_seconds 1." in metrics

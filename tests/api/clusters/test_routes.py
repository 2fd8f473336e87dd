from dataclasses import replace

import httpx

from app.settings.callers.scopes import Scope
from tests.api.conftest import Service, assert_problem


async def test_clusters_are_listed_by_name_with_what_is_configured(caller: httpx.AsyncClient) -> None:
    items = (await caller.get("/clusters")).json()["items"]
    assert [cluster["name"] for cluster in items] == ["c1", "c2", "c3"]
    assert items[1] == {
        "name": "c2",
        "paused": False,
        "proven": False,
        "mode": "recreate",
        "restart_agent": "manual",
        "max_running": 3,
        "auto_renew": False,
        "auto_renew_stopped": False,
        "auto_renew_failures_in_a_row": 0,
    }


async def test_a_key_sees_only_its_clusters(service: Service) -> None:
    async with service.client(await service.key(Scope.RENEW, clusters=frozenset({"c2", "gone"}))) as client:
        assert [cluster["name"] for cluster in (await client.get("/clusters")).json()["items"]] == ["c2"]


async def test_a_cluster_is_paused_with_a_reason_and_resumed(caller: httpx.AsyncClient) -> None:
    paused = await caller.post("/clusters/c1/pause", json={"reason": "AOS upgrade"})
    assert paused.status_code == 200
    assert (paused.json()["paused"], paused.json()["pause_reason"]) == (True, "AOS upgrade")
    assert {"paused_at", "paused_by"} <= paused.json().keys()
    assert (await caller.get("/clusters")).json()["items"][0] == paused.json()
    resumed = await caller.post("/clusters/c1/resume")
    assert (resumed.status_code, resumed.json()["paused"]) == (200, False)
    assert not {"paused_at", "paused_by", "pause_reason"} & resumed.json().keys()


async def test_a_bare_post_pauses_without_a_reason(caller: httpx.AsyncClient) -> None:
    paused = (await caller.post("/clusters/c1/pause")).json()
    assert paused["paused"]
    assert "pause_reason" not in paused


async def test_only_clusters_that_exist_and_that_the_key_may_use_are_paused(
    service: Service, caller: httpx.AsyncClient
) -> None:
    assert_problem(await caller.post("/clusters/gone/pause"), 404, "cluster-not-found")
    assert_problem(await caller.post("/clusters/C1;reboot/pause"), 422, "validation-failed")
    assert_problem(await caller.post("/clusters/c1/pause", json={"until": "never"}), 422, "validation-failed")
    async with service.client(await service.key(Scope.ADMIN, clusters=frozenset({"c1"}))) as client:
        for name in ("c2", "gone"):
            for operation in ("pause", "resume"):
                answer = await client.post(f"/clusters/{name}/{operation}")
                assert_problem(answer, 403, "target-not-allowed")
    assert not any(cluster["paused"] for cluster in (await caller.get("/clusters")).json()["items"])


async def test_a_cluster_that_was_added_to_the_configuration_can_be_paused(service: Service) -> None:
    added = {**service.services.settings.clusters, "c9": service.services.settings.clusters["c1"]}
    settings = service.services.settings.model_copy(update={"clusters": added})
    service.app.state.services = replace(service.services, settings=settings)
    async with service.client(await service.key(Scope.ADMIN)) as client:
        assert (await client.post("/clusters/c9/pause")).json()["paused"]

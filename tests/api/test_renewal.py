import asyncio

import httpx
import pytest

from app.settings.callers.scopes import Scope
from tests.api.conftest import RENEW, VM, Service, assert_problem

OTHER_VM = "0b9e4d6c-7f30-4a0a-9c1d-3f1f2a6d8e55"


async def test_a_bare_post_starts_a_job_that_can_be_polled(service: Service, caller: httpx.AsyncClient) -> None:
    answer = await caller.post(RENEW)
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/jobs/{job['id']}"
    assert int(answer.headers["retry-after"]) > 0
    assert (job["vm_uuid"], job["status"], job["done"], job["joined"]) == (VM, "queued", False, False)
    assert None not in job.values()
    polled = await caller.get(answer.headers["location"])
    assert polled.status_code == 200
    assert polled.json() == job
    assert await service.stored() == (1, 0)


async def test_what_is_asked_is_stored_with_its_notes(service: Service, caller: httpx.AsyncClient) -> None:
    notes = {"correlation_id": "RITM1", "correlation_display": "ServiceNow", "change_number": "CHG0030123"}
    asked = {"mode": "refresh", "force": True, "skip_if_valid_days": 30.0, "cluster": "c2", "requested_by": "søren"}
    job = (await caller.post(RENEW, json={**asked, **notes})).json()
    assert {name: job[name] for name in notes} == notes
    assert (job["mode"], job["forced"], job["cluster"], job["requested_by"]) == ("refresh", True, "c2", "søren")
    assert job["created_at"].endswith("Z")
    request = await service.stored_request(job["id"])
    assert (request["skip_if_valid_days"], request["clusters"], request["when_powered_off"]) == (30, ["c2"], "refuse")


async def test_a_null_for_a_body_is_no_body(caller: httpx.AsyncClient) -> None:
    answer = await caller.post(RENEW, content=b"null", headers={"Content-Type": "application/json"})
    assert answer.status_code == 202, answer.text


async def test_a_null_or_an_empty_note_says_nothing(caller: httpx.AsyncClient) -> None:
    # That these words may be null is not in the OpenAPI documents; flows of low-code tools send it all the same.
    nothing = {"mode": None, "restart_agent": None, "correlation_id": "", "change_number": None}
    job = (await caller.post(RENEW, json=nothing)).json()
    assert not {"mode", "correlation_id", "change_number"} & job.keys()


async def test_without_a_cluster_all_are_searched_that_the_key_may_use(service: Service) -> None:
    everywhere = await service.key(Scope.RENEW)
    on_two = await service.key(Scope.RENEW, clusters=frozenset({"c1", "c3"}))
    async with service.client(everywhere) as all_clusters, service.client(on_two) as two_clusters:
        wide = (await all_clusters.post(RENEW)).json()
        narrow = (await two_clusters.post(f"/vms/{OTHER_VM}/ngt/renew")).json()
    assert (await service.stored_request(wide["id"]))["clusters"] == ["c1", "c2", "c3"]
    assert (await service.stored_request(narrow["id"]))["clusters"] == ["c1", "c3"]
    assert "cluster" not in wide


async def test_a_vm_that_was_seen_is_searched_on_its_cluster_alone(service: Service, caller: httpx.AsyncClient) -> None:
    await service.saw(VM, "c2")
    job = (await caller.post(RENEW)).json()
    assert job["cluster"] == "c2"
    assert (await service.stored_request(job["id"]))["clusters"] == ["c2"]


async def test_where_a_key_may_not_look_nothing_stored_leads(service: Service) -> None:
    await service.saw(VM, "c2")
    async with service.client(await service.key(Scope.RENEW, clusters=frozenset({"c3"}))) as client:
        job = (await client.post(RENEW)).json()
    assert (await service.stored_request(job["id"]))["clusters"] == ["c3"]


async def test_a_key_of_no_configured_cluster_can_renew_nothing(service: Service) -> None:
    async with service.client(await service.key(Scope.RENEW, clusters=frozenset({"gone"}))) as client:
        assert_problem(await client.post(RENEW), 403, "target-not-allowed")
    assert await service.stored() == (0, 0)


async def test_a_second_request_for_the_same_joins_and_is_found_by_its_own_id(caller: httpx.AsyncClient) -> None:
    first = (await caller.post(RENEW, json={"correlation_id": "one"})).json()
    second = await caller.post(RENEW, json={"correlation_id": "two", "force": False})
    assert (second.status_code, second.json()["id"], second.json()["joined"]) == (202, first["id"], True)
    found = (await caller.get("/jobs", params={"correlation_id": "two"})).json()
    assert [job["id"] for job in found["items"]] == [first["id"]]


@pytest.mark.parametrize("body", [{"force": True}, {"on_conflict": "fail"}])
async def test_a_busy_vm_is_a_conflict_that_names_its_job(
    service: Service, caller: httpx.AsyncClient, body: dict[str, object]
) -> None:
    first = (await caller.post(RENEW)).json()
    answer = await caller.post(RENEW, json=body)
    problem = assert_problem(answer, 409, "vm-busy")
    assert (problem["job_id"], answer.headers["location"]) == (first["id"], f"/jobs/{first['id']}")
    assert problem["retryable"]
    assert await service.stored() == (1, 0)


@pytest.mark.parametrize("name", ["Idempotency-Key", "NTNX-Request-Id"])
async def test_a_repeated_request_gets_its_job_again(service: Service, caller: httpx.AsyncClient, name: str) -> None:
    first = await caller.post(RENEW, json={"skip_if_valid_days": 30}, headers={name: "CHG1"})
    again = await caller.post(RENEW, json={"skip_if_valid_days": 30.0}, headers={name: '"CHG1"'})
    assert (first.headers.get("idempotency-replayed"), again.headers["idempotency-replayed"]) == (None, "true")
    assert (again.status_code, again.json()["id"], again.json()["joined"]) == (202, first.json()["id"], False)
    assert await service.stored() == (1, 1)


async def test_a_replay_of_a_job_that_is_done_is_a_200(service: Service, caller: httpx.AsyncClient) -> None:
    first = await caller.post(RENEW, headers={"Idempotency-Key": "CHG1"})
    await service.end(first.json()["id"])
    again = await caller.post(RENEW, headers={"Idempotency-Key": "CHG1"})
    assert (again.status_code, again.json()["outcome"]) == (200, "renewed")
    assert "retry-after" not in again.headers


async def test_twenty_equal_requests_at_once_make_one_job(service: Service, caller: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(caller.post(RENEW, headers={"Idempotency-Key": "CHG1"}) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert await service.stored() == (1, 1)


@pytest.mark.parametrize(
    ("url", "headers", "applied"),
    [(f"{RENEW}?wait=20", {}, None), (RENEW, {"Prefer": "respond-async, wait=9999"}, "wait=20")],
)
async def test_a_job_that_ends_within_the_wait_is_a_200(
    service: Service, caller: httpx.AsyncClient, url: str, headers: dict[str, str], applied: str | None
) -> None:
    await service.services.store.changes.listening()
    async with service.announced() as next_id:
        waiting = asyncio.create_task(caller.post(url, headers=headers))
        await service.end(await next_id())
        answer = await waiting
    assert (answer.status_code, answer.json()["done"]) == (200, True)
    assert answer.headers.get("preference-applied") == applied


async def test_a_job_that_outlasts_the_wait_is_a_202(caller: httpx.AsyncClient) -> None:
    assert (await caller.post(f"{RENEW}?wait=1")).status_code == 202


async def test_a_request_that_only_validates_never_meets_another_job(
    service: Service, caller: httpx.AsyncClient
) -> None:
    await caller.post(RENEW)
    answer = await caller.post(RENEW, json={"validate_only": True})
    assert (answer.status_code, answer.json()["validate_only"], answer.json()["joined"]) == (202, True, False)
    assert await service.stored() == (2, 0)


async def test_the_agent_may_be_restarted_by_hand_where_the_service_could_not(
    service: Service, caller: httpx.AsyncClient
) -> None:
    over_ssh = {"cluster": "c2", "restart_agent": "ssh"}
    assert_problem(await caller.post(RENEW, json=over_ssh), 422, "agent-restart-not-possible")
    assert await service.stored() == (0, 0)
    assert (await caller.post(RENEW, json=over_ssh | {"restart_agent": "manual"})).status_code == 202

"""Pausing the whole service over HTTP, where it is shown, and the bound of its queue."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import select, text, update

from app.settings import Callers, Retention, Settings
from app.settings.callers.scopes import Scope
from app.store.postgres.tables import JOB, PAUSE
from tests.api.conftest import EVERYTHING, RENEW, VM, Service, assert_problem, serving

PAUSE_PATH, RESUME_PATH = "/admin/pause", "/admin/resume"


def ahead(**time: float) -> str:
    return (datetime.now(UTC) + timedelta(**time)).isoformat(timespec="seconds").replace("+00:00", "Z")


async def paused_metric(caller: httpx.AsyncClient) -> str:
    (line,) = (
        line for line in (await caller.get("/metrics")).text.splitlines() if line.startswith("ngt_executions_paused")
    )
    return line.rpartition(" ")[2]


async def test_a_pause_is_answered_flat_and_shown_wherever_one_looks(caller: httpx.AsyncClient) -> None:
    until = ahead(hours=4)
    answer = await caller.post(PAUSE_PATH, json={"reason": "AOS upgrade CHG0030200", "until": until})
    assert answer.status_code == 200
    paused = answer.json()
    assert (paused["paused"], paused["reason"]) == (True, "AOS upgrade CHG0030200")
    assert paused["until"] == until.replace("Z", ".000Z")
    assert paused["paused_by"] == "a test"
    meta = (await caller.get("/meta")).json()
    assert [meta[name] for name in ("paused", "paused_at", "paused_by", "pause_reason", "paused_until")] == [
        paused[name] for name in ("paused", "paused_at", "paused_by", "reason", "until")
    ]
    ready = await caller.get("/readyz?verbose=true")
    assert (ready.status_code, ready.json()["status"], ready.json()["paused"]) == (200, "ready", True)
    assert await paused_metric(caller) == "1.0"


async def test_resuming_leaves_no_trace_and_may_come_twice(caller: httpx.AsyncClient) -> None:
    await caller.post(PAUSE_PATH)
    for _ in range(2):
        answer = await caller.post(RESUME_PATH)
        assert (answer.status_code, answer.json()) == (200, {"paused": False})
    assert not {"paused_at", "paused_by", "pause_reason", "paused_until"} & (await caller.get("/meta")).json().keys()
    assert (await caller.get("/readyz?verbose=true")).json()["paused"] is False
    assert await paused_metric(caller) == "0.0"


async def test_a_pause_ends_by_itself_also_for_those_who_only_look(service: Service, caller: httpx.AsyncClient) -> None:
    await caller.post(PAUSE_PATH, json={"until": ahead(hours=1)})
    async with service.services.store.database.transaction() as connection:
        await connection.execute(update(PAUSE).values(until=text("clock_timestamp()")))
    assert (await caller.get("/meta")).json()["paused"] is False


async def test_without_a_key_it_is_not_told_whether_the_service_is_paused(
    service: Service, caller: httpx.AsyncClient
) -> None:
    await caller.post(PAUSE_PATH)
    async with service.client() as stranger:
        assert (await stranger.get("/readyz")).json() == {"status": "ready"}


async def test_a_second_pause_keeps_the_first_time(caller: httpx.AsyncClient) -> None:
    first = (await caller.post(PAUSE_PATH, json={"reason": "one", "until": ahead(hours=1)})).json()
    second = (await caller.post(PAUSE_PATH, json={"reason": "two"})).json()
    assert (second["paused_at"], second["reason"]) == (first["paused_at"], "two")
    assert "until" not in second


@pytest.mark.parametrize(
    "until",
    [
        "2020-01-01T00:00:00Z",
        "2999-01-01T00:00:00Z",
        "2026-12-01",
        "2026-12-01T00:00:00",
        "tomorrow",
        "",
        "1796083200",
        1796083200,
        True,
        ["2026-12-01T00:00:00Z"],
    ],
)
async def test_an_end_that_is_not_ahead_or_no_time_is_refused(caller: httpx.AsyncClient, until: object) -> None:
    problem = assert_problem(await caller.post(PAUSE_PATH, json={"until": until}), 422, "validation-failed")
    assert problem["errors"][0]["pointer"].startswith("/body/until")
    assert (await caller.get("/meta")).json()["paused"] is False


@pytest.mark.parametrize(
    ("until", "said"),
    [("2020-01-01T00:00:00Z", "not in the future"), ("2999-01-01T00:00:00Z", "more than 366 days ahead")],
)
async def test_it_is_said_why_an_end_is_none(caller: httpx.AsyncClient, until: str, said: str) -> None:
    problem = assert_problem(await caller.post(PAUSE_PATH, json={"until": until}), 422, "validation-failed")
    assert problem["errors"] == [{"pointer": "/body/until", "detail": f"The time is {said}."}]


async def test_an_end_within_a_year_is_taken_in_any_zone(caller: httpx.AsyncClient) -> None:
    for until in (None, ahead(days=365), ahead(minutes=1), ahead(hours=3).replace("Z", "+02:00")):
        assert (await caller.post(PAUSE_PATH, json={"until": until})).status_code == 200


async def test_an_end_may_have_a_blank_between_date_and_time_and_no_seconds(caller: httpx.AsyncClient) -> None:
    until = ahead(hours=3)
    for written in (until.replace("T", " "), f"{until[:16]}Z", f"{until[:16].replace('T', ' ')}+00:00"):
        assert (await caller.post(PAUSE_PATH, json={"until": written})).status_code == 200


@pytest.mark.parametrize("body", [{"reason": "x" * 201}, {"reason": "a\nb"}, {"untill": None}, {"reason": 5}])
async def test_other_values_that_cannot_be_accepted_are_refused(
    caller: httpx.AsyncClient, body: dict[str, object]
) -> None:
    assert_problem(await caller.post(PAUSE_PATH, json=body), 422, "validation-failed")


async def test_only_admins_of_all_clusters_pause_and_resume(service: Service) -> None:
    no_admin = await service.key(*(EVERYTHING - {Scope.ADMIN}))
    limited = await service.key(Scope.ADMIN, clusters=frozenset({"c1", "c2", "c3"}))
    for path in (PAUSE_PATH, RESUME_PATH):
        async with service.client(no_admin) as client:
            assert_problem(await client.post(path), 403, "insufficient-scope")
        async with service.client(limited) as client:
            assert_problem(await client.post(path), 403, "target-not-allowed")
        async with service.client() as client:
            assert_problem(await client.post(path), 401, "unauthenticated")


async def test_renewals_are_accepted_while_the_service_is_paused_and_say_so(caller: httpx.AsyncClient) -> None:
    await caller.post(PAUSE_PATH, json={"reason": "AOS upgrade"})
    answer = await caller.post(RENEW, json={"cluster": "c1"})
    assert answer.status_code == 202
    assert (answer.json()["status"], answer.json()["wait_reason"]) == ("queued", "service_paused")
    assert "AOS upgrade" in answer.json()["message"]
    await caller.post(RESUME_PATH)
    now = (await caller.get(answer.headers["location"])).json()
    assert (now["message"], "wait_reason" in now) == ("queued", False)


@pytest.mark.parametrize(
    ("accept_unverified", "expected"), [(False, ("cluster_not_proven", False)), (True, ("cluster_busy", True))]
)
async def test_a_resume_holds_jobs_only_where_one_renewal_is_proved_first(
    settings: Settings, database_url: str, accept_unverified: bool, expected: tuple[str, bool]
) -> None:
    c1 = settings.clusters["c1"].model_copy(update={"accept_unverified": accept_unverified})
    changed = settings.model_copy(update={"clusters": {**settings.clusters, "c1": c1}})
    async with serving(changed, database_url) as service, service.client(await service.key(*EVERYTHING)) as caller:
        running, waiting = [
            (await caller.post(f"/vms/{uuid4()}/ngt/renew", json={"cluster": "c1"})).json()["id"] for _ in range(2)
        ]
        await service.leave(running, status="running", takes_slot=True, lease_until=text("clock_timestamp() + '1 h'"))
        await caller.post(PAUSE_PATH)
        await service.leave(waiting, wait_reason="service_paused", due_at=None)
        await caller.post(RESUME_PATH)
        now = (await caller.get(f"/jobs/{waiting}")).json()
        async with service.services.store.database.transaction() as connection:
            is_due = await connection.scalar(select(JOB.c.due_at.is_not(None)).where(JOB.c.id == UUID(waiting)))
    assert (now["wait_reason"], is_due) == expected


async def test_meta_says_what_the_service_keeps_to(service: Service, caller: httpx.AsyncClient) -> None:
    changed = {"retention": Retention(jobs_days=30), "callers": Callers(max_queued_jobs=77)}
    settings = service.services.settings.model_copy(update=changed)
    service.app.state.services = replace(service.services, settings=settings)
    meta = (await caller.get("/meta")).json()
    kept = ("jobs_kept_days", "idempotency_keys_kept_days", "deliveries_kept_days", "max_wait_s", "max_queued_jobs")
    assert [meta[name] for name in kept] == [30, 7, 14, 20, 77]
    away = datetime.now(UTC) - datetime.fromisoformat(meta["server_time_at"])
    assert abs(away) < timedelta(minutes=1)


async def test_a_full_queue_refuses_new_renewals_and_answers_for_those_that_there_are(
    service: Service, caller: httpx.AsyncClient
) -> None:
    settings = service.services.settings.model_copy(update={"callers": Callers(max_queued_jobs=1)})
    service.app.state.services = replace(service.services, settings=settings)
    first = await caller.post(RENEW, headers={"Idempotency-Key": "one"})
    assert first.status_code == 202
    other = RENEW.replace(VM, VM.replace("20", "30", 1))
    refused = await caller.post(other, headers={"Idempotency-Key": "two"})
    problem = assert_problem(refused, 503, "queue-full")
    assert problem["retryable"]
    assert int(refused.headers["retry-after"]) > 0
    assert (await caller.post(RENEW, headers={"Idempotency-Key": "one"})).headers["idempotency-replayed"] == "true"
    assert (await caller.post(RENEW)).json()["joined"]
    assert await service.stored() == (1, 1)

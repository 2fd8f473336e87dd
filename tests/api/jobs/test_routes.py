from datetime import UTC, datetime, timedelta
from itertools import product
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import func

from app.api.jobs.responses import poll_after_s
from app.ngt.errors import RULES, FaultCode
from app.settings.callers.scopes import Scope
from app.store.postgres.tables import EXCHANGE, STEP
from app.store.records.jobs import JobStatus
from tests.api.conftest import RENEW, VM, Service, assert_problem

AT = datetime(2026, 11, 23, 1, 2, 3, 456789, tzinfo=UTC)


async def start(caller: httpx.AsyncClient, **body: object) -> str:
    answer = await caller.post(f"/vms/{uuid4()}/ngt/renew", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def test_a_renewed_job_shows_what_was_proved(service: Service, caller: httpx.AsyncClient) -> None:
    job_id = await start(caller)
    results = {"old_not_after": "2026-12-01T00:00:00Z", "new_not_after": "2029-08-19T02:11:04Z", "link_active": True}
    await service.end(job_id, results=results | {"verified_by": "guest_certificate", "vss_before": False}, cluster="c1")
    async with service.services.store.database.transaction() as connection:
        step = {"name": "verify", "attempt": 1, "status": "succeeded", "message": "", "cvm": "10.0.0.31"}
        times = {"started_at": AT, "finished_at": AT + timedelta(milliseconds=212)}
        await connection.execute(STEP.insert().values(job_id=UUID(job_id), number=1, **step, **times))
    answer = await caller.get(f"/jobs/{job_id}")
    job = answer.json()
    assert results.items() <= job.items()
    assert (job["done"], job["outcome"], job["vss_before"]) == (True, "renewed", False)
    assert job["steps"] == [
        step | {"started_at": "2026-11-23T01:02:03.456Z", "finished_at": "2026-11-23T01:02:03.668Z", "duration_ms": 212}
    ]
    own = f"/jobs/{job_id}"
    assert job["links"] == {"self": own, **{name: f"{own}/{name}" for name in ("result", "events", "log")}}
    assert "retry-after" not in answer.headers
    assert not {"error_code", "wait_reason", "vss_after", "plan"} & job.keys()


async def test_a_failed_job_is_a_200_that_says_what_to_do(service: Service, caller: httpx.AsyncClient) -> None:
    job_id = await start(caller)
    failed = {"error_code": "gateway-down", "error_message": "No CVM of c1 reaches its gateway."}
    await service.end(job_id, status=JobStatus.FAILED, outcome="failed", **failed)
    answer = await caller.get(f"/jobs/{job_id}")
    job = answer.json()
    rule = RULES[FaultCode.GATEWAY_DOWN]
    assert (answer.status_code, job["done"]) == (200, True)
    assert failed.items() <= job.items()
    assert (job["error_action"], job["error_retryable"]) == (f"For the operator of the cluster: {rule.action}", True)


async def test_a_plan_is_shown_whole(service: Service, caller: httpx.AsyncClient) -> None:
    job_id = await start(caller, validate_only=True)
    plan = {
        "commands": ["delete", "create"],
        "restart": "by hand",
        "proof": "nothing",
        "refusal_codes": ["not-verifiable"],
        "refusals": ["c2 can prove nothing."],
    }
    await service.end(job_id, outcome="planned", results={"plan": plan | {"guest_address": None}})
    assert (await caller.get(f"/jobs/{job_id}")).json()["plan"] == plan


async def test_an_unchanged_job_is_a_304_until_it_changes(service: Service, caller: httpx.AsyncClient) -> None:
    job_id = await start(caller)
    tag = (await caller.get(f"/jobs/{job_id}")).headers["etag"]
    paths = (f"/jobs/{job_id}", f"/jobs/{job_id}/result")
    for path, given in product(paths, (tag, f"W/{tag}", f'"other", {tag}', "*")):
        unchanged = await caller.get(path, headers={"If-None-Match": given})
        assert (unchanged.status_code, unchanged.content, unchanged.headers["etag"]) == (304, b"", tag)
        assert int(unchanged.headers["retry-after"]) > 0
    await service.leave(job_id, message="found")
    changed = [await caller.get(path, headers={"If-None-Match": tag}) for path in paths]
    assert [answer.status_code for answer in changed] == [200, 202]


async def test_the_result_is_a_202_while_the_job_is_open_and_then_a_200(
    service: Service, caller: httpx.AsyncClient
) -> None:
    job_id = await start(caller)
    early = await caller.get(f"/jobs/{job_id}/result")
    assert (early.status_code, early.json()["done"]) == (202, False)
    assert int(early.headers["retry-after"]) > 0
    await service.end(job_id, status=JobStatus.FAILED, outcome="failed")
    late = await caller.get(f"/jobs/{job_id}/result")
    assert (late.status_code, late.json()["outcome"]) == (200, "failed")
    assert "retry-after" not in late.headers


@pytest.mark.parametrize(
    ("status", "due_in_s", "expected"),
    [
        (JobStatus.QUEUED, 0.0, 2),
        (JobStatus.RUNNING, None, 2),
        (JobStatus.WAITING, -5.0, 2),
        (JobStatus.WAITING, 7.2, 8),
        (JobStatus.WAITING, 86400.0, 60),
        (JobStatus.WAITING, None, 30),
    ],
)
async def test_the_time_to_ask_again_follows_what_the_job_waits_for(
    service: Service, caller: httpx.AsyncClient, status: JobStatus, due_in_s: float | None, expected: int
) -> None:
    job_id = await start(caller)
    due_at = None if due_in_s is None else AT + timedelta(seconds=due_in_s)
    await service.leave(job_id, status=status, due_at=due_at)
    job = await service.services.store.jobs.find(UUID(job_id))
    assert job is not None
    assert poll_after_s(job, AT) == expected


async def test_the_log_is_plain_text_in_order(service: Service, caller: httpx.AsyncClient) -> None:
    job_id = await start(caller)
    assert "Nothing was sent yet." in (await caller.get(f"/jobs/{job_id}/log")).text
    sent = {"job_id": UUID(job_id), "step": "find_vm", "place": "10.0.0.31", "sent_at": AT}
    answered = {"answered_at": AT + timedelta(seconds=2.5), "exit_status": 0, "stdout": "Uuid : 1\nName : ü\n"}
    async with service.services.store.database.transaction() as connection:
        await connection.execute(EXCHANGE.insert().values(**sent, **answered, sent="ncli vm list"))
        await connection.execute(EXCHANGE.insert().values(**sent, sent="create\nmount", fault="answer-lost"))
    answer = await caller.get(f"/jobs/{job_id}/log")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    lines = answer.text.splitlines()
    assert lines[2:7] == [
        "2026-11-23T01:02:03.456Z find_vm on 10.0.0.31",
        "> ncli vm list",
        "2026-11-23T01:02:05.956Z after 2.500 s: exit status 0",
        "< Uuid : 1",
        "< Name : ü",
    ]
    assert lines[-3:] == ["> create", "> mount", "no answer: answer-lost"]


async def test_a_job_that_changed_nothing_is_cancelled_and_retried(service: Service, caller: httpx.AsyncClient) -> None:
    job_id = await start(caller)
    cancelled = await caller.post(f"/jobs/{job_id}/cancel")
    assert (cancelled.status_code, cancelled.json()["outcome"]) == (202, "cancelled")
    again = await caller.post(f"/jobs/{job_id}/cancel", json={})
    assert "cancelled already" in assert_problem(again, 409, "job-not-cancellable")["detail"]
    retried = await caller.post(f"/jobs/{job_id}/retry")
    assert (retried.status_code, retried.json()["attempt"], retried.json()["done"]) == (202, 2, False)
    assert_problem(await caller.post(f"/jobs/{job_id}/retry"), 409, "job-not-retryable")


async def test_a_retry_of_a_vm_that_is_being_renewed_is_a_conflict(service: Service, caller: httpx.AsyncClient) -> None:
    first = (await caller.post(RENEW)).json()["id"]
    await caller.post(f"/jobs/{first}/cancel")
    second = (await caller.post(RENEW)).json()["id"]
    problem = assert_problem(await caller.post(f"/jobs/{first}/retry"), 409, "vm-busy")
    assert problem["job_id"] == second


async def test_a_conflict_does_not_name_a_job_that_the_key_may_not_see(service: Service) -> None:
    async with service.client(await service.key(*Scope, clusters=frozenset({"c2"}))) as narrow:
        own = (await narrow.post(RENEW)).json()["id"]
        await narrow.post(f"/jobs/{own}/cancel")
        async with service.client(await service.key(*Scope)) as wide:
            hidden = (await wide.post(RENEW, json={"cluster": "c1", "force": True})).json()["id"]
        for path in (RENEW, f"/jobs/{own}/retry"):
            answer = await narrow.post(path)
            assert VM in assert_problem(answer, 409, "vm-busy")["detail"]
            assert "location" not in answer.headers
            assert hidden not in answer.text


async def test_a_job_that_is_changing_its_vm_cannot_be_cancelled(service: Service, caller: httpx.AsyncClient) -> None:
    job_id = await start(caller)
    await service.leave(job_id, status=JobStatus.RUNNING, changing_since=func.now())
    assert_problem(await caller.post(f"/jobs/{job_id}/cancel"), 409, "job-not-cancellable")


async def test_a_waiting_job_is_told_that_the_agent_was_restarted(service: Service, caller: httpx.AsyncClient) -> None:
    job_id = await start(caller)
    assert_problem(await caller.post(f"/jobs/{job_id}/agent-restarted"), 409, "job-not-waiting")
    await service.leave(job_id, status=JobStatus.WAITING, wait_reason="agent_restart", due_at=None)
    told = await caller.post(f"/jobs/{job_id}/agent-restarted")
    assert (told.status_code, told.json()["wait_reason"]) == (202, "agent_restart")
    assert told.headers["retry-after"] == "2"


async def test_an_operation_without_a_body_takes_none(service: Service, caller: httpx.AsyncClient) -> None:
    job_id = await start(caller)
    answer = await caller.post(f"/jobs/{job_id}/cancel", json={"force": True})
    assert assert_problem(answer, 422, "validation-failed")["errors"][0]["pointer"] == "/body"
    assert not (await caller.get(f"/jobs/{job_id}")).json()["done"]


async def test_jobs_are_listed_page_after_page_newest_first(caller: httpx.AsyncClient) -> None:
    started = [await start(caller) for _ in range(5)]
    found: list[str] = []
    url = "/jobs?limit=2&done=false"
    pages = 0
    while url:
        page = await caller.get(url)
        found += [job["id"] for job in page.json()["items"]]
        pages += 1
        assert ("next_cursor" in page.json()) == ("link" in page.headers)
        url = page.links["next"]["url"] if "link" in page.headers else ""
    assert (found, pages) == (started[::-1], 3)


async def test_jobs_are_found_by_what_is_known_of_them(service: Service, caller: httpx.AsyncClient) -> None:
    wanted = (
        await caller.post(RENEW, json={"change_number": "CHG1", "correlation_id": "R&D 1", "cluster": "c2"})
    ).json()
    other = await start(caller, cluster="c1")
    await service.end(other)
    for query in (
        {"vm_uuid": VM.upper()},
        {"change_number": "CHG1"},
        {"correlation_id": "R&D 1"},
        {"cluster": "c2"},
        {"status": "queued"},
        {"done": "false"},
        {"job_ids": wanted["id"]},
        {"created_after": "2020-01-01 00:00Z", "created_before": "2999-01-01T00:00:00.123Z", "done": "false"},
        {"created_after": "2020-01-01T00:00:00+0000", "created_before": "2999-01-01T00:00:00Z", "done": "false"},
    ):
        found = (await caller.get("/jobs", params=query)).json()
        assert [job["id"] for job in found["items"]] == [wanted["id"]], query
    assert (await caller.get("/jobs", params={"created_before": "2020-01-01T00:00:00Z"})).json() == {"items": []}
    both = (await caller.get("/jobs", params={"job_ids": f"{wanted['id']},{other}"})).json()
    assert len(both["items"]) == 2


async def test_a_key_of_one_cluster_sees_the_jobs_of_that_cluster_and_its_own(service: Service) -> None:
    everyone, c1_only = await service.key(*Scope), await service.key(*Scope, clusters=frozenset({"c1", "c2"}))
    async with service.client(everyone) as wide, service.client(c1_only) as narrow:
        on_c1, on_c3, nowhere = await start(wide, cluster="c1"), await start(wide, cluster="c3"), await start(wide)
        own = await start(narrow)
        seen = [job["id"] for job in (await narrow.get("/jobs")).json()["items"]]
        assert seen == [own, on_c1]
        for hidden in (on_c3, nowhere):
            for method, path in (
                ("GET", ""),
                ("GET", "/result"),
                ("GET", "/log"),
                ("POST", "/cancel"),
                ("POST", "/retry"),
            ):
                assert_problem(await narrow.request(method, f"/jobs/{hidden}{path}"), 404, "job-not-found")
        assert not (await wide.get(f"/jobs/{on_c3}")).json()["done"]

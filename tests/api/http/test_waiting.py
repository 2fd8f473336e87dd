"""Long polls: answered by the change, bounded in number, and given up with the client."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio

from app.settings import Settings
from app.settings.callers.rate_limits import Callers
from app.settings.callers.scopes import Scope
from app.store.callers.api_keys import Keys
from app.store.postgres.database import Database
from tests.api.conftest import EVERYTHING, RENEW, Service, assert_problem, serving
from tests.api.server import Server, listening, until
from tests.cli.command import Commands
from tests.limits import LIMIT_S

POLLS = 200
JOBS = 100


@pytest_asyncio.fixture
async def server(service: Service) -> AsyncIterator[Server]:
    async with listening(service) as running:
        yield running


def bounded(settings: Settings, waiters_per_caller: int, waiters: int = 1000) -> Settings:
    callers = Callers(waiters_per_caller=waiters_per_caller, waiters=waiters)
    return settings.model_copy(update={"callers": callers})


def one_cluster(folder: Path) -> str:
    """A configuration whose cluster nobody asks."""
    key_file = folder / "key"
    key_file.touch(mode=0o600)
    return f"""
    [clusters.c1]
    cvms = ["127.0.0.1:9"]
    key_file = "{key_file}"
    known_hosts = "{key_file}"
    restart_agent = "manual"
    """


async def start(caller: httpx.AsyncClient) -> str:
    answer = await caller.post(f"/vms/{uuid4()}/ngt/renew")
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def waiting(service: Service, requests: int) -> None:
    """Returns once so many requests wait."""
    await until(lambda: service.services.store.changes.watched() == service.services.waiters.count == requests)


async def test_a_poll_is_answered_by_the_next_change_of_any_kind(service: Service, caller: httpx.AsyncClient) -> None:
    job_id = await start(caller)
    poll = asyncio.create_task(caller.get(f"/jobs/{job_id}?wait=20"))
    await waiting(service, 1)
    # The first change may still come before the poll has read the job.
    while not poll.done():
        await service.leave(job_id, message="found")
    answer = await poll
    assert (answer.status_code, answer.json()["message"], answer.json()["done"]) == (200, "found", False)
    assert int(answer.headers["retry-after"]) > 0
    assert service.services.waiters.count == 0


async def test_a_poll_goes_on_from_the_version_that_the_caller_has(service: Service, caller: httpx.AsyncClient) -> None:
    job_id = await start(caller)
    tag = (await caller.get(f"/jobs/{job_id}")).headers["etag"]
    await service.leave(job_id, message="found")
    # The change came before the poll, so there is nothing to wait for.
    answer = await caller.get(f"/jobs/{job_id}?wait=20", headers={"If-None-Match": tag})
    assert (answer.status_code, answer.json()["message"]) == (200, "found")
    tag = answer.headers["etag"]
    poll = asyncio.create_task(caller.get(f"/jobs/{job_id}?wait=20", headers={"If-None-Match": f'"0", W/{tag}'}))
    await waiting(service, 1)
    await service.end(job_id)
    answer = await poll
    assert (answer.status_code, answer.json()["outcome"]) == (200, "renewed")


async def test_a_poll_that_hears_nothing_is_a_304_for_who_has_the_job_and_a_200_for_who_has_not(
    caller: httpx.AsyncClient,
) -> None:
    job_id = await start(caller)
    tag = (await caller.get(f"/jobs/{job_id}")).headers["etag"]
    answers = await asyncio.gather(
        caller.get(f"/jobs/{job_id}?wait=1", headers={"If-None-Match": tag}), caller.get(f"/jobs/{job_id}?wait=1")
    )
    assert [answer.status_code for answer in answers] == [304, 200]
    for answer in answers:
        assert (answer.headers["etag"], int(answer.headers["retry-after"])) == (tag, 2)


async def test_a_job_that_is_done_is_not_waited_for(service: Service, caller: httpx.AsyncClient) -> None:
    job_id = await start(caller)
    await service.end(job_id)
    tag = (await caller.get(f"/jobs/{job_id}")).headers["etag"]
    assert (await caller.get(f"/jobs/{job_id}?wait=20")).status_code == 200
    unchanged = await caller.get(f"/jobs/{job_id}?wait=20", headers={"If-None-Match": tag})
    assert (unchanged.status_code, "retry-after" in unchanged.headers) == (304, False)
    assert (await caller.get(f"/jobs/{job_id}/result?wait=20")).status_code == 200


async def test_a_result_is_waited_for_to_the_end_of_the_job(service: Service, caller: httpx.AsyncClient) -> None:
    job_id = await start(caller)
    poll = asyncio.create_task(caller.get(f"/jobs/{job_id}/result?wait=20"))
    await waiting(service, 1)
    await service.leave(job_id, message="found")
    await service.end(job_id)
    answer = await poll
    assert (answer.status_code, answer.json()["outcome"]) == (200, "renewed")
    assert "preference-applied" not in answer.headers


async def test_a_result_that_is_waited_for_in_vain_is_a_304_for_who_has_the_job(
    service: Service, caller: httpx.AsyncClient
) -> None:
    job_id = await start(caller)
    tag = {"If-None-Match": (await caller.get(f"/jobs/{job_id}")).headers["etag"]}
    in_vain = await caller.get(f"/jobs/{job_id}/result?wait=1", headers=tag)
    assert (in_vain.status_code, "retry-after" in in_vain.headers) == (304, True)
    await service.end(job_id)
    assert (await caller.get(f"/jobs/{job_id}/result?wait=20", headers=tag)).status_code == 200


@pytest.mark.parametrize("path", ["", "/result"])
async def test_a_wait_may_be_preferred_and_is_cut_to_what_is_allowed(
    service: Service, caller: httpx.AsyncClient, path: str
) -> None:
    job_id = await start(caller)
    poll = asyncio.create_task(caller.get(f"/jobs/{job_id}{path}", headers={"Prefer": "respond-async, wait=600"}))
    await waiting(service, 1)
    await service.end(job_id)
    assert (await poll).headers["preference-applied"] == "wait=20"
    asked = await caller.get(f"/jobs/{job_id}{path}?wait=1", headers={"Prefer": "wait=3"})
    assert "preference-applied" not in asked.headers


@pytest.mark.parametrize("wait", ["21", "-1", "1.5", "soon"])
@pytest.mark.parametrize("path", ["", "/result"])
async def test_a_wait_that_is_out_of_bounds_is_refused(caller: httpx.AsyncClient, path: str, wait: str) -> None:
    answer = await caller.get(f"/jobs/{await start(caller)}{path}?wait={wait}")
    assert assert_problem(answer, 422, "validation-failed")["errors"][0]["pointer"] == "/query/wait"


async def test_a_job_that_there_is_not_is_not_waited_for(service: Service, caller: httpx.AsyncClient) -> None:
    for path in ("", "/result"):
        assert_problem(await caller.get(f"/jobs/{uuid4()}{path}?wait=20"), 404, "job-not-found")
    assert service.services.waiters.count == service.services.store.changes.watched() == 0


async def test_a_change_made_through_one_replica_answers_a_poll_on_another(
    service: Service, caller: httpx.AsyncClient, settings: Settings
) -> None:
    job_id = await start(caller)
    tag = (await caller.get(f"/jobs/{job_id}")).headers["etag"]
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(serving(settings, service.services.store.database.url))
        client = await stack.enter_async_context(other.client(await service.key(*EVERYTHING)))
        poll = asyncio.create_task(client.get(f"/jobs/{job_id}?wait=20", headers={"If-None-Match": tag}))
        await waiting(other, 1)
        await caller.post(f"/jobs/{job_id}/cancel")
        answer = await poll
    assert (answer.status_code, answer.json()["outcome"]) == (200, "cancelled")


async def test_a_caller_has_so_many_waits_and_all_together_so_many(settings: Settings, database_url: str) -> None:
    async with serving(bounded(settings, 2, 3), database_url) as service:
        keys = [await service.key(*EVERYTHING) for _ in range(3)]
        async with service.client(keys[0]) as ann, service.client(keys[1]) as ben, service.client(keys[2]) as cid:
            job_id = await start(ann)
            path = f"/jobs/{job_id}?wait=20"
            polls = [asyncio.create_task(ann.get(path)) for _ in range(2)]
            await waiting(service, 2)
            refused = await ann.get(path)
            assert "of this caller" in assert_problem(refused, 503, "too-many-waits")["detail"]
            assert int(refused.headers["retry-after"]) > 0
            polls.append(asyncio.create_task(ben.get(path)))
            await waiting(service, 3)
            for more in (path, f"/jobs/{job_id}/result?wait=1"):
                assert "requests wait here" in assert_problem(await cid.get(more), 503, "too-many-waits")["detail"]
            # Who does not wait is answered all the time.
            assert (await ann.get(f"/jobs/{job_id}?wait=0")).status_code == 200
            await service.end(job_id)
            assert {answer.status_code for answer in await asyncio.gather(*polls)} == {200}
            assert (await cid.get(path)).status_code == 200


async def test_a_renewal_whose_wait_is_refused_was_not_started(settings: Settings, database_url: str) -> None:
    with_key = {"Idempotency-Key": "once"}
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(serving(bounded(settings, 1), database_url))
        caller = await stack.enter_async_context(service.client(await service.key(*EVERYTHING)))
        job_id = await start(caller)
        poll = asyncio.create_task(caller.get(f"/jobs/{job_id}/result?wait=20"))
        await waiting(service, 1)
        before = await service.stored()
        assert_problem(await caller.post(f"{RENEW}?wait=20", headers=with_key), 503, "too-many-waits")
        assert await service.stored() == before
        await service.end(job_id)
        await poll
        again = await caller.post(RENEW, headers=with_key)
        assert (again.status_code, "idempotency-replayed" in again.headers) == (202, False)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_client_that_goes_away_waits_no_longer(service: Service, server: Server, method: str) -> None:
    async with server.client(await service.key(*EVERYTHING)) as client:
        path = f"/jobs/{await start(client)}" if method == "GET" else RENEW
        poll = asyncio.create_task(client.request(method, path, params={"wait": 20}))
        await waiting(service, 1)
        poll.cancel()
        await waiting(service, 0)


async def test_200_polls_that_wait_at_once_are_each_answered_by_the_change_of_their_job(
    service: Service, server: Server
) -> None:
    keys = [await service.key(*Scope) for _ in range(2)]
    async with server.client(keys[0]) as ann, server.client(keys[1]) as ben:
        jobs = [await start(ann) for _ in range(JOBS)]
        tags = {job_id: (await ann.get(f"/jobs/{job_id}")).headers["etag"] for job_id in jobs}
        polls = {
            (client, job_id): asyncio.create_task(
                client.get(f"/jobs/{job_id}?wait=20", headers={"If-None-Match": tags[job_id]})
            )
            for client in (ann, ben)
            for job_id in jobs
        }
        assert len(polls) == POLLS
        await waiting(service, POLLS)
        for job_id in jobs:
            await service.end(job_id, message=f"ended {job_id}")
        for (_, job_id), poll in polls.items():
            answer = await poll
            # A poll that nobody woke would be a 304.
            assert (answer.status_code, answer.json()["message"]) == (200, f"ended {job_id}")
            assert (answer.json()["done"], answer.headers["etag"] != tags[job_id]) == (True, True)
    assert service.services.waiters.count == service.services.store.changes.watched() == 0


async def test_a_service_that_is_stopped_answers_who_waits_and_closes_its_streams(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    commands = Commands(tmp_path, {"DATABASE_URL": database_url, "NGT_RENEWAL_PORT": "0"})
    commands.configuration.write_text(one_cluster(tmp_path))
    _, key = await Keys(database).create("a test", EVERYTHING)
    async with commands.running("serve", "--no-worker") as service:
        async with Server(await service.url()).client(key) as client:
            renewal = asyncio.create_task(client.post(f"{RENEW}?wait=20"))
            async with asyncio.timeout(LIMIT_S):
                while not (started := (await client.get("/jobs")).json()["items"]):
                    pass
            path = started[0]["links"]["events"]
            async with client.stream("GET", path, headers={"Accept": "text/event-stream"}) as events:
                lines = events.aiter_lines()
                assert await anext(lines) == "event: job"
                stopped = asyncio.create_task(service.stopped())
                # A stream that was cut instead of closed would raise an error here.
                rest = [line async for line in lines]
            assert not any("event:" in line for line in rest)
            assert (await renewal).status_code == 202
        assert await stopped == 0
        assert not any("graceful" in line for line in service.lines)

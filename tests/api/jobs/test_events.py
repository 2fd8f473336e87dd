"""A job's events, as pages of JSON and as a stream that a client may leave and take up again."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
import pytest_asyncio

from app.settings import Settings
from app.settings.callers.rate_limits import Callers
from app.settings.callers.scopes import Scope
from app.store.records.jobs import JobStatus
from tests.api.conftest import EVERYTHING, Service, assert_problem, serving
from tests.api.server import Server, listening, until
from tests.limits import LIMIT_S

STREAM = {"Accept": "text/event-stream"}


@pytest_asyncio.fixture
async def server(service: Service) -> AsyncIterator[Server]:
    async with listening(service) as running:
        yield running


@pytest_asyncio.fixture
async def client(service: Service, server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with server.client(await service.key(*EVERYTHING)) as opened:
        yield opened


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream; a comment has no name."""

    name: str
    data: dict[str, Any]
    id: str | None


async def read_events(lines: AsyncIterator[str]) -> AsyncIterator[Event]:
    """The events of a stream as the HTML standard reads them."""
    fields: dict[str, str] = {}
    async for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
            continue
        yield Event(fields.get("event", ""), json.loads(fields.get("data", "{}")), fields.get("id"))
        fields = {}


@asynccontextmanager
async def stream(client: httpx.AsyncClient, job_id: str, **headers: str) -> AsyncIterator[AsyncIterator[Event]]:
    async with client.stream("GET", f"/jobs/{job_id}/events", headers=STREAM | headers) as answer:
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield read_events(answer.aiter_lines())


async def all_events(client: httpx.AsyncClient, job_id: str, **headers: str) -> list[Event]:
    async with asyncio.timeout(LIMIT_S), stream(client, job_id, **headers) as events:
        return [event async for event in events]


async def next_event(events: AsyncIterator[Event]) -> Event:
    async with asyncio.timeout(LIMIT_S):
        return await anext(events)


async def start(caller: httpx.AsyncClient) -> str:
    answer = await caller.post(f"/vms/{uuid4()}/ngt/renew")
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def run(service: Service, job_id: str) -> None:
    """Have the job look different four times more, the last of them its end."""
    await service.leave(job_id, status=JobStatus.RUNNING, message="running", current_step="find_vm")
    await service.leave(job_id, status=JobStatus.RUNNING)
    await service.leave(job_id, progress_percent=50, cvm="10.0.0.31")
    await service.leave(job_id, status=JobStatus.WAITING, wait_reason="pickup", message="two\nlines: ü")
    await service.end(job_id, wait_reason=None)


async def test_events_are_listed_in_order_and_without_versions_that_look_the_same(
    service: Service, caller: httpx.AsyncClient
) -> None:
    job_id = await start(caller)
    await run(service, job_id)
    answer = await caller.get(f"/jobs/{job_id}/events")
    assert answer.headers["content-type"] == "application/json"
    events = answer.json()["items"]
    assert [event["version"] for event in events] == [1, 2, 4, 5, 6]
    assert [event["status"] for event in events] == ["queued", "running", "running", "waiting", "succeeded"]
    assert events[3].items() >= {"wait_reason": "pickup", "message": "two\nlines: ü", "done": False}.items()
    assert events[4].items() >= {"done": True, "outcome": "renewed", "progress_percent": 100, "attempt": 1}.items()
    assert not {"wait_reason", "error_code"} & events[4].keys()
    assert [event["at"] for event in events] == sorted(event["at"] for event in events)


async def test_events_are_read_page_after_page(service: Service, caller: httpx.AsyncClient) -> None:
    job_id = await start(caller)
    await run(service, job_id)
    read: list[int] = []
    while page := (await caller.get(f"/jobs/{job_id}/events?limit=2&after={read[-1] if read else 0}")).json()["items"]:
        read += [event["version"] for event in page]
    assert read == [1, 2, 4, 5, 6]


@pytest.mark.parametrize("query", ["after=-1", "after=2147483648", "limit=0", "limit=201", "wait=1"])
async def test_a_query_that_is_out_of_bounds_is_refused(caller: httpx.AsyncClient, query: str) -> None:
    answer = await caller.get(f"/jobs/{await start(caller)}/events?{query}")
    pointer = f"/query/{query.partition('=')[0]}"
    assert assert_problem(answer, 422, "validation-failed")["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", "application/json"),
        ("text/html, application/xhtml+xml", "application/json"),
        ("application/json, text/event-stream", "application/json"),
        ("text/event-stream;q=0.5, */*", "application/json"),
        ("text/event-stream;q=0", "application/json"),
        ("text/event-stream", "text/event-stream"),
        ("text/event-stream, */*", "text/event-stream"),
        ("text/*", "text/event-stream"),
        ("application/json;q=0.9, Text/Event-Stream; charset=utf-8", "text/event-stream"),
        ("application/json;q=0, */*;q=0.1", "text/event-stream"),
    ],
)
async def test_the_form_is_the_one_that_the_caller_likes_best(
    service: Service, caller: httpx.AsyncClient, accept: str, media_type: str
) -> None:
    job_id = await start(caller)
    await service.end(job_id)
    answer = await caller.get(f"/jobs/{job_id}/events", headers={"Accept": accept})
    assert answer.headers["content-type"].partition(";")[0] == media_type


async def test_a_stream_tells_what_was_and_what_comes_and_closes_after_the_end(
    service: Service, client: httpx.AsyncClient
) -> None:
    job_id = await start(client)
    async with stream(client, job_id) as events:
        first = await next_event(events)
        assert (first.name, first.id, first.data["status"]) == ("job", "1", "queued")
        await run(service, job_id)
        async with asyncio.timeout(LIMIT_S):
            rest = [event async for event in events]
    assert [(event.name, event.id) for event in rest] == [
        ("job", "2"), ("job", "4"), ("job", "5"), ("job", "6"), ("end", None),
    ]  # fmt: skip
    listed = (await client.get(f"/jobs/{job_id}/events")).json()["items"]
    assert [event.data for event in (first, *rest[:-1])] == listed
    assert rest[-1].data == {"id": job_id, "status": "succeeded", "outcome": "renewed"}


async def test_a_stream_goes_on_after_the_last_event_that_was_seen(service: Service, client: httpx.AsyncClient) -> None:
    job_id = await start(client)
    await run(service, job_id)
    missing = await all_events(client, job_id, **{"Last-Event-ID": "4"})
    assert [(event.name, event.id) for event in missing] == [("job", "5"), ("job", "6"), ("end", None)]
    assert [event.name for event in await all_events(client, job_id, **{"Last-Event-ID": "6"})] == ["end"]
    # A browser asks again with the same query, so the header counts more.
    headers = STREAM | {"Last-Event-ID": "5"}
    again = await client.get(f"/jobs/{job_id}/events?after=1", headers=headers)
    assert "id: 6\n" in again.text
    assert "id: 5\n" not in again.text
    assert "id: 4\n" not in (await client.get(f"/jobs/{job_id}/events?after=4", headers=STREAM)).text


async def test_an_event_that_never_was_keeps_none_away(service: Service, client: httpx.AsyncClient) -> None:
    job_id = await start(client)
    told = asyncio.create_task(all_events(client, job_id, **{"Last-Event-ID": "2147483647"}))
    await until(lambda: service.services.store.changes.watched() == 1)
    # The end may come before the stream has begun to read.
    await service.end(job_id)
    assert (await told)[-1].name == "end"


@pytest.mark.parametrize("given", ["x", "-1", "1.0", "12345678901"])
async def test_what_is_no_event_id_is_refused(caller: httpx.AsyncClient, given: str) -> None:
    headers = STREAM | {"Last-Event-ID": given}
    answer = await caller.get(f"/jobs/{await start(caller)}/events", headers=headers)
    assert assert_problem(answer, 422, "validation-failed")["errors"][0]["pointer"] == "/header/Last-Event-ID"


async def test_a_stream_that_was_ended_goes_on_with_the_next_attempt(
    service: Service, client: httpx.AsyncClient
) -> None:
    job_id = await start(client)
    await client.post(f"/jobs/{job_id}/cancel")
    ended = await all_events(client, job_id)
    assert ended[-1].data["outcome"] == "cancelled"
    await client.post(f"/jobs/{job_id}/retry")
    async with stream(client, job_id, **{"Last-Event-ID": ended[-2].id or ""}) as events:
        assert (await next_event(events)).data["attempt"] == 2
        await service.end(job_id)
        assert [(await next_event(events)).name for _ in range(2)] == ["job", "end"]


async def test_a_client_that_goes_away_frees_everything(service: Service, client: httpx.AsyncClient) -> None:
    job_id = await start(client)
    async with stream(client, job_id) as events:
        await next_event(events)
        assert service.services.waiters.count == service.services.store.changes.watched() == 1
    await until(lambda: service.services.waiters.count == service.services.store.changes.watched() == 0)


async def test_idle_streams_hold_no_connection_to_the_database(
    service: Service, client: httpx.AsyncClient, database_url: str
) -> None:
    job_id = await start(client)
    reading = asyncio.Event()

    async def read_to_the_end() -> list[Event]:
        async with stream(client, job_id) as events:
            first = await next_event(events)
            reading.set()
            return [first] + [event async for event in events]

    streams = [asyncio.create_task(read_to_the_end()) for _ in range(50)]
    await reading.wait()
    await until(lambda: service.services.store.changes.watched() == len(streams))
    busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle'"
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as admin, asyncio.timeout(LIMIT_S):
        # The last of the fifty may still be reading; then only this question is at work.
        while (row := await (await admin.execute(busy)).fetchone()) != (1,):
            assert row is not None
    await service.end(job_id)
    for each in await asyncio.gather(*streams):
        assert [event.name for event in each] == ["job", "job", "end"]
    assert service.services.waiters.count == service.services.store.changes.watched() == 0


async def test_streams_are_counted_as_waiters(settings: Settings, database_url: str) -> None:
    bounded = settings.model_copy(update={"callers": Callers(waiters_per_caller=1)})
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(serving(bounded, database_url))
        server = await stack.enter_async_context(listening(service))
        client = await stack.enter_async_context(server.client(await service.key(*EVERYTHING)))
        job_id = await start(client)
        async with stream(client, job_id) as events:
            await next_event(events)
            refused = await client.get(f"/jobs/{job_id}/events", headers=STREAM)
            assert_problem(refused, 503, "too-many-waits")
            assert refused.headers["retry-after"] == "5"
            assert (await client.get(f"/jobs/{job_id}/events")).status_code == 200


async def test_a_head_begins_no_stream(service: Service, client: httpx.AsyncClient) -> None:
    job_id = await start(client)
    async with asyncio.timeout(LIMIT_S):
        answer = await client.head(f"/jobs/{job_id}/events", headers=STREAM)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert service.services.waiters.count == service.services.store.changes.watched() == 0


async def test_a_stream_is_refused_like_any_other_request(service: Service, caller: httpx.AsyncClient) -> None:
    assert_problem(await caller.get(f"/jobs/{uuid4()}/events", headers=STREAM), 404, "job-not-found")
    job_id = await start(caller)
    async with service.client(await service.key(Scope.RENEW)) as other:
        assert_problem(await other.get(f"/jobs/{job_id}/events", headers=STREAM), 403, "insufficient-scope")
    async with service.client(await service.key(*EVERYTHING, clusters=frozenset({"c1"}))) as other:
        assert_problem(await other.get(f"/jobs/{job_id}/events", headers=STREAM), 404, "job-not-found")
    assert service.services.waiters.count == 0


async def test_streams_close_without_an_end_when_the_service_stops(service: Service, client: httpx.AsyncClient) -> None:
    job_id = await start(client)
    async with stream(client, job_id) as events:
        await next_event(events)
        service.services.store.changes.end_watches()
        async with asyncio.timeout(LIMIT_S):
            assert [event async for event in events] == []


async def test_a_job_with_more_events_than_a_page_is_streamed_whole(
    service: Service, caller: httpx.AsyncClient
) -> None:
    job_id = await start(caller)
    for number in range(210):
        await service.leave(job_id, message=f"look {number}")
    await service.end(job_id)
    text = (await caller.get(f"/jobs/{job_id}/events", headers=STREAM)).text
    ids = [int(line.removeprefix("id: ")) for line in text.splitlines() if line.startswith("id: ")]
    assert ids == list(range(1, 213))

"""What a stream writes while nothing happens, while the database is away, and when it has lasted long enough."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from uuid import UUID

import httpx
import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier

from app.api.jobs.events import follow
from app.store.records.jobs import JobRecord
from tests.api.conftest import RENEW, Service
from tests.limits import LIMIT_S

PING = b": ping\n\n"


async def started(service: Service, caller: httpx.AsyncClient) -> JobRecord:
    job = await service.services.store.jobs.find(UUID((await caller.post(RENEW)).json()["id"]))
    assert job is not None
    return job


async def first_event(events: AsyncGenerator[bytes]) -> bytes:
    """What comes next besides pings."""
    while (text := await anext(events)) == PING:
        pass
    return text


@asynccontextmanager
async def refusing(server: str, database_url: str) -> AsyncIterator[None]:
    """The database ends every connection, and takes no new ones for a while."""
    name = str(conninfo_to_dict(database_url)["dbname"])
    allow = SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    async with await psycopg.AsyncConnection.connect(server, autocommit=True) as admin:
        await admin.execute(allow.format(Identifier(name), SQL("false")))
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        try:
            yield
        finally:
            await admin.execute(allow.format(Identifier(name), SQL("true")))


async def test_a_silent_stream_is_pinged_with_comments(service: Service, caller: httpx.AsyncClient) -> None:
    job = await started(service, caller)
    events = follow(service.services, job, 0, ping_s=0.01)
    assert b"event: job\n" in await anext(events)
    for _ in range(3):
        assert await anext(events) == PING
    await service.end(str(job.id))
    assert [text.partition(b"\n")[0] async for text in events if text != PING] == [b"event: job", b"event: end"]


async def test_a_stream_lasts_so_long_and_is_taken_up_again(service: Service, caller: httpx.AsyncClient) -> None:
    job = await started(service, caller)
    written = [text async for text in follow(service.services, job, 0, ping_s=0.01, longest_s=0.05)]
    assert b"event: end" not in b"".join(written)
    assert b"id: 1\n" in written[0]


async def test_a_change_that_looks_like_nothing_is_no_event(service: Service, caller: httpx.AsyncClient) -> None:
    job = await started(service, caller)
    async with aclosing(follow(service.services, job, 0)) as events:
        await anext(events)
        later = asyncio.create_task(anext(events))
        await service.leave(str(job.id), cvm="10.0.0.31")
        await service.leave(str(job.id), cvm="10.0.0.32")
        await service.end(str(job.id))
        assert b"id: 4\n" in await later


async def test_a_stream_outlives_a_database_that_is_away(
    service: Service, caller: httpx.AsyncClient, postgres_url: str, database_url: str
) -> None:
    job = await started(service, caller)
    async with asyncio.timeout(LIMIT_S), aclosing(follow(service.services, job, 0)) as events:
        async with refusing(postgres_url, database_url):
            assert await anext(events) == PING
        assert b"id: 1\n" in await first_event(events)
        async with refusing(postgres_url, database_url):
            pass
        # Whoever reads next finds that all connections have ended.
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as admin:
            await admin.execute("UPDATE job SET message = 'found', version = version + 1")
            await admin.execute("SELECT pg_notify('ngt_job', %s)", [str(job.id)])
        assert b"id: 2\n" in await first_event(events)

"""A list is walked page after page while jobs begin and end: nothing of the first moment is missed or seen twice."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from random import Random
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

import httpx
import pytest

from app.settings.callers.scopes import Scope
from tests.api.conftest import Service

DAY_1 = datetime(2026, 11, 1, tzinfo=UTC)
NOTE = "R&D; Ä=1+1>0 100% \"'<"


async def start(client: httpx.AsyncClient, **body: object) -> str:
    answer = await client.post(f"/vms/{uuid4()}/ngt/renew", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def start_at(service: Service, client: httpx.AsyncClient, chance: Random) -> str:
    """A job of one of three moments, so that most share theirs with others."""
    job_id = await start(client, cluster="c1", correlation_id=NOTE)
    await service.leave(job_id, created_at=DAY_1 + timedelta(microseconds=chance.randrange(3)))
    return job_id


async def walk(client: httpx.AsyncClient, query: dict[str, str | int]) -> list[httpx.Response]:
    """Every page, by the Link of the one before; all that was asked for must stand in it."""
    pages = [await client.get("/jobs", params=query)]
    while "link" in pages[-1].headers:
        link = pages[-1].links["next"]
        assert link["rel"] == "next"
        asked = dict(parse_qsl(urlsplit(link["url"]).query, strict_parsing=True))
        assert asked == {name: str(value) for name, value in query.items()} | {
            "cursor": pages[-1].json()["next_cursor"]
        }
        assert "link" in (await client.head(str(pages[-1].url))).headers
        pages.append(await client.get(link["url"]))
    assert "next_cursor" not in pages[-1].json()
    return pages


@pytest.mark.parametrize("seed", range(4))
async def test_no_job_of_the_first_moment_is_missed_or_seen_twice(
    service: Service, caller: httpx.AsyncClient, seed: int
) -> None:
    chance = Random(seed)  # noqa: S311 - the same jobs in each run
    first = {await start_at(service, caller, chance) for _ in range(chance.randrange(5, 12))}
    walked = asyncio.Event()

    async def go_on_starting() -> None:
        while not walked.is_set():
            await start_at(service, caller, chance)

    starting = asyncio.create_task(go_on_starting())
    pages = await walk(caller, {"limit": chance.randrange(1, 4), "cluster": "c1", "correlation_id": NOTE})
    walked.set()
    await starting
    seen = Counter(job["id"] for page in pages for job in page.json()["items"])
    assert {job_id: seen[job_id] for job_id in first} == dict.fromkeys(first, 1)


async def test_every_filter_is_kept_from_page_to_page(service: Service) -> None:
    async with service.client(await service.key(*Scope, clusters=frozenset({"c1", "c2"}))) as client:
        wanted = [
            await start(client, cluster="c2", correlation_id=NOTE, change_number="CHG1", force=True) for _ in range(3)
        ]
        others = [
            await start(client, cluster="c1", correlation_id=NOTE, change_number="CHG1"),
            await start(client, cluster="c2", change_number="CHG1"),
            await start(client, cluster="c2", correlation_id=NOTE),
        ]
        query: dict[str, str | int] = {
            "limit": 1,
            "cluster": "c2",
            "correlation_id": NOTE,
            "change_number": "CHG1",
            "done": "false",
            "status": "queued",
            "created_after": "2020-01-01T00:00:00+01:00",
            "created_before": "2999-01-01T00:00:00Z",
            "job_ids": ",".join(wanted + others),
        }
        pages = await walk(client, query)
    assert [[job["id"] for job in page.json()["items"]] for page in pages] == [[job_id] for job_id in wanted[::-1]]

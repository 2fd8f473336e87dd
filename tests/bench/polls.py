"""Two hundred long polls: what they cost while nothing happens, and how soon each has the end of its job."""

import asyncio
import statistics
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import httpx

from tests.bench.service import Cpu, Service, post_all, running_service

POLLS = 200
JOBS = 100
_WAIT_S = 20
_HELD_LIMIT_S = 60.0
# All polls are waiting by the first of these, and none of them is over before the second.
_SETTLED_S = 3.0
_WATCHED_S = 10.0
_ANY_NUMBER = "callers = { waiters_per_caller = 1000, requests_per_minute = 100000 }"


@dataclass(frozen=True, slots=True)
class Polls:
    """CPU in seconds per minute, with the polls and without any; milliseconds from a change to its answers."""

    idle: Cpu
    without: Cpu
    p50_ms: float
    p99_ms: float


async def measure_polls(folder: Path) -> Polls:
    """On jobs of a paused cluster, which a caller cancels."""
    with running_service(folder, {"c1": unused_cluster(folder)}, workers=4, settings=(_ANY_NUMBER,)) as service:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(service.client())
            pollers = await stack.enter_async_context(service.client(connections=POLLS))
            (await client.post("/clusters/c1/pause")).raise_for_status()
            job_ids = await post_all(client, [str(uuid4()) for _ in range(JOBS)], "c1")
            await _until_held(client)
            without = await _cpu_per_minute(service)
            polls = [asyncio.create_task(_late_ms(pollers, job_id)) for job_id in job_ids * (POLLS // JOBS)]
            await asyncio.sleep(_SETTLED_S)
            idle = await _cpu_per_minute(service)
            for job_id in job_ids:
                (await client.post(f"/jobs/{job_id}/cancel")).raise_for_status()
            cuts = statistics.quantiles(await asyncio.gather(*polls), n=100)
            return Polls(idle, without, cuts[49], cuts[98])


async def _until_held(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(_HELD_LIMIT_S):
        while True:
            jobs = (await client.get("/jobs", params={"limit": "200"})).raise_for_status().json()["items"]
            if all("wait_reason" in job for job in jobs):
                return
            await asyncio.sleep(0.25)


async def _cpu_per_minute(service: Service) -> Cpu:
    before, begun_s = service.cpu(), time.monotonic()
    await asyncio.sleep(_WATCHED_S)
    spent, minutes = service.cpu().since(before), (time.monotonic() - begun_s) / 60
    return Cpu(spent.service_s / minutes, spent.postgres_s / minutes)


async def _late_ms(client: httpx.AsyncClient, job_id: str) -> float:
    """From the time of the change, which is taken before it is committed, to the answer's arrival here."""
    answer = await client.get(f"/jobs/{job_id}/result", params={"wait": str(_WAIT_S)})
    arrived_at = time.time()
    job = answer.raise_for_status().json()
    if not job["done"]:
        raise RuntimeError(f"nobody told a poll of the end: {job['message']}")
    return (arrived_at - datetime.fromisoformat(job["finished_at"]).timestamp()) * 1000


def unused_cluster(folder: Path, cvm: str = "127.0.0.1:9") -> dict[str, object]:
    """Nobody connects to it: it is paused before its first job, or has none."""
    key_file = folder / "unused_key"
    key_file.touch(mode=0o600)
    files = {"key_file": str(key_file), "known_hosts": str(key_file)}
    return {"cvms": [cvm], "restart_agent": "manual", **files}

"""Scans of sites of the real size: what the service spends on them, and for how long it keeps others waiting."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.bench.service import Cpu, Service, running_service
from tests.bench.site import running_bench_site

SITES = ((1, 3000), (20, 1200))
"""Clusters and VMs of each: the largest cluster, and the largest site."""
_LIMIT_S = 300.0
_ASK_S = 0.01


@dataclass(frozen=True, slots=True)
class Scanned:
    """One scan of each cluster of a site, all asked for at once. CPU of the service and of PostgreSQL, in seconds.

    `peak_mib` and `before_mib` are of the service's memory (RSS); `stop_ms` is the longest answer to `/livez`
    meanwhile, `idle_ms` the longest one in as long a time without a scan.
    """

    clusters: int
    vms: int
    seconds: float
    cpu: Cpu
    before_mib: float
    peak_mib: float
    stop_ms: float
    idle_ms: float


@dataclass(slots=True)
class _Longest:
    milliseconds: float = field(default=0.0)


async def measure_scans(folder: Path, *, clusters: int, vms: int) -> list[Scanned]:
    """A first scan, which stores every VM, and one more, which finds them all again."""
    with running_bench_site(folder, clusters=clusters, vms=vms, for_scans=True) as site:
        tables = {name: {**table, "restart_agent": "manual", "guests": []} for name, table in site.clusters.items()}
        with running_service(folder, tables, workers=4) as service:
            async with service.client() as client:
                return [await _scan(service, client, vms, list(tables)) for _ in range(2)]


async def _scan(service: Service, client: httpx.AsyncClient, vms: int, clusters: list[str]) -> Scanned:
    before_mib = service.rss_mib()
    service.forget_peak()
    before, begun_s = service.cpu(), time.monotonic()
    async with _asking(client) as longest:
        posted = [(await client.post(f"/clusters/{name}/scan")).raise_for_status().json() for name in clusters]
        await asyncio.gather(*(_ended(client, scan["id"], vms) for scan in posted))
    seconds, cpu = time.monotonic() - begun_s, service.cpu().since(before)
    peak_mib = service.peak_mib()
    async with _asking(client) as idle:
        await asyncio.sleep(seconds)
    return Scanned(
        clusters=len(clusters),
        vms=vms,
        seconds=seconds,
        cpu=cpu,
        before_mib=before_mib,
        peak_mib=peak_mib,
        stop_ms=longest.milliseconds,
        idle_ms=idle.milliseconds,
    )


async def _ended(client: httpx.AsyncClient, scan_id: str, vms: int) -> None:
    async with asyncio.timeout(_LIMIT_S):
        while True:
            scan: dict[str, Any] = (await client.get(f"/scans/{scan_id}?wait=20")).raise_for_status().json()
            if scan["done"]:
                break
    if (scan["outcome"], scan["vms_seen"], scan["dates_seen"]) != ("complete", vms, vms):
        raise RuntimeError(f"a scan ended as {scan}")


@asynccontextmanager
async def _asking(client: httpx.AsyncClient) -> AsyncIterator[_Longest]:
    longest = _Longest()

    async def ask() -> None:
        while True:
            begun_s = time.monotonic()
            (await client.get("/livez")).raise_for_status()
            longest.milliseconds = max(longest.milliseconds, (time.monotonic() - begun_s) * 1000)
            await asyncio.sleep(_ASK_S)

    asking = asyncio.create_task(ask())
    try:
        yield longest
    finally:
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking

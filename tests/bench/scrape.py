"""Scrapes of a site of 25,000 VMs: what one costs the service, and for how long it keeps others waiting."""

import asyncio
import gzip
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx
import psycopg

from tests.bench.polls import unused_cluster
from tests.bench.service import Cpu, Service, running_service

VMS = 25_000
CLUSTERS = 20
_SCRAPES = 3
# Longer than an answer is shared.
_BETWEEN_S = 6.0
_PROBE_EVERY_S = 0.002


@dataclass(frozen=True, slots=True)
class Scrape:
    """Medians of some scrapes. Sizes in bytes; `stop_ms`: the longest that `/livez` took, `idle_ms` without."""

    wall_s: float
    shared_s: float
    cpu: Cpu
    size: int
    compressed_size: int
    before_mib: float
    peak_mib: float
    stop_ms: float
    idle_ms: float


@dataclass(frozen=True, slots=True)
class Scrapes:
    """With a series for each VM, and without."""

    per_vm: Scrape
    counts: Scrape


async def measure_scrapes(folder: Path) -> Scrapes:
    """Two services, one after the other, on the same database."""
    clusters = {f"c{number}": unused_cluster(folder, f"127.0.0.1:{number + 1}") for number in range(CLUSTERS)}
    with running_service(folder, clusters, workers=4) as service:
        _fill(service, list(clusters))
        per_vm = await _measure(service)
    with running_service(folder, clusters, workers=4, settings=("metrics_per_vm = false",)) as service:
        return Scrapes(per_vm, await _measure(service))


async def _measure(service: Service) -> Scrape:
    async with service.client() as client, service.client() as prober:
        idle_ms = await _longest_ms(prober, lambda: asyncio.sleep(1))
        await _scrape(client)
        before_mib = service.rss_mib()
        service.forget_peak()
        walls: list[float] = []
        stops: list[float] = []
        spent: list[Cpu] = []
        size = compressed_size = 0
        for _ in range(_SCRAPES):
            await asyncio.sleep(_BETWEEN_S)
            before, begun_s = service.cpu(), time.perf_counter()
            compressed = await _scrape(client)
            walls.append(time.perf_counter() - begun_s)
            spent.append(service.cpu().since(before))
            size, compressed_size = len(gzip.decompress(compressed)), len(compressed)
        begun_s = time.perf_counter()
        await _scrape(client)
        shared_s = time.perf_counter() - begun_s
        for _ in range(_SCRAPES):
            await asyncio.sleep(_BETWEEN_S)
            stops.append(await _longest_ms(prober, lambda: _scrape(client)))
        cpu = Cpu(
            statistics.median(each.service_s for each in spent), statistics.median(each.postgres_s for each in spent)
        )
        return Scrape(
            wall_s=statistics.median(walls),
            shared_s=shared_s,
            cpu=cpu,
            size=size,
            compressed_size=compressed_size,
            before_mib=before_mib,
            peak_mib=service.peak_mib(),
            stop_ms=statistics.median(stops),
            idle_ms=idle_ms,
        )


async def _scrape(client: httpx.AsyncClient) -> bytes:
    """What Prometheus is sent, not unpacked: that would be this process's time."""
    async with client.stream("GET", "/metrics", headers={"Accept-Encoding": "gzip"}) as answer:
        answer.raise_for_status()
        return b"".join([piece async for piece in answer.aiter_raw()])


async def _longest_ms(client: httpx.AsyncClient, act: Callable[[], Awaitable[object]]) -> float:
    """The longest that a request which needs nothing took while `act` went on."""
    taken_ms: list[float] = []

    async def probe() -> None:
        while True:
            begun_s = time.perf_counter()
            (await client.get("/livez")).raise_for_status()
            taken_ms.append((time.perf_counter() - begun_s) * 1000)
            await asyncio.sleep(_PROBE_EVERY_S)

    probing = asyncio.create_task(probe())
    try:
        await act()
    finally:
        probing.cancel()
    return max(taken_ms)


def _fill(service: Service, clusters: list[str]) -> None:
    """Straight into the table: a scan of so many VMs is measured elsewhere."""
    with psycopg.connect(service.database_url) as connection, connection.cursor() as cursor:
        columns = (
            "vm_uuid, cluster, name, link_active, certificate_source, certificate_observed_at, not_before, not_after"
        )
        with cursor.copy(f"COPY vm ({columns}) FROM STDIN") as copy:
            for number in range(VMS):
                observed_s = 1_790_000_000 + number * 1.37
                times = (_time(observed_s), _time(observed_s - 1e6 - number), _time(observed_s + 1e6 + 3571 * number))
                name = f"server-{number:05d}.site.example"
                cluster = clusters[number % len(clusters)]
                copy.write_row((str(uuid4()), cluster, name, number % 9 != 0, "cvm_expiry_date", *times))
    with psycopg.connect(service.database_url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE vm")


def _time(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))

"""The measurements: both contenders in turn on the same site, the way to the first text, and waiting jobs."""

import asyncio
import re
import resource
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import httpx

from app.simulator.spec import REAL_LATENCY_S
from tests.bench.bare_loop import BareLoop
from tests.bench.service import (
    Service,
    post_all,
    read_log,
    renew_all,
    running_service,
    wait_until_done,
    wait_until_waiting,
)
from tests.bench.site import BenchSite, running_bench_site

AT_A_TIME = 4
"""Renewals at a time: the service's workers, the cluster's `max_running`, its sessions, and the loop's tasks."""
_FREE = dict.fromkeys(REAL_LATENCY_S, 0.0)
_AGAIN = {"force": True}
_FIRST_COMMANDS = 20
_WATCHED_S = 30.0
_SENT_TO_CVM = re.compile(r"^(\S+Z) read_ngt_before on 127\.0\.0\.1:\d+$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Turn:
    """One batch of one contender. CPU is in seconds, of the service, of PostgreSQL, and of this process."""

    renewals: int
    seconds: float
    texts: int
    guest_texts: int
    cvm_logins: int
    service_s: float
    postgres_s: float
    own_s: float

    @property
    def per_second(self) -> float:
        return self.renewals / self.seconds


@dataclass(frozen=True, slots=True)
class Pair:
    """The service and then the loop, one right after the other."""

    service: Turn
    loop: Turn

    @property
    def ratio(self) -> float:
        return self.service.per_second / self.loop.per_second


@dataclass(frozen=True, slots=True)
class Race:
    """The pairs with tools that cost nothing, those with tools that take their time, and what was measured between."""

    free: list[Pair]
    slow: list[Pair]
    first_sent_ms: float
    idle_mib: float
    after_mib: float


@dataclass(frozen=True, slots=True)
class Waiting:
    """Memory of a service of its own, fresh and with that many waiting jobs."""

    jobs: int
    idle_mib: float
    waiting_mib: float
    cpu_s_per_minute: float


async def race(folder: Path, *, renewals: int, pairs: int) -> Race:
    """`renewals` by each contender in `pairs` turns, once with free tools and once with tools that take their time."""
    with running_bench_site(folder, clusters=1, vms=renewals) as site:
        clusters = {name: _limited(table) for name, table in site.clusters.items()}
        with running_service(folder, clusters, workers=AT_A_TIME) as service:
            idle_mib = service.rss_mib()
            async with service.client() as client, BareLoop(site.settings_of("c1")) as loop:
                await renew_all(client, site.vms["c1"][:AT_A_TIME], "c1", _AGAIN)
                await loop.renew_all(site.vms["c1"][-AT_A_TIME:], AT_A_TIME)
                free = await _pairs(site, service, client, loop, pairs)
                first_ms = await _first_sent_ms(client, site.vms["c1"][:_FIRST_COMMANDS])
                await site.set_latency(REAL_LATENCY_S)
                slow = await _pairs(site, service, client, loop, pairs)
                await site.set_latency(_FREE)
                return Race(free, slow, first_ms, idle_mib, service.rss_mib())


async def memory(folder: Path, *, clusters: int, vms: int) -> Waiting:
    """So many jobs that wait for a person to restart the agent, and the cluster watches them."""
    with running_bench_site(folder, clusters=clusters, vms=vms) as site:
        tables = {
            name: {**_limited(table), "restart_agent": "manual", "guests": []} for name, table in site.clusters.items()
        }
        with running_service(folder, tables, workers=AT_A_TIME) as service:
            idle_mib = service.rss_mib()
            async with service.client() as client:
                for name, vm_uuids in site.vms.items():
                    await post_all(client, vm_uuids, name)
                for name in site.vms:
                    await wait_until_waiting(client, name)
                before, begun_s = service.cpu(), time.monotonic()
                await asyncio.sleep(_WATCHED_S)
                spent = service.cpu().since(before)
                seconds = time.monotonic() - begun_s
                return Waiting(clusters * vms, idle_mib, service.rss_mib(), spent.service_s * 60 / seconds)


async def _pairs(
    site: BenchSite, service: Service, client: httpx.AsyncClient, loop: BareLoop, count: int
) -> list[Pair]:
    """Each contender renews every VM once; in one turn they have different ones."""
    vms = site.vms["c1"]
    size = len(vms) // count
    batches = [vms[first : first + size] for first in range(0, size * count, size)]
    pairs: list[Pair] = []
    for number, batch in enumerate(batches):
        other = batches[(number + 1) % count]
        before = await _Meters.read(site, service)
        by_service_s = await renew_all(client, batch, "c1", _AGAIN)
        between = await _Meters.read(site, service)
        by_loop_s = await loop.renew_all(other, AT_A_TIME)
        after = await _Meters.read(site, service)
        pairs.append(Pair(between.turn(before, size, by_service_s), after.turn(between, size, by_loop_s)))
    return pairs


@dataclass(frozen=True, slots=True)
class _Meters:
    texts: int
    guest_texts: int
    cvm_logins: int
    service_s: float
    postgres_s: float
    own_s: float

    @classmethod
    async def read(cls, site: BenchSite, service: Service) -> "_Meters":
        cpu, own = service.cpu(), resource.getrusage(resource.RUSAGE_SELF)
        guest_texts = len(await site.records("guest"))
        own_s = own.ru_utime + own.ru_stime
        return cls(site.texts(), guest_texts, site.sshd.logins(), cpu.service_s, cpu.postgres_s, own_s)

    def turn(self, earlier: "_Meters", renewals: int, seconds: float) -> Turn:
        return Turn(
            renewals=renewals,
            seconds=seconds,
            texts=self.texts - earlier.texts,
            guest_texts=self.guest_texts - earlier.guest_texts,
            cvm_logins=self.cvm_logins - earlier.cvm_logins,
            service_s=self.service_s - earlier.service_s,
            postgres_s=self.postgres_s - earlier.postgres_s,
            own_s=self.own_s - earlier.own_s,
        )


async def _first_sent_ms(client: httpx.AsyncClient, vm_uuids: list[str]) -> float:
    """Median of the milliseconds from a POST to the first text for a CVM, one renewal after the other."""
    taken_ms: list[float] = []
    for vm_uuid in vm_uuids:
        posted_at = time.time()
        job_ids = await post_all(client, [vm_uuid], "c1", _AGAIN)
        await wait_until_done(client, "c1")
        sent = _SENT_TO_CVM.search(await read_log(client, job_ids[0]))
        assert sent is not None
        taken_ms.append((datetime.fromisoformat(sent[1]).timestamp() - posted_at) * 1000)
    return statistics.median(taken_ms)


def _limited(table: Mapping[str, object]) -> dict[str, object]:
    return {**table, "max_running": AT_A_TIME, "sessions_per_connection": AT_A_TIME}

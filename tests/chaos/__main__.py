"""A seeded random mix of everything that goes wrong, over many VMs and two workers, and the history's word on it.

    make chaos CHAOS_SEED=7

The same seed makes the same mishaps at the same pace; what they hit depends on the machine.
"""

import asyncio
import logging
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from app.ngt.errors import Fault
from app.settings import load_settings
from app.simulator.faults import Does, ToolFault
from app.simulator.site import Site
from app.simulator.spec import ClusterSpec, SiteSpec, VmSpec
from app.store.records.jobs import JobRecord
from tests.crash.database_clock import DatabaseClock
from tests.crash.history import broken_promises
from tests.crash.own_database import own_database, start_database, stop_database
from tests.crash.victims import Victims, nothing_at_work, running_nursery
from tests.work.service import Service, opened, write_configuration

_WORKERS = 2
_CLUSTERS = 3
_END_S = 900.0
_TOOLS = ("delete_vm_tools_entity", "create_vm_tools_entity", "mount_guest_tools", "query_vm_tools_entities", "vm ls")
_CUTS = (Does.DROP_BEFORE, Does.DROP_AFTER, Does.DROP_THEN_EFFECT, Does.SLOW, Does.HANG_AFTER_EFFECT, Does.GARBAGE)
_STEPS_S = (120, -120, 3600, -3600)
# Methods of Chaos, and how often each is chosen against the others.
_MISHAPS = {
    "kill_a_worker": 4,
    "freeze_a_worker": 4,
    "break_a_tool": 4,
    "refuse_creates": 2,
    "set_the_clock": 2,
    "restart_the_database": 1,
}


@dataclass
class Chaos:
    """The mishaps of one run."""

    service: Service
    victims: Victims
    clock: DatabaseClock
    choose: random.Random
    workers: list[int] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)

    async def go(self, seconds: float) -> None:
        for _ in range(_WORKERS):
            self.workers.append(await self.victims.begin(self.service))
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            await asyncio.sleep(self.choose.uniform(0.3, 2.0))
            (mishap,) = self.choose.choices(list(_MISHAPS), list(_MISHAPS.values()))
            self.done[mishap] += 1
            await getattr(self, mishap)()

    async def kill_a_worker(self) -> None:
        pid = self.workers.pop(self.choose.randrange(_WORKERS))
        await self.victims.killed(pid)
        self.workers.append(await self.victims.begin(self.service))

    async def freeze_a_worker(self) -> None:
        pid = self.choose.choice(self.workers)
        self.victims.send(pid, signal.SIGSTOP)
        await asyncio.sleep(self.choose.uniform(0.5, 8.0))
        self.victims.send(pid, signal.SIGCONT)

    async def break_a_tool(self) -> None:
        times, seconds = self.choose.randint(1, 4), self.choose.uniform(0.1, 3.0)
        does, tool = self.choose.choice(_CUTS), self.choose.choice(_TOOLS)
        self.service.site.order(ToolFault(does=does, sub_command=tool, times=times, seconds=seconds))

    async def refuse_creates(self) -> None:
        times = self.choose.randint(1, 8)
        self.service.site.order(ToolFault(does=Does.REFUSE, sub_command="create_vm_tools_entity", times=times))

    async def set_the_clock(self) -> None:
        self.clock.step(self.choose.choice(_STEPS_S))

    async def restart_the_database(self) -> None:
        url, mode = self.service.database.url, self.choose.choice(("fast", "immediate"))
        self.clock.close()
        await asyncio.to_thread(stop_database, url, mode)
        await asyncio.sleep(self.choose.uniform(0, 3))
        await asyncio.to_thread(start_database, url)
        self.clock.connect()


def _site(vms: int) -> SiteSpec:
    each = vms // _CLUSTERS
    clusters = (
        ClusterSpec(
            f"c{number}", 3, tuple(VmSpec(f"c{number}-vm{vm:03}", file_level_restore=True) for vm in range(each))
        )
        for number in range(1, _CLUSTERS + 1)
    )
    return SiteSpec(tuple(clusters))


async def _found(service: Service, job: JobRecord) -> JobRecord:
    """A connection that a restart broke is found broken once."""
    for _ in range(20):
        try:
            return await service.find(job.id)
        except Fault:
            await asyncio.sleep(0.2)
    return await service.find(job.id)


async def _run(seed: int, seconds: float, size: int, folder: Path, url: str) -> int:
    clock = DatabaseClock(url)
    async with AsyncExitStack() as stack:
        site = await stack.enter_async_context(Site.running(_site(size), folder / "site"))
        path = write_configuration(site, folder / "ngt-renewal.toml", {}, prove_first=False, max_running=8)
        service = await stack.enter_async_context(opened(load_settings(path, {}), url, site))
        victims = await stack.enter_async_context(running_nursery(folder))
        jobs = [
            await service.renew(vm, search=(name,))
            for name, cluster in site.clusters.items()
            for vm in cluster.vms.values()
        ]
        chaos = Chaos(service, victims, clock, random.Random(seed))
        print(f"seed {seed}: {len(jobs)} renewals, {_WORKERS} workers, {seconds:g} s of mishaps", flush=True)
        await chaos.go(seconds)
        print("mishaps:", ", ".join(f"{count} {name}" for name, count in chaos.done.most_common()), flush=True)
        site.faults.clear()
        end_s = time.monotonic() + _END_S
        while time.monotonic() < end_s:
            ended = [await _found(service, job) for job in jobs]
            if all(job.done for job in ended):
                break
            await asyncio.sleep(2)
        await nothing_at_work(service)
        ended = [await _found(service, job) for job in jobs]
        print("outcomes:", dict(Counter(str(job.outcome) for job in ended)), flush=True)
        promises = broken_promises(service, ended)
    clock.close()
    print("\n".join(promises) or f"seed {seed}: every promise was kept")
    return 1 if promises else 0


def main() -> int:
    """The seed, the seconds and the VMs come from CHAOS_SEED, CHAOS_SECONDS and CHAOS_VMS."""
    seed = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(1_000_000))
    seconds, vms = float(os.environ.get("CHAOS_SECONDS", "300")), int(os.environ.get("CHAOS_VMS", "300"))
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with tempfile.TemporaryDirectory(prefix="ngt-chaos-") as folder, own_database() as url:
        return asyncio.run(_run(seed, seconds, vms, Path(folder), url))


if __name__ == "__main__":
    sys.exit(main())

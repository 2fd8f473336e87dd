"""The victims as a test sees them: ordered one by one, waited for, and none of them left behind."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.crash.victim import Order
from tests.limits import LIMIT_S
from tests.work.service import Service

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(slots=True)
class Victims:
    """Orders to one nursery. `directory` gets the victims' logs."""

    nursery: asyncio.subprocess.Process
    directory: Path
    pids: list[int] = field(default_factory=list)
    _one_order: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def begin(self, service: Service, **order: object) -> int:
        """The id of a new victim; `order` holds fields of `Order`."""
        log = self.directory / f"victim{len(self.pids)}.log"
        # Its settings are those of the test's own service.
        settings = service.site.directory.parent / "ngt-renewal.toml"
        url = service.database.url
        line = json.dumps(asdict(Order(settings=str(settings), url=url, log=str(log), **order)))  # type: ignore[arg-type]  # the fields of a table's row
        assert self.nursery.stdin is not None
        assert self.nursery.stdout is not None
        async with self._one_order:
            self.nursery.stdin.write(f"{line}\n".encode())
            pid = int(await asyncio.wait_for(self.nursery.stdout.readline(), LIMIT_S))
            self.pids.append(pid)
        return pid

    @staticmethod
    def send(pid: int, number: signal.Signals) -> None:
        """A victim that has ended already hears nothing."""
        with suppress(ProcessLookupError):
            os.kill(pid, number)

    @staticmethod
    async def gone(pid: int, limit_s: float = LIMIT_S) -> None:
        """Waits until that process has ended."""
        try:
            watched = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(watched, ended.set)
        try:
            await asyncio.wait_for(ended.wait(), limit_s)
        finally:
            loop.remove_reader(watched)
            os.close(watched)

    async def killed(self, pid: int) -> None:
        self.send(pid, signal.SIGKILL)
        await self.gone(pid)


@asynccontextmanager
async def running_nursery(directory: Path) -> AsyncIterator[Victims]:
    """A nursery whose victims all end with it."""
    nursery = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.crash.victim",
        cwd=_ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    victims = Victims(nursery, directory)
    try:
        yield victims
    finally:
        for pid in victims.pids:
            await victims.killed(pid)
        assert nursery.stdin is not None
        nursery.stdin.close()
        await nursery.wait()


async def until(holds: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
    """Waits until it is so, which may happen in another process. Raises TimeoutError."""
    async with asyncio.timeout(limit_s):
        while not holds():  # noqa: ASYNC110 - There is no event between processes.
            await asyncio.sleep(0.005)


async def nothing_at_work(service: Service) -> None:
    """Waits until no text and no tool is at work on any CVM, whoever sent it: from then on nothing can land."""
    site = service.site
    await until(lambda: not site._shells.running and not site.tool_port._calls)

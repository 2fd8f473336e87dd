"""The two servers that the same tests run against, with a line before them that can be cut."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from app.ssh.host import Host, PoolLimits
from app.ssh.pool import Pool
from tests.limits import LIMIT_S
from tests.ssh.bash_server import BashServer, running_bash_server
from tests.ssh.relay import Relay, running_relay
from tests.ssh.sshd import Sshd, running_sshd

LIMITS = PoolLimits(channel_wait_s=20.0, drain_s=0.5)


async def until(condition: Callable[[], bool]) -> None:
    """Waits until it is so."""
    give_up_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < give_up_s, "what was waited for did not happen"
        await asyncio.sleep(0.01)


@dataclass(slots=True)
class Watched:
    """A pool, and the lines that are logged while it is used."""

    pool: Pool
    lines: list[MutableMapping[str, Any]]

    @property
    def events(self) -> list[str]:
        return [line["event"] for line in self.lines]


@pytest_asyncio.fixture
async def make_pool() -> AsyncIterator[Callable[[PoolLimits], Watched]]:
    made: list[Watched] = []
    with capture_logs() as lines:

        def make(limits: PoolLimits = LIMITS) -> Watched:
            made.append(Watched(Pool(limits), lines))
            return made[-1]

        yield make
        for watched in made:
            await watched.pool.close()


def sessions_in_use(pool: Pool) -> int:
    return sum(connection.in_use for connection in pool._connections)


@pytest.fixture
def pool(make_pool: Callable[[PoolLimits], Watched]) -> Pool:
    return make_pool(LIMITS).pool


@dataclass(slots=True)
class Reached:
    """A server behind a relay; `host` leads through the relay."""

    server: BashServer | Sshd
    relay: Relay
    host: Host


async def _reach(server: BashServer | Sshd, relay: Relay) -> Reached:
    """Pins the server's key for the relay's port too."""
    line = server.known_hosts.read_text()
    server.known_hosts.write_text(line + line.replace(f":{server.port} ", f":{relay.port} "))
    return Reached(server, relay, replace(server.host(), port=relay.port))


@pytest_asyncio.fixture
async def bash_server(tmp_path: Path) -> AsyncIterator[BashServer]:
    async with running_bash_server(tmp_path / "bash_server") as server:
        yield server


@pytest_asyncio.fixture(params=["asyncssh", "openssh"])
async def reached(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Reached]:
    """A server of ours, then OpenSSH's own."""
    if request.param == "asyncssh":
        async with running_bash_server(tmp_path / "server") as server, running_relay(server.port) as relay:
            yield await _reach(server, relay)
    else:
        with running_sshd(tmp_path / "server") as sshd:
            async with running_relay(sshd.port) as relay:
                yield await _reach(sshd, relay)


MakePool = Callable[..., Watched]
Awaiting = Callable[[], Awaitable[None]]

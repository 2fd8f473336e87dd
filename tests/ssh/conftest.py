"""The two servers that the same tests run against, with a line before them that can be cut."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import pytest_asyncio

from app.ssh.host import Host, PoolLimits
from app.ssh.pool import Pool, PoolEvent
from tests.ssh.bash_server import BashServer, running_bash_server
from tests.ssh.relay import Relay, running_relay
from tests.ssh.sshd import Sshd, running_sshd

LIMITS = PoolLimits(channel_wait_s=20.0, drain_s=0.5)
_UNTIL_LIMIT_S = 10.0


async def until(condition: Callable[[], bool]) -> None:
    """Waits until it is so; fails after ten seconds."""
    give_up_s = time.monotonic() + _UNTIL_LIMIT_S
    while not condition():
        assert time.monotonic() < give_up_s, "what was waited for did not happen"
        await asyncio.sleep(0.01)


@dataclass(slots=True)
class Watched:
    """A pool, and what it told its observer."""

    pool: Pool
    events: list[PoolEvent] = field(default_factory=list)


@pytest_asyncio.fixture
async def make_pool() -> AsyncIterator[Callable[[PoolLimits], Watched]]:
    made: list[Watched] = []

    def make(limits: PoolLimits = LIMITS) -> Watched:
        events: list[PoolEvent] = []
        made.append(Watched(Pool(limits, events.append), events))
        return made[-1]

    yield make
    for watched in made:
        await watched.pool.close()


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

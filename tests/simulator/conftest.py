"""A small site for each test that asks for one, and a bare SSH client that knows nothing of the service."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncssh
import pytest_asyncio

from app.simulator.host import SimulatedHost
from app.simulator.site import Site
from app.simulator.spec import demo_site
from tests.limits import LIMIT_S


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """The demo's site."""
    async with Site.running(demo_site(), tmp_path / "site") as running:
        yield running


async def log_in(site: Site, host: SimulatedHost) -> asyncssh.SSHClientConnection:
    """Log in to a CVM or a guest as the service is meant to."""
    return await asyncssh.connect(
        host.ip,
        host.port,
        username=host.username,
        client_keys=[str(site.client_key_path)],
        known_hosts=str(site.known_hosts_path),
        config=None,
    )


async def run(site: Site, host: SimulatedHost, text: str) -> asyncssh.SSHCompletedProcess:
    """Run one text over a connection of its own."""
    connection = await log_in(site, host)
    try:
        return await asyncio.wait_for(connection.run(text), LIMIT_S)
    finally:
        connection.close()
        await connection.wait_closed()


async def until(holds: Callable[[], bool]) -> None:
    """Wait until `holds` is true; raises TimeoutError."""
    async with asyncio.timeout(LIMIT_S):
        while not holds():  # noqa: ASYNC110 - What is waited for may happen in another process.
            await asyncio.sleep(0.005)

"""A folder with a configuration for each test, and a simulated site where one is asked for."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from app.simulator.site import Site
from app.simulator.spec import ClusterSpec, SiteSpec, VmSpec
from tests.cli.command import Commands
from tests.work.service import assert_nothing_forbidden, write_configuration

SITE = SiteSpec((ClusterSpec("c1", 2, (VmSpec("web01"), VmSpec("web02"))),))


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    """The command line, without a database and with an empty configuration."""
    made = Commands(tmp_path)
    made.configuration.touch()
    return made


@pytest_asyncio.fixture
async def site(commands: Commands) -> AsyncIterator[Site]:
    """A cluster of two CVMs, which the configuration names, with the limits of tests."""
    async with Site.running(SITE, commands.folder / "site") as running:
        write_configuration(running, commands.configuration, {"delete_timeout_s": 20, "create_timeout_s": 20})
        yield running
        assert_nothing_forbidden(running)


@pytest.fixture
def on_database(commands: Commands, database_url: str) -> Commands:
    """The command line with a PostgreSQL that has the tables of this version."""
    commands.environment["DATABASE_URL"] = database_url
    return commands

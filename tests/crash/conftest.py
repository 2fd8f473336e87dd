"""The service of `tests/work`, and a nursery of workers to be killed."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.crash.victims import Victims, running_nursery
from tests.work.conftest import begin

__all__ = ["begin", "victims"]


@pytest_asyncio.fixture
async def victims(tmp_path: Path) -> AsyncIterator[Victims]:
    async with running_nursery(tmp_path) as nursery:
        yield nursery

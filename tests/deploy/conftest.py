"""The names that a scrape of the real service has: with its worker's, which is made and not set to work."""

from collections.abc import AsyncIterator

import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from app.settings import Settings
from app.work.worker import Worker
from tests.api.conftest import serving, settings

__all__ = ["settings"]

_ENDINGS = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "info": ("_info",)}


@pytest_asyncio.fixture
async def scraped(settings: Settings, database_url: str) -> AsyncIterator[frozenset[str]]:
    """The names of all series, also of those that have no sample yet."""
    async with serving(settings, database_url) as service:
        Worker(settings, service.services.store, service.services.metrics)
        async with service.client(await service.key()) as client:
            text = (await client.get("/metrics")).raise_for_status().text
        families = list(text_string_to_metric_families(text))
        yield frozenset(f"{family.name}{ending}" for family in families for ending in _ENDINGS.get(family.type, ("",)))

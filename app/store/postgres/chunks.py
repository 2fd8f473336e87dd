"""Splits long sequences into parts for one statement each."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from app.store.postgres.database import REFUSED_VALUE, refusal_of

log = structlog.get_logger(__name__)

_Item = TypeVar("_Item")

ROWS_AT_ONCE = 500


def chunks(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    return (items[begin : begin + ROWS_AT_ONCE] for begin in range(0, len(items), ROWS_AT_ONCE))


async def store_in_chunks(
    connection: AsyncConnection, items: Sequence[_Item], store: Callable[[Sequence[_Item]], Awaitable[None]]
) -> list[_Item]:
    """Stores all items but those with a value that PostgreSQL does not take, which are returned."""
    return [item for part in chunks(items) for item in await _store_part(connection, part, store)]


async def _store_part(
    connection: AsyncConnection, part: Sequence[_Item], store: Callable[[Sequence[_Item]], Awaitable[None]]
) -> list[_Item]:
    try:
        async with connection.begin_nested():
            await store(part)
    except REFUSED_VALUE as refused:
        if len(part) == 1:
            log.warning("a value was not stored", error=refusal_of(refused))
            return [part[0]]
        half = len(part) // 2
        return [
            *await _store_part(connection, part[:half], store),
            *await _store_part(connection, part[half:], store),
        ]
    return []

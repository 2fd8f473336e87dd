"""The pool of connections: a crowd is served in turn, and told so when that takes too long."""

import asyncio
from collections.abc import Iterable

from sqlalchemy import text

from app.ngt.errors import Fault, FaultCode
from app.store.postgres.database import Database
from tests.limits import LIMIT_S

# More than the pool has, with what it may open beside.
CROWD = 200


async def hold(database: Database, released: asyncio.Event) -> None:
    async with database.transaction() as connection:
        await connection.execute(text("SELECT 1"))
        await released.wait()
        await connection.execute(text("SELECT 1"))


def faults(ended: Iterable[BaseException | None]) -> list[BaseException]:
    return [each for each in ended if each is not None]


async def test_a_crowd_is_served_in_turn(database: Database) -> None:
    released = asyncio.Event()
    released.set()
    ended = await asyncio.gather(*(hold(database, released) for _ in range(CROWD)), return_exceptions=True)
    assert faults(ended) == []


async def test_who_finds_no_free_connection_in_time_is_told_so_and_the_others_keep_theirs(database_url: str) -> None:
    database = Database(database_url, pool_wait_s=0.05)
    released = asyncio.Event()
    holders = [asyncio.create_task(hold(database, released)) for _ in range(CROWD)]
    done, _ = await asyncio.wait(holders, return_when=asyncio.FIRST_COMPLETED, timeout=LIMIT_S)
    assert done
    released.set()
    refused = faults(await asyncio.gather(*holders, return_exceptions=True))
    await database.close()
    assert 0 < len(refused) < CROWD
    for fault in refused:
        assert isinstance(fault, Fault)
        assert (fault.code, fault.message) == (FaultCode.DATABASE_UNAVAILABLE, "The database is busy.")

"""The pool of connections: a crowd is served in turn, and told so when that takes too long."""

import asyncio
import re
from collections.abc import Iterable

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from structlog.testing import capture_logs

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


@pytest.mark.field("E6")
@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("53100", "The database has no space left on its disk."),
        ("53200", "The database has no memory left."),
        ("53300", "The database accepts no more connections."),
        ("25006", "The database is read-only: it may be a standby."),
        ("42501", "The database refuses a statement: the role of DATABASE_URL lacks a privilege."),
        ("57P03", "The database does not answer."),
    ],
)
async def test_the_reason_why_it_stores_nothing_is_told_and_logged(
    database: Database, state: str, message: str
) -> None:
    failing = text(f"DO $$ BEGIN RAISE EXCEPTION 'no luck' USING ERRCODE = '{state}'; END $$")
    with capture_logs() as events:
        for _ in range(3):
            with pytest.raises(Fault, match=re.escape(message)) as refused:
                async with database.transaction() as connection:
                    await connection.execute(failing)
            assert refused.value.code is FaultCode.DATABASE_UNAVAILABLE
    # Every request meets the same cause, and one line says it.
    [event] = events
    assert "no luck" in event["error"]
    async with database.transaction() as connection:
        assert await connection.scalar(text("SELECT 1")) == 1


async def test_a_statement_that_is_wrong_is_our_own_fault(database: Database) -> None:
    with pytest.raises(ProgrammingError):
        async with database.transaction() as connection:
            await connection.execute(text("SELECT nothing"))

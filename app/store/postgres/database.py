"""The engine and its one way to a transaction. All SQL of the service goes through `Database.transaction`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import cast

import psycopg
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from app.ngt.errors import Fault, FaultCode

_POOL_SIZE = 10
_POOL_OVERFLOW = 20
# Longer than any crowd takes; callers who wait for their answer give up at 30 s.
_POOL_WAIT_S = 10.0


def plain_url(url: str) -> str:
    """The URL as libpq reads it, without SQLAlchemy's driver."""
    return url.replace("postgresql+psycopg://", "postgresql://", 1).replace("postgres://", "postgresql://", 1)


class Database:
    """A PostgreSQL, from `Database(url)` until `close()`."""

    def __init__(self, url: str, *, pool_wait_s: float = _POOL_WAIT_S) -> None:
        self.url = plain_url(url)
        self._engine = create_async_engine(
            self.url.replace("postgresql://", "postgresql+psycopg://", 1),
            pool_size=_POOL_SIZE,
            max_overflow=_POOL_OVERFLOW,
            pool_timeout=pool_wait_s,
            pool_pre_ping=False,
            connect_args={"application_name": "ngt-renewal", "options": "-c timezone=UTC"},
        )

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """One transaction: committed at the end, rolled back on any exception.

        Raises Fault `database-unavailable` when PostgreSQL cannot be reached or went away, and when no connection
        of the pool was free in time.
        """
        try:
            async with self._engine.begin() as connection:
                yield connection
        except (OperationalError, InterfaceError, psycopg.OperationalError) as gone:
            await self._forget_dead_connections()
            raise Fault(FaultCode.DATABASE_UNAVAILABLE, "The database does not answer.") from gone
        except PoolTimeoutError as crowded:
            # The connections are alive: they are kept.
            raise Fault(FaultCode.DATABASE_UNAVAILABLE, "The database is busy.") from crowded
        except DBAPIError as failed:
            if failed.connection_invalidated:
                raise Fault(FaultCode.DATABASE_UNAVAILABLE, "The database does not answer.") from failed
            raise

    async def _forget_dead_connections(self) -> None:
        """After a restart of PostgreSQL every pooled connection is dead; the next transaction opens a new one."""
        with suppress(Exception):
            await asyncio.wait_for(self._engine.dispose(), 5)

    async def close(self) -> None:
        await self._engine.dispose()


async def driver_connection(connection: AsyncConnection) -> psycopg.AsyncConnection:
    """The psycopg connection below, so that the queue writes into the same transaction."""
    raw = await connection.get_raw_connection()
    return cast("psycopg.AsyncConnection", raw.driver_connection)


async def read_clock(database: Database) -> datetime:
    """The database's clock. Raises Fault `database-unavailable`."""
    async with database.transaction() as connection:
        now = await connection.scalar(text("SELECT clock_timestamp()"))
    assert isinstance(now, datetime)
    return now

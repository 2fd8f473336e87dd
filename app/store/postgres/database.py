"""The engine and its one way to a transaction. All SQL of the service goes through `Database.transaction`."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import cast

import psycopg
import structlog
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import text
from sqlalchemy.exc import DataError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from app.ngt.errors import Fault, FaultCode
from app.store.postgres.url import plain_url

_log = structlog.get_logger(__name__)

_POOL_SIZE = 10
_POOL_OVERFLOW = 20
# Longer than any crowd takes; callers who wait for their answer give up at 30 s.
_POOL_WAIT_S = 10.0
_LOG_AGAIN_S = 30.0
_NO_ANSWER = "The database does not answer."
_NO_SPACE = "The database has no space left on its disk."
# By SQLSTATE: what a person has to change before the database works again.
_CAUSES = {
    "53100": _NO_SPACE,
    "53200": "The database has no memory left.",
    "53300": "The database accepts no more connections.",
    "25006": "The database is read-only: it may be a standby.",
    "42501": "The database refuses a statement: the role of DATABASE_URL lacks a privilege.",
}
# PostgreSQL needs a new file of its log of this size, or does not start.
_LEAST_SPACE = 16 * 1024 * 1024


class ValueRefused(Exception):
    """PostgreSQL does not take a value, such as a NUL or a number that is too large. Nothing was stored."""


REFUSED_VALUE = (DataError, UnicodeError)
"""The errors that mean `ValueRefused`."""


def refusal_of(error: Exception) -> str:
    """PostgreSQL's own words, without the statement and its values."""
    return str(getattr(error, "orig", error))


class Database:
    """A PostgreSQL, from `Database(url)` until `close()`."""

    def __init__(self, url: str, *, pool_wait_s: float = _POOL_WAIT_S) -> None:
        self.url = plain_url(url)
        self._engine = create_async_engine(
            "postgresql+psycopg://",
            async_creator=self._connect,
            pool_size=_POOL_SIZE,
            max_overflow=_POOL_OVERFLOW,
            pool_timeout=pool_wait_s,
            pool_pre_ping=False,
        )
        self._logged: tuple[str, float] = ("", 0.0)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """One transaction: committed at the end, rolled back on any exception.

        Raises Fault `database-unavailable` when PostgreSQL cannot be reached, went away or can store nothing, and when
        no connection of the pool was free in time; ValueRefused for a value that cannot be stored.
        """
        try:
            async with self._engine.begin() as connection:
                yield connection
        except PoolTimeoutError as crowded:
            # The connections are alive: they are kept.
            raise Fault(FaultCode.DATABASE_UNAVAILABLE, "The database is busy.") from crowded
        except REFUSED_VALUE as refused:
            raise ValueRefused(refusal_of(refused)) from refused
        except (DBAPIError, psycopg.OperationalError) as failed:
            cause = failed.orig if isinstance(failed, DBAPIError) else failed
            told = _CAUSES.get(getattr(cause, "sqlstate", None) or "")
            lost = isinstance(failed, DBAPIError) and failed.connection_invalidated
            if told is None and not lost and not isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError):
                raise
            if not lost:
                await self._forget_dead_connections()
            message = told or (_NO_SPACE if self._lacks_space() else _NO_ANSWER)
            self._log_cause(message, cause)
            raise Fault(FaultCode.DATABASE_UNAVAILABLE, message) from failed

    async def _connect(self) -> psycopg.AsyncConnection:
        """A new connection, in UTC. The options of the URL are left to the operator; some poolers refuse any."""
        connection = await psycopg.AsyncConnection.connect(self.url, autocommit=True, application_name="ngt-renewal")
        try:
            await connection.execute("SET timezone TO 'UTC'")
            await connection.set_autocommit(False)
        except BaseException:
            await connection.close()
            raise
        return connection

    def _lacks_space(self) -> bool:
        """True if the database is on this machine, and the disk of its socket is full. Then it does not even start."""
        socket_folder = str(conninfo_to_dict(self.url).get("host") or "")
        if not socket_folder.startswith("/"):
            return False
        try:
            disk = os.statvfs(socket_folder)
        except OSError:
            return False
        return disk.f_bavail * disk.f_frsize < _LEAST_SPACE

    def _log_cause(self, message: str, cause: BaseException | None) -> None:
        """Once for each cause in half a minute: every request meets the same."""
        said = " ".join(str(cause).split())
        now_s = time.monotonic()
        before, at_s = self._logged
        if said != before or now_s > at_s + _LOG_AGAIN_S:
            self._logged = (said, now_s)
            _log.warning(message.rstrip("."), error=said)

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

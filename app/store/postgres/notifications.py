"""A test that notifications arrive: a pooler in transaction mode loses them, and a standby takes none."""

from uuid import uuid4

import psycopg
from psycopg.sql import SQL, Identifier

from app.store.postgres.url import plain_url

_TRIES = 30
_TRY_S = 1.0
_STANDBY = (
    "DATABASE_URL leads to a standby, which is read-only: name the primary, or add `?target_session_attrs=primary`."
)
_LOST = (
    "Notifications of the database do not arrive: DATABASE_URL leads to a pooler in transaction mode. Give the direct "
    "address of PostgreSQL, or a pooler with `pool_mode = session`."
)


async def find_lost_notifications(url: str) -> str | None:
    """The reason why a notification to ourselves does not arrive, and the remedy; a database that is away is none."""
    try:
        return await _find_lost_notifications(url)
    except psycopg.OperationalError:
        return None


async def _find_lost_notifications(url: str) -> str | None:
    channel = Identifier(f"ngt_{uuid4().hex}")
    async with (
        await psycopg.AsyncConnection.connect(plain_url(url), autocommit=True) as listening,
        await psycopg.AsyncConnection.connect(plain_url(url), autocommit=True) as notifying,
    ):
        row = await (await listening.execute("SELECT pg_is_in_recovery()")).fetchone()
        if row == (True,):
            return _STANDBY
        await listening.execute(SQL("LISTEN {}").format(channel))
        for _ in range(_TRIES):
            await notifying.execute(SQL("NOTIFY {}").format(channel))
            async for _notification in listening.notifies(timeout=_TRY_S, stop_after=1):
                return None
    return _LOST

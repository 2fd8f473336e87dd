"""API keys: creating, listing, revoking and verifying them. The store keeps only the SHA-256 of a secret."""

import hashlib
import hmac
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Interval, and_, bindparam, exists, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.ngt.errors import Fault, FaultCode
from app.settings.callers.scopes import Scope
from app.store.callers.key_format import PREFIX, new_key, read_token, write_token
from app.store.postgres.database import Database
from app.store.postgres.tables import API_KEY
from app.store.records.callers import Caller, KeyRecord
from app.store.records.rows import record_of

# The secret of an unknown id is compared with this one, so that both cost the same.
_UNKNOWN_SHA256 = hashlib.sha256(b"nobody").hexdigest()
_USE_IS_STORED_EVERY = timedelta(minutes=1)


class Keys:
    """The API keys of one database. Every method raises Fault `database-unavailable` when it does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self,
        description: str,
        scopes: Collection[Scope],
        clusters: Collection[str] | None = None,
        expires_in: timedelta | None = None,
    ) -> tuple[KeyRecord, str]:
        """A new key and its token, which cannot be read again.

        `clusters` None: it may use all of them. `expires_in` None: it never expires.
        """
        key_id, secret = new_key()
        expires_at = None if expires_in is None else func.now() + bindparam("expires_in", expires_in, Interval)
        row = insert(API_KEY).values(
            id=key_id,
            secret_sha256=_sha256(secret),
            description=description,
            scopes=sorted(set(scopes)),
            clusters=None if clusters is None else sorted(set(clusters)),
            expires_at=expires_at,
        )
        async with self._database.transaction() as connection:
            stored = (await connection.execute(row.returning(API_KEY))).mappings().one()
            return _key_record(stored), write_token(key_id, secret)

    async def list(self) -> tuple[KeyRecord, ...]:
        """All keys, also those that have expired or were revoked, oldest first."""
        async with self._database.transaction() as connection:
            rows = await connection.execute(select(API_KEY).order_by(API_KEY.c.created_at, API_KEY.c.id))
            return tuple(_key_record(row) for row in rows.mappings())

    async def revoke(self, key_id: str) -> bool:
        """Refuses the key from the next request on; False when the key does not exist."""
        revoked = update(API_KEY).where(API_KEY.c.id == key_id)
        async with self._database.transaction() as connection:
            done = await connection.execute(revoked.values(revoked_at=func.coalesce(API_KEY.c.revoked_at, func.now())))
            return done.rowcount == 1

    async def any_usable(self) -> bool:
        """True when at least one key is valid."""
        usable = exists().where(API_KEY.c.revoked_at.is_(None), ~_expired())
        async with self._database.transaction() as connection:
            return bool(await connection.scalar(select(usable)))

    async def verify(self, token: str) -> Caller:
        """The caller of the token. Raises Fault `unauthenticated`, `token-expired` and `token-revoked`.

        The last two are shown only to a caller who knows the secret.
        """
        if (parts := read_token(token)) is None:
            raise _unauthenticated()
        key_id, secret = parts
        async with self._database.transaction() as connection:
            wanted = select(API_KEY, _expired().label("expired"), _use_is_to_be_noted().label("to_be_noted"))
            key = (await connection.execute(wanted.where(API_KEY.c.id == key_id))).mappings().first()
            expected = _UNKNOWN_SHA256 if key is None else key["secret_sha256"]
            if not hmac.compare_digest(_sha256(secret), expected) or key is None:
                raise _unauthenticated()
            if key["revoked_at"] is not None:
                raise Fault(FaultCode.TOKEN_REVOKED, f"The API key {key_id} was revoked.")
            if key["expired"]:
                raise Fault(FaultCode.TOKEN_EXPIRED, f"The API key {key_id} has expired.")
            if key["to_be_noted"]:
                await _note_use(connection, key_id)
            record = _key_record(key)
        clusters = None if record.clusters is None else frozenset(record.clusters)
        return Caller(record.id, record.description, frozenset(record.scopes), clusters)

    async def verify_basic(self, user: str, password: str) -> Caller:
        """As `verify`, for HTTP Basic: the key's id, and the token or its part after the id."""
        token = password if password.startswith(f"{PREFIX}_") else write_token(user, password)
        if not token.startswith(write_token(user, "")):
            raise _unauthenticated()
        return await self.verify(token)


def _sha256(secret: str) -> str:
    # One round is enough: the secret is 40 random digits and cannot be guessed, unlike a password.
    return hashlib.sha256(secret.encode()).hexdigest()


def _expired() -> ColumnElement[bool]:
    return func.coalesce(API_KEY.c.expires_at <= func.now(), False)


def _use_is_to_be_noted() -> ColumnElement[bool]:
    long_ago = API_KEY.c.last_used_at < func.now() - bindparam("noted_every", _USE_IS_STORED_EVERY, Interval)
    return or_(API_KEY.c.last_used_at.is_(None), long_ago)


async def _note_use(connection: AsyncConnection, key_id: str) -> None:
    """Stores the time of use. Of concurrent requests one stores it, and the others do not wait."""
    free = select(API_KEY.c.id).where(and_(API_KEY.c.id == key_id, _use_is_to_be_noted()))
    noted = update(API_KEY).where(API_KEY.c.id.in_(free.with_for_update(skip_locked=True)))
    await connection.execute(noted.values(last_used_at=func.now()))


def _unauthenticated() -> Fault:
    return Fault(FaultCode.UNAUTHENTICATED, "The API key is not known.")


def _key_record(row: Mapping[Any, Any]) -> KeyRecord:
    clusters = None if row["clusters"] is None else tuple(row["clusters"])
    return record_of(KeyRecord, row, scopes=tuple(map(Scope, row["scopes"])), clusters=clusters)

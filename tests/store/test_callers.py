"""API keys: shown once, kept as a hash, refused when wrong, expired or revoked."""

import asyncio
from collections.abc import Awaitable
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from app.ngt.errors import Fault, FaultCode
from app.settings.callers.scopes import Scope
from app.store.callers.api_keys import Keys
from app.store.postgres.database import Database
from app.store.postgres.tables import API_KEY

SCOPES = frozenset({Scope.RENEW, Scope.JOBS_READ})


async def refused(verification: Awaitable[object]) -> FaultCode:
    with pytest.raises(Fault) as fault:
        await verification
    return fault.value.code


async def test_a_key_says_who_may_do_what_and_where(keys: Keys) -> None:
    record, token = await keys.create("snow-prod", SCOPES, frozenset({"c2", "c1"}), timedelta(days=90))
    assert token.startswith(f"ngtr_{record.id}_")
    assert record.expires_at is not None
    assert record.expires_at - record.created_at == timedelta(days=90)
    assert record.clusters == ("c1", "c2")
    caller = await keys.verify(token)
    assert (caller.id, caller.name) == (record.id, "snow-prod")
    assert (caller.scopes, caller.clusters) == (SCOPES, frozenset({"c1", "c2"}))
    assert caller.may_use("c1")
    assert not caller.may_use("c3")


async def test_a_key_of_no_named_cluster_may_use_all(keys: Keys) -> None:
    _, token = await keys.create("ops", SCOPES)
    assert (await keys.verify(token)).clusters is None


async def test_the_secret_is_nowhere_in_the_database(keys: Keys, database: Database) -> None:
    _, token = await keys.create("ops", SCOPES)
    secret = token.rpartition("_")[2]
    assert len(secret) >= 32 + 6
    async with database.transaction() as connection:
        rows = (await connection.execute(select(API_KEY))).all()
    assert secret not in repr(rows)
    assert secret[:-6] not in repr(rows)


async def test_http_basic_takes_the_id_with_the_secret_or_the_whole_token(keys: Keys) -> None:
    record, token = await keys.create("mid server", SCOPES)
    assert (await keys.verify_basic(record.id, token.rpartition("_")[2])).id == record.id
    assert (await keys.verify_basic(record.id, token)).id == record.id
    for user, password in (("other", token), ("", token), (record.id, "secret"), (record.id, ""), ("", "")):
        assert await refused(keys.verify_basic(user, password)) is FaultCode.UNAUTHENTICATED


async def test_what_is_not_a_key_is_refused(keys: Keys) -> None:
    _, token = await keys.create("ops", SCOPES)
    _, other = await keys.create("ops", SCOPES)
    swapped = f"{token.rpartition('_')[0]}_{other.rpartition('_')[2]}"
    mistyped = token[:20] + ("a" if token[20] != "a" else "b") + token[21:]
    for wrong in ("", "ngtr_", "ngtr__", token[:-1], token + "0", token + "\n", mistyped, swapped, token.upper(), "ü"):
        assert await refused(keys.verify(wrong)) is FaultCode.UNAUTHENTICATED, wrong


async def test_a_well_formed_key_that_was_never_made_is_refused(keys: Keys, database: Database) -> None:
    record, token = await keys.create("ops", SCOPES)
    async with database.transaction() as connection:
        await connection.execute(API_KEY.delete().where(API_KEY.c.id == record.id))
    assert await refused(keys.verify(token)) is FaultCode.UNAUTHENTICATED


async def test_a_right_check_with_a_wrong_secret_is_refused(keys: Keys, database: Database) -> None:
    record, token = await keys.create("ops", SCOPES)
    async with database.transaction() as connection:
        await connection.execute(update(API_KEY).where(API_KEY.c.id == record.id).values(secret_sha256="0" * 64))
    assert await refused(keys.verify(token)) is FaultCode.UNAUTHENTICATED


async def test_a_key_is_refused_from_its_expiry_on(keys: Keys) -> None:
    _, token = await keys.create("ops", SCOPES, expires_in=timedelta(0))
    assert await refused(keys.verify(token)) is FaultCode.TOKEN_EXPIRED


async def test_a_revoked_key_is_refused_at_once_and_stays_revoked_since_the_first_time(keys: Keys) -> None:
    record, token = await keys.create("ops", SCOPES)
    await keys.verify(token)
    assert await keys.revoke(record.id)
    assert await refused(keys.verify(token)) is FaultCode.TOKEN_REVOKED
    (first,) = await keys.list()
    assert await keys.revoke(record.id)
    assert (await keys.list()) == (first,)
    assert not await keys.revoke("unknown")


async def test_nobody_learns_that_a_key_was_revoked_without_its_secret(keys: Keys, database: Database) -> None:
    record, token = await keys.create("ops", SCOPES)
    await keys.revoke(record.id)
    async with database.transaction() as connection:
        await connection.execute(update(API_KEY).values(secret_sha256="0" * 64))
    assert await refused(keys.verify(token)) is FaultCode.UNAUTHENTICATED


async def test_the_last_use_is_noted_once_a_minute(keys: Keys, database: Database) -> None:
    record, token = await keys.create("ops", SCOPES)
    assert record.last_used_at is None
    await asyncio.gather(*(keys.verify(token) for _ in range(20)))
    (first,) = await keys.list()
    assert first.last_used_at is not None
    await keys.verify(token)
    assert (await keys.list()) == (first,)
    async with database.transaction() as connection:
        await connection.execute(update(API_KEY).values(last_used_at=first.last_used_at - timedelta(minutes=2)))
    await keys.verify(token)
    (later,) = await keys.list()
    assert later.last_used_at is not None
    assert later.last_used_at >= first.last_used_at


async def test_a_service_without_a_usable_key_knows_it(keys: Keys) -> None:
    assert not await keys.any_usable()
    await keys.create("expired", SCOPES, expires_in=timedelta(0))
    revoked, _ = await keys.create("revoked", SCOPES)
    await keys.revoke(revoked.id)
    assert not await keys.any_usable()
    await keys.create("good", SCOPES)
    assert await keys.any_usable()
    assert [key.description for key in await keys.list()] == ["expired", "revoked", "good"]

"""`ngt-renewal keys`: API keys."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.configuration import Config, configure
from app.cli.database import migrated_url
from app.cli.failures import fail, reported_failures
from app.settings import Settings
from app.settings.callers.scopes import Scope
from app.store.records.callers import KeyRecord

if TYPE_CHECKING:
    from app.store.callers.api_keys import Keys

cli = typer.Typer(help="API keys of this service.", no_args_is_help=True, rich_markup_mode=None)


@cli.command()
def create(
    scopes: Annotated[str, typer.Option(help=f"Separated by commas: {', '.join(Scope)}.")],
    description: Annotated[str, typer.Option(help="Who uses the key, for example `ServiceNow production`.")] = "",
    clusters: Annotated[str, typer.Option(help="Separated by commas; empty: all clusters.")] = "",
    expires_days: Annotated[int, typer.Option(min=1, max=3650)] = 90,
    config: Config = None,
    *,
    never_expires: Annotated[bool, typer.Option("--never-expires")] = False,
) -> None:
    """Make an API key and print it, once: only its hash is stored."""
    with reported_failures():
        settings = configure(config)
        wanted = _parse_scopes(scopes)
        allowed = _parse_clusters(clusters, settings)
        lifetime = None if never_expires else timedelta(days=expires_days)
        with migrated_url(settings) as url:
            key, token = asyncio.run(_create(url, description, wanted, allowed, lifetime))
    typer.echo(token)
    ends = f"expires on {key.expires_at:%Y-%m-%d}" if key.expires_at is not None else "never expires"
    typer.echo(f"Save it now: it is not stored and cannot be shown again. Its id is {key.id}; it {ends}.", err=True)


@cli.command("list")
def list_keys(config: Config = None) -> None:
    """List the API keys, without their secrets."""
    with reported_failures(), migrated_url(configure(config)) as url:
        for key in asyncio.run(_list(url)):
            ends = f"expires {key.expires_at:%Y-%m-%d}" if key.expires_at is not None else "never expires"
            ends = f"revoked {key.revoked_at:%Y-%m-%d}" if key.revoked_at is not None else ends
            used = f"last used {key.last_used_at:%Y-%m-%d}" if key.last_used_at is not None else "never used"
            where = ",".join(key.clusters) if key.clusters is not None else "all clusters"
            typer.echo(f"{key.id}  {','.join(key.scopes)}  {where}  {ends}  {used}  {key.description}".rstrip())


@cli.command()
def revoke(key_id: str, config: Config = None) -> None:
    """Revoke a key at once."""
    with reported_failures(), migrated_url(configure(config)) as url:
        if not asyncio.run(_revoke(url, key_id)):
            fail(f"There is no active key {key_id!r}; `ngt-renewal keys list` shows all keys.")
    typer.echo(f"{key_id} is revoked.")


def _parse_scopes(scopes: str) -> frozenset[Scope]:
    names = _split(scopes)
    unknown = sorted(names - set(Scope))
    if unknown or not names:
        refusal = f"{unknown[0]!r} is not a scope" if unknown else "No scope is given"
        fail(f"{refusal}; the scopes are {', '.join(Scope)}.")
    return frozenset(map(Scope, names))


def _parse_clusters(clusters: str, settings: Settings) -> frozenset[str] | None:
    names = _split(clusters)
    if unknown := sorted(names - set(settings.clusters)):
        known = ", ".join(sorted(settings.clusters)) or "none"
        fail(f"The cluster {unknown[0]!r} is not configured; the clusters are: {known}.")
    return names or None


def _split(listed: str) -> frozenset[str]:
    return frozenset(filter(None, (name.strip() for name in listed.split(","))))


@asynccontextmanager
async def _keys(url: str) -> AsyncIterator["Keys"]:
    from app.store.callers.api_keys import Keys
    from app.store.postgres.database import Database

    database = Database(url)
    try:
        yield Keys(database)
    finally:
        await database.close()


async def _create(
    url: str, description: str, scopes: frozenset[Scope], clusters: frozenset[str] | None, lifetime: timedelta | None
) -> tuple[KeyRecord, str]:
    async with _keys(url) as keys:
        return await keys.create(description, scopes, clusters, lifetime)


async def _list(url: str) -> tuple[KeyRecord, ...]:
    async with _keys(url) as keys:
        return await keys.list()


async def _revoke(url: str, key_id: str) -> bool:
    async with _keys(url) as keys:
        return await keys.revoke(key_id)

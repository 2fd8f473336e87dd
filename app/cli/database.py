"""`ngt-renewal migrate`, and the database of the other commands."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import typer

from app.cli.configuration import Config, configure
from app.cli.failures import fail, reported_failures
from app.settings import Settings
from app.store.embedded.server import start_embedded


def migrate(config: Config = None) -> None:
    """Bring the database to this version's tables. Safe to repeat."""
    from app.store.postgres.schema import migrate as upgrade

    with reported_failures():
        with _database_url(configure(config)) as url:
            upgrade(url)
        typer.echo("The database has this version's tables.")


@contextmanager
def migrated_url(settings: Settings) -> Iterator[str]:
    """The URL of the database. A configured database without this version's tables is refused."""
    with _database_url(settings) as url:
        asyncio.run(_refuse_old_schema(url))
        yield url


@contextmanager
def _database_url(settings: Settings) -> Iterator[str]:
    """The configured database, or the embedded one, which runs until the end of the block and is migrated."""
    from app.store.postgres.schema import migrate as upgrade

    if settings.database_url is not None:
        url = settings.database_url.get_secret_value()
        _refuse_malformed(url)
        yield url
        return
    embedded = start_embedded(settings.data_dir)
    try:
        upgrade(embedded.url)
        yield embedded.url
    finally:
        embedded.close()


def _refuse_malformed(url: str) -> None:
    try:
        _ = urlsplit(url).port
    except ValueError:
        # The malformed part may belong to the password, so it is not shown.
        fail(
            "DATABASE_URL is malformed; it looks like postgresql://user:password@host:5432/name, with the special "
            "characters of the password percent-encoded."
        )


async def _refuse_old_schema(url: str) -> None:
    from app.store.postgres.database import Database
    from app.store.postgres.schema import is_at_head

    database = Database(url)
    try:
        if not await is_at_head(database):
            fail("The database does not have this version's tables. Run `ngt-renewal migrate`, then try again.")
    finally:
        await database.close()

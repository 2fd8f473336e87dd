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
    with reported_failures():
        with _database_url(configure(config)) as url:
            _upgrade(url)
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
    if settings.database_url is not None:
        url = settings.database_url.get_secret_value()
        _refuse_malformed(url)
        yield url
        return
    embedded = start_embedded(settings.data_dir)
    try:
        _upgrade(embedded.url)
        yield embedded.url
    finally:
        embedded.close()


def _upgrade(url: str) -> None:
    from app.store.postgres.queue_schema import NewerQueueError
    from app.store.postgres.schema import migrate as upgrade

    try:
        upgrade(url)
    except NewerQueueError as newer:
        fail(str(newer))


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
    from app.store.postgres.schema import find_difference

    database = Database(url)
    try:
        if difference := await find_difference(database):
            fail(difference)
    finally:
        await database.close()

"""The database's schema. Only the revisions in `migrations/`, and procrastinate's own for its tables, change it."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from app.ngt.errors import Fault, FaultCode
from app.store.postgres.database import Database, plain_url
from app.store.postgres.queue_schema import VERSION, is_newer, newer_queue, pending_migrations, upgrade_queue

_MIGRATIONS = Path(__file__).resolve().parents[3] / "migrations"


def migrate(url: str, revision: str = "head") -> None:
    """Bring the database at `url` to the newest revision, its queue included, in one transaction. Blocks.

    Safe to run from several replicas at once: the second waits and finds it done. Raises Fault `database-unavailable`
    when the database cannot be reached or a table stayed locked for 10 s, and NewerQueueError when a newer
    procrastinate made the queue; nothing is changed then.
    """

    def upgrade(config: Config) -> None:
        if revision == "head":
            config.attributes["after"] = upgrade_queue
        command.upgrade(config, revision)

    _run(url, upgrade)


def undo_migrations(url: str, revision: str = "base") -> None:
    """Take the database back to `revision`; `base` drops all of this service's tables. Blocks."""
    _run(url, lambda config: command.downgrade(config, revision))


def write_revision(url: str, message: str) -> None:
    """Write a new file into `migrations/versions` from the difference between the database and the models. Blocks."""
    _run(url, lambda config: command.revision(config, message, autogenerate=True))


@cache
def head_revision() -> str:
    """The newest revision that this version of the service knows."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None, f"{_MIGRATIONS} does not contain a revision"
    return head


async def current_revision(database: Database) -> str | None:
    """The revision of the database, or None when it was never migrated. Raises Fault `database-unavailable`."""
    async with database.transaction() as connection:
        migrated = await connection.scalar(text("SELECT to_regclass('alembic_version')"))
        return await connection.scalar(text("SELECT version_num FROM alembic_version")) if migrated else None


async def is_at_head(database: Database) -> bool:
    """True if the database has the schema of this version. Raises Fault `database-unavailable`."""
    return await find_difference(database) is None


async def find_difference(database: Database) -> str | None:
    """The reason why this version cannot use the database's schema, and the remedy. Raises `database-unavailable`."""
    is_current = await current_revision(database) == head_revision()
    if is_current:
        async with database.transaction() as connection:
            queue = (await connection.execute(VERSION)).scalar_one()
        if is_newer(queue):
            return newer_queue(queue)
        is_current = not pending_migrations(queue)
    if is_current:
        return None
    return "The database does not have this version's tables. Run `ngt-renewal migrate`, then try again."


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.set_main_option("file_template", "%%(year)d_%%(month).2d_%%(day).2d_%%(slug)s")
    config.set_main_option("timezone", "UTC")
    return config


def _run(url: str, do: Callable[[Config], object]) -> None:
    engine = create_engine(plain_url(url).replace("postgresql://", "postgresql+psycopg://", 1), poolclass=NullPool)
    try:
        with engine.connect() as connection:
            config = _config()
            config.attributes["connection"] = connection
            do(config)
    except OperationalError as gone:
        reason = str(gone.orig).strip().splitlines()[0]
        raise Fault(FaultCode.DATABASE_UNAVAILABLE, f"The database cannot be used: {reason}") from gone

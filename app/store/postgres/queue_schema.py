"""The queue's tables, which procrastinate defines: the version that the database has, and the upgrade of it.

A new database gets the installed schema from the revision `queue`.
"""

import re
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from procrastinate.schema import SchemaManager
from sqlalchemy import Connection, text

INSTALLED = version("procrastinate")
VERSION = text("SELECT version FROM queue_schema")
_REMEMBER = text("UPDATE queue_schema SET version = :version")


class NewerQueueError(Exception):
    """The queue's tables were made by a newer procrastinate; the message is one sentence that says what to do."""


def upgrade_queue(connection: Connection) -> None:
    """Apply procrastinate's migrations up to the installed version, and remember it. Raises NewerQueueError."""
    remembered = connection.execute(VERSION).scalar_one()
    if is_newer(remembered):
        raise NewerQueueError(newer_queue(remembered))
    folder = Path(SchemaManager.get_migrations_path())
    # Only the driver's own connection takes many statements at once.
    driver = connection.connection.driver_connection
    assert driver is not None
    for name in pending_migrations(remembered):
        driver.execute((folder / name).read_text(encoding="utf-8"))
    connection.execute(_REMEMBER, {"version": INSTALLED})


def pending_migrations(remembered: str, shipped: Iterable[str] | None = None) -> tuple[str, ...]:
    """The migration files of versions after `remembered`, in order. `shipped`: those of the installed package."""
    if shipped is None:
        shipped = (path.name for path in Path(SchemaManager.get_migrations_path()).glob("*.sql"))
    newer = [name for name in shipped if _release(name) > _release(remembered)]
    # A name is `<version>_<number>_<pre or post>_<subject>.sql`; the numbers of `pre` are below those of `post`.
    return tuple(sorted(newer, key=lambda name: (_release(name), name)))


def is_newer(remembered: str) -> bool:
    return _release(remembered) > _release(INSTALLED)


def newer_queue(remembered: str) -> str:
    return (
        f"The database's queue belongs to procrastinate {remembered} and {INSTALLED} is installed: "
        f"install procrastinate {remembered} or a later version."
    )


def _release(named: str) -> tuple[int, ...]:
    """The first three numbers: 3.10 is 3.10.0, and the file 03.04.00_50_post_x.sql is of 3.4.0."""
    numbers = [int(number) for number in re.findall(r"\d+", named.partition("_")[0])]
    return tuple([*numbers, 0, 0, 0][:3])

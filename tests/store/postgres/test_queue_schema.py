"""The queue's tables follow the installed procrastinate: from the release before, from older versions, and not back."""

from pathlib import Path
from typing import Any

import psycopg
import pytest
from procrastinate.schema import SchemaManager

from app.store.postgres.database import Database
from app.store.postgres.queue_schema import INSTALLED, NewerQueueError, pending_migrations
from app.store.postgres.schema import find_difference, is_at_head, migrate

_CATALOG = (
    "SELECT table_name, column_name, data_type, column_default, is_nullable FROM information_schema.columns"
    " WHERE table_schema = 'public' ORDER BY 1, 2",
    "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1",
    "SELECT oid::regprocedure::text, prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1",
    "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1",
    "SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2",
    "SELECT typname, enumlabel FROM pg_enum JOIN pg_type ON pg_type.oid = enumtypid ORDER BY 1, enumsortorder",
    "SELECT typname, typtype FROM pg_type WHERE typnamespace = 'public'::regnamespace ORDER BY 1",
    "SELECT version FROM queue_schema",
)
_SHIPPED = (
    "03.02.00_01_pre_batch.sql",
    "03.04.00_50_post_retry.sql",
    "03.10.00_01_pre_next.sql",
    "03.04.00_01_pre_retry.sql",
    "03.03.00_01_pre_fetch.sql",
    "00.19.00_01_add_index.sql",
)


def catalog(url: str) -> list[Any]:
    with psycopg.connect(url) as connection:
        return [connection.execute(query).fetchall() for query in _CATALOG]


@pytest.mark.parametrize(
    ("remembered", "applied"),
    [
        ("3.10.0", ()),
        ("3.10", ()),
        ("3.11.2", ()),
        ("3.9.4", ("03.10.00_01_pre_next.sql",)),
        ("3.3.0", ("03.04.00_01_pre_retry.sql", "03.04.00_50_post_retry.sql", "03.10.00_01_pre_next.sql")),
        ("0.19.1", (_SHIPPED[0], _SHIPPED[4], _SHIPPED[3], _SHIPPED[1], _SHIPPED[2])),
    ],
)
def test_only_migrations_of_later_versions_apply_in_the_order_of_their_names(
    remembered: str, applied: tuple[str, ...]
) -> None:
    assert pending_migrations(remembered, _SHIPPED) == applied


def test_every_shipped_migration_has_a_version() -> None:
    shipped = {path.name for path in Path(SchemaManager.get_migrations_path()).glob("*.sql")}
    assert set(pending_migrations("0.0")) == {name for name in shipped if not name.startswith("00.00.00")}
    assert pending_migrations(INSTALLED) == ()


async def test_a_database_of_the_release_before_becomes_equal_to_a_new_one(
    empty_database_url: str, database_url: str
) -> None:
    migrate(empty_database_url, "inventory")
    with psycopg.connect(empty_database_url) as connection:
        # That release did not remember the version.
        connection.execute("DROP TABLE queue_schema")
    database = Database(empty_database_url)
    assert not await is_at_head(database)
    migrate(empty_database_url)
    assert await is_at_head(database)
    await database.close()
    assert catalog(empty_database_url) == catalog(database_url)


def make_older_queue(url: str, version: str) -> None:
    """The database as a procrastinate of that version would have made it."""
    migrate(url, "tables")
    later = set(pending_migrations(version))
    with psycopg.connect(url, autocommit=True) as connection:
        for path in sorted(Path(SchemaManager.get_migrations_path()).glob("*.sql")):
            if path.name not in later:
                connection.execute(path.read_bytes())
        connection.execute("CREATE TABLE queue_schema (version text NOT NULL PRIMARY KEY)")
        connection.execute("INSERT INTO queue_schema VALUES (%s)", [version])
        connection.execute("UPDATE alembic_version SET version_num = 'queue'")
    migrate(url, "queue_version")


async def test_a_queue_of_an_older_version_is_refused_until_it_is_migrated(
    database_url: str, empty_database_url: str
) -> None:
    make_older_queue(empty_database_url, "3.0.1")
    database = Database(empty_database_url)
    difference = "The database does not have this version's tables. Run `ngt-renewal migrate`, then try again."
    assert await find_difference(database) == difference
    migrate(empty_database_url)
    assert await find_difference(database) is None
    await database.close()
    assert catalog(empty_database_url) == catalog(database_url)


async def test_a_queue_of_a_newer_version_is_refused_in_one_sentence(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE queue_schema SET version = '99.0.1'")
    sentence = (
        f"The database's queue belongs to procrastinate 99.0.1 and {INSTALLED} is installed: "
        "install procrastinate 99.0.1 or a later version."
    )
    with pytest.raises(NewerQueueError) as refused:
        migrate(database_url)
    assert str(refused.value) == sentence
    database = Database(database_url)
    assert await find_difference(database) == sentence
    assert not await is_at_head(database)
    await database.close()

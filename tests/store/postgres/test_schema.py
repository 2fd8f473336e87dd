"""The migrations make what the models and the queue's library expect, and can be undone."""

from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from procrastinate.schema import SchemaManager
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from app.store.postgres.database import Database
from app.store.postgres.schema import current_revision, head_revision, is_at_head, migrate, undo_migrations
from app.store.postgres.tables import JobRow

_QUEUE_CATALOG = (
    "SELECT table_name, column_name, data_type, column_default, is_nullable FROM information_schema.columns"
    " WHERE table_name LIKE 'procrastinate%' ORDER BY 1, 2",
    "SELECT indexdef FROM pg_indexes WHERE tablename LIKE 'procrastinate%' ORDER BY 1",
    "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname LIKE 'procrastinate%' ORDER BY 1",
    "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname LIKE 'procrastinate%' ORDER BY 1",
    "SELECT pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE conrelid::regclass::text LIKE 'procrastinate%' ORDER BY 1",
    "SELECT typname, enumlabel FROM pg_enum JOIN pg_type ON pg_type.oid = enumtypid ORDER BY 1, enumsortorder",
)


def differences(url: str) -> list[Any]:
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1), poolclass=NullPool)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_server_default": True,
                "include_name": lambda name, kind, _parents: kind != "table" or not name.startswith("procrastinate_"),
            },
        )
        return list(compare_metadata(context, JobRow.metadata))


def queue_catalog(url: str) -> list[Any]:
    with psycopg.connect(url) as connection:
        return [connection.execute(query).fetchall() for query in _QUEUE_CATALOG]


def objects(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            " UNION SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
            " UNION SELECT typname FROM pg_type WHERE typnamespace = 'public'::regnamespace"
        )
        return {name for (name,) in found}


def test_the_newest_revision_is_what_the_models_say(database_url: str) -> None:
    assert differences(database_url) == []


def test_the_queues_schema_is_what_the_installed_procrastinate_wants(
    database_url: str, empty_database_url: str
) -> None:
    with psycopg.connect(empty_database_url) as connection:
        connection.execute(SchemaManager.get_schema().encode())
    assert queue_catalog(database_url) == queue_catalog(empty_database_url)


def test_migrations_go_up_down_and_up_again(empty_database_url: str) -> None:
    migrate(empty_database_url)
    up = objects(empty_database_url)
    undo_migrations(empty_database_url)
    assert {name for name in objects(empty_database_url) if "alembic_version" not in name} == set()
    migrate(empty_database_url)
    assert objects(empty_database_url) == up
    assert differences(empty_database_url) == []


def test_migrating_twice_changes_nothing(database_url: str) -> None:
    before = objects(database_url)
    migrate(database_url)
    assert objects(database_url) == before


def test_migrations_are_found_from_any_working_directory(
    empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    migrate(empty_database_url)
    assert differences(empty_database_url) == []


async def test_a_database_knows_its_revision(database: Database) -> None:
    assert await current_revision(database) == head_revision()
    assert await is_at_head(database)


async def test_an_empty_database_is_not_at_head(empty_database_url: str) -> None:
    empty = Database(empty_database_url)
    assert await current_revision(empty) is None
    assert not await is_at_head(empty)
    await empty.close()

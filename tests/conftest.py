"""One real PostgreSQL for the test session, and a new database, already migrated, for each test that asks for one."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import pytest_asyncio
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier

from app.store.embedded.owner import find_owner, find_programs
from app.store.postgres.database import Database, plain_url
from app.store.postgres.schema import migrate
from tests.limits import LIMIT_S

_LOCALE = "--locale=C.UTF-8"
# Tests lose nothing in a power cut, and many open several pools at once.
_FOR_TESTS = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=300"


@contextmanager
def _embedded_postgres() -> Iterator[str]:
    # Below /tmp, where PostgreSQL's user may go also when we are root and the checkout is in a private folder.
    owner = find_owner()
    folder = Path(tempfile.mkdtemp(prefix="ngt-pg-", dir="/tmp"))
    owner.give(folder)

    def run(*command: str | Path) -> None:
        done = owner.run(*command, cwd=folder, limit_s=LIMIT_S)
        assert done.returncode == 0, done.stdout

    try:
        programs = find_programs(folder, owner)
        run(programs / "initdb", "-D", "cluster", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", _LOCALE)
        options = f"-k {folder} -c listen_addresses='' {_FOR_TESTS}"
        run(programs / "pg_ctl", "-w", "-D", "cluster", "-l", "log", "-o", options, "start")
        try:
            yield f"postgresql://postgres@/postgres?host={folder}"
        finally:
            run(programs / "pg_ctl", "-w", "-D", "cluster", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _on(url: str, name: str) -> str:
    """The same server, another database."""
    before, _, after = url.partition("?")
    server, _, _ = before.rpartition("/")
    return f"{server}/{name}" + (f"?{after}" if after else "")


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A server on which databases may be made: `DATABASE_URL`, else an embedded one."""
    if url := os.environ.get("DATABASE_URL"):
        yield plain_url(url)
        return
    with _embedded_postgres() as url:
        yield url


@contextmanager
def _database(server: str, *, template: str = "template0") -> Iterator[str]:
    name = f"ngt_{uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as admin:
        # Copying the files is the quicker way for these, and was the only one before PostgreSQL 15.
        by_files = SQL(" STRATEGY file_copy" if admin.info.server_version >= 150000 else "")
        admin.execute(SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(name), Identifier(template)) + by_files)
        try:
            yield _on(server, name)
        finally:
            admin.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


@pytest.fixture(scope="session")
def _migrated(postgres_url: str) -> Iterator[str]:
    with _database(postgres_url) as url:
        migrate(url)
        yield url


@pytest.fixture
def empty_database_url(postgres_url: str) -> Iterator[str]:
    """A new database without any table."""
    with _database(postgres_url) as url:
        yield url


@contextmanager
def _copy_of(migrated: str, server: str) -> Iterator[str]:
    with _database(server, template=str(conninfo_to_dict(migrated)["dbname"])) as url:
        yield url


@pytest.fixture
def database_url(postgres_url: str, _migrated: str) -> Iterator[str]:
    """A new database at the newest revision."""
    with _copy_of(_migrated, postgres_url) as url:
        yield url


@pytest.fixture(scope="module")
def shared_database_url(postgres_url: str, _migrated: str) -> Iterator[str]:
    """One such database for all tests of a module, for those that change nothing in it."""
    with _copy_of(_migrated, postgres_url) as url:
        yield url


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url)
    yield opened
    await opened.close()

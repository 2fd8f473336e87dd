"""The URL of the database: one reader for every part, all that libpq takes, and no password in a message."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import text

from app.store.change_feed import ChangeFeed
from app.store.embedded.server import start_embedded
from app.store.jobs.commands import Jobs
from app.store.postgres.database import Database
from app.store.postgres.queue import WakeUps, queue_app
from app.store.postgres.schema import find_difference, migrate
from app.store.postgres.url import find_fault, name_of, plain_url
from tests.store.conftest import renewal

SECRET = "S3cret"
PASSWORD = f"{SECRET}%/@ :?#&+=[é]%41"


@pytest.fixture(scope="module")
def with_password() -> Iterator[str]:
    """The folder of the socket of a server that asks the role `ngt` for its password."""
    place = Path(tempfile.mkdtemp(prefix="ngt-url-", dir="/tmp"))
    place.chmod(0o755)
    with closing(start_embedded(place / "data")) as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(f"CREATE ROLE ngt LOGIN SUPERUSER PASSWORD '{PASSWORD}'")
            rules = place / "data" / "cluster" / "pg_hba.conf"
            rules.write_text(f"local all ngt scram-sha-256\n{rules.read_text()}")
            connection.execute("SELECT pg_reload_conf()")
        yield str(conninfo_to_dict(server.url)["host"])
    shutil.rmtree(place)


async def use_every_part(url: str) -> None:
    """Make the tables, and have a job started, woken and waited for; fails where a part cannot connect."""
    migrate(url)
    database, queue = Database(url), queue_app(url)
    assert await find_difference(database) is None
    async with queue.open_async(), ChangeFeed(url, Jobs(database, WakeUps(queue))) as changes:
        await changes.listening()
        await Jobs(database, WakeUps(queue)).start_renewal(renewal())
        async with database.transaction() as connection:
            assert await connection.scalar(text("SHOW timezone")) == "UTC"
    await database.close()


@pytest.mark.field("C1")
@pytest.mark.parametrize("beside", [True, False], ids=["PGPASSWORD", "percent-encoded"])
async def test_every_part_logs_in_with_a_password_of_any_characters(
    with_password: str, monkeypatch: pytest.MonkeyPatch, *, beside: bool
) -> None:
    login = "ngt" if beside else f"ngt:{quote(PASSWORD, safe='')}"
    if beside:
        monkeypatch.setenv("PGPASSWORD", PASSWORD)
    url = f"postgresql+psycopg://{login}@/ngt?host={with_password}"
    assert find_fault(url) is None
    await use_every_part(url)
    assert SECRET not in name_of(url)


@pytest.mark.field("C2")
@pytest.mark.parametrize("options", ["-csearch_path=ngt", "-csearch_path%3Dngt", "-c search_path=ngt -c jit=off"])
async def test_every_part_takes_the_options_of_the_url(empty_database_url: str, options: str) -> None:
    with psycopg.connect(empty_database_url) as connection:
        connection.execute("CREATE SCHEMA ngt")
    url = f"{empty_database_url}&options={options}"
    assert find_fault(url) is None
    await use_every_part(url)
    with psycopg.connect(empty_database_url) as connection:
        kept = "SELECT count(*) FROM {}".format
        assert connection.execute(kept("ngt.job").encode()).fetchone() == (1,)
        assert connection.execute(kept("ngt.procrastinate_jobs").encode()).fetchone() == (1,)
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


@pytest.mark.field("C1")
@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://ngt:{SECRET}{rest}"
        for rest in (
            "/b@h/ngt",
            "%b@h/ngt",
            "@b@h/ngt",
            "%zz@h/ngt",
            "?a@b@h/ngt",
            "/b?c@h/ngt",
            "/b?c=1@h/ngt",
            "@[h/ngt",
            "@h:5432x/ngt",
        )
    ]
    + [f"postgresql://ngt:12/{SECRET}@h/ngt", f"postgresql://ngt:/{SECRET}@h/ngt", f"postgresql://h/n?{SECRET}@x=1"],
)
def test_a_url_that_another_reader_would_read_otherwise_is_refused_without_its_password(url: str) -> None:
    fault = find_fault(url)
    assert fault is not None
    assert fault.startswith("DATABASE_URL is malformed; it looks like postgresql://user:password@host:5432/name.")
    assert SECRET not in fault


def test_an_unknown_parameter_is_named() -> None:
    assert str(find_fault("postgresql://h/ngt?pool_size=5")).startswith(
        "DATABASE_URL has the unknown parameter `pool_size`"
    )


@pytest.mark.field("C1")
@pytest.mark.parametrize(
    ("url", "name"),
    [
        (f"postgresql://ngt:{SECRET}?#:&@h/ngt", "ngt on h"),
        (
            f"postgresql://me%40srv:{SECRET}@h:5432/ngt?sslmode=require&sslrootcert=/ca.pem",
            "ngt on h port 5432",
        ),
        ("postgresql://u@h1:5432,h2:5433/ngt?target_session_attrs=read-write", "ngt on h1,h2 port 5432,5433"),
        ("postgres://[::1]:5432/ngt", "ngt on ::1 port 5432"),
        ("postgresql:///ngt?host=/var/run/postgresql", "ngt on /var/run/postgresql"),
        ("postgresql://%2Fvar%2Frun%2Fpostgresql/ngt", "ngt on /var/run/postgresql"),
        ("postgresql://db/n%40me?options=-csearch_path=a -cjit=off&connect_timeout=5", "n@me on db"),
        ("postgresql://", "the default database on the default host"),
    ],
)
def test_what_libpq_takes_is_taken(url: str, name: str) -> None:
    assert find_fault(url) is None
    assert name_of(url) == name
    assert conninfo_to_dict(plain_url(url)) is not None

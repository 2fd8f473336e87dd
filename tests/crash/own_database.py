"""A PostgreSQL of one test, which the test may stop and start."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from app.store.embedded.owner import find_owner, find_programs
from app.store.postgres.schema import migrate
from tests.conftest import _FOR_TESTS, _embedded_postgres
from tests.limits import LIMIT_S


@contextmanager
def own_database() -> Iterator[str]:
    """The URL of a server of its own, which keeps what it has committed also when it is killed."""
    with _embedded_postgres() as url:
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute("ALTER DATABASE postgres SET synchronous_commit = on")
        migrate(url)
        yield url
    # The connections that were dropped are collected here, and not in the middle of another test.
    gc.collect()


def _control(url: str, *command: str) -> None:
    folder = Path(str(conninfo_to_dict(url)["host"]))
    owner = find_owner()
    programs = find_programs(folder, owner)
    done = owner.run(programs / "pg_ctl", "-w", "-D", "cluster", "-l", "log", *command, cwd=folder, limit_s=LIMIT_S)
    assert done.returncode == 0, done.stdout


def stop_database(url: str, mode: str) -> None:
    _control(url, "-m", mode, "stop")


def start_database(url: str) -> None:
    folder = conninfo_to_dict(url)["host"]
    _control(url, "-o", f"-k {folder} -c listen_addresses='' {_FOR_TESTS}", "start")

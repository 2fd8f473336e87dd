"""Behind a real PgBouncer: in session mode every part works, in transaction mode the service does not start."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from app.store.embedded.owner import find_owner
from app.store.postgres.notifications import find_lost_notifications
from tests.store.postgres.test_url import use_every_part

_UNPACKED = Path(__file__).resolve().parents[3] / ".tools" / "bin"


def find_pgbouncer() -> str:
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:{_UNPACKED}:/usr/sbin")
    assert found is not None, "run `tools/need pgbouncer=pgbouncer`"
    return found


@contextmanager
def running_pgbouncer(url: str, mode: str) -> Iterator[str]:
    """The URL of the same database through the pooler."""
    read, owner = conninfo_to_dict(url), find_owner()
    folder = Path(tempfile.mkdtemp(prefix="ngt-pool-", dir="/tmp"))
    owner.give(folder)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = " ".join(f"{name}={read[name]}" for name in ("host", "port", "user", "password") if name in read)
    (folder / "ini").write_text(
        f"[databases]\n* = {server}\n[pgbouncer]\npool_mode = {mode}\nauth_type = any\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nmax_client_conn = 100\n"
        f"logfile = {folder}/log\n"
    )
    (folder / "ini").chmod(0o644)
    process = subprocess.Popen(
        (find_pgbouncer(), "--quiet", folder / "ini"),
        cwd=folder,
        user=owner.uid if owner.is_another else None,
        group=owner.gid if owner.is_another else None,
        extra_groups=() if owner.is_another else None,
    )
    pooled = f"postgresql://postgres@127.0.0.1:{port}/{read['dbname']}"
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(pooled).close()
            except psycopg.OperationalError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            else:
                break
        yield pooled
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


@pytest.mark.field("C3")
async def test_in_session_mode_every_part_works(empty_database_url: str) -> None:
    with running_pgbouncer(empty_database_url, "session") as url:
        assert await find_lost_notifications(url) is None
        await use_every_part(url)


@pytest.mark.field("C3")
async def test_in_transaction_mode_notifications_are_lost_and_that_is_told(database_url: str) -> None:
    with running_pgbouncer(database_url, "transaction") as url:
        fault = await find_lost_notifications(url)
    assert fault is not None
    assert "a pooler in transaction mode" in fault


async def test_without_a_pooler_they_arrive(database_url: str) -> None:
    assert await find_lost_notifications(database_url) is None

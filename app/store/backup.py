"""Backup and restore of the database, with the programs of the embedded PostgreSQL.

A restored database knows nothing of what happened after its backup. So the service starts paused on it, jobs that had
changed nothing are ended, and jobs that had begun a change look at their VM first, as after a lost answer.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from app.store.embedded.owner import find_client_programs
from app.store.postgres.url import plain_url

# In the transaction of the restore: there is no moment at which the jobs of the past could run.
_AFTER_RESTORE = """
RESET search_path;
DELETE FROM pause;
INSERT INTO pause (paused_by, reason) VALUES ('restore', 'The database was restored from a backup: scan every cluster, '
  'look at the jobs that are open, then resume.');
UPDATE job SET status = 'cancelled', outcome = 'cancelled', done = true, message = 'ended by the restore of a backup',
  error_code = 'cancelled', error_message = 'ended by the restore of a backup; the job had changed nothing then',
  wait_reason = NULL, deadline_at = NULL, due_at = NULL, lease_until = NULL, takes_slot = false, look_now = false,
  fence = fence + 1, version = version + 1, finished_at = now(), updated_at = now()
WHERE NOT done AND changing_since IS NULL;
"""
_HAS_TABLES = "SELECT to_regclass('alembic_version') IS NOT NULL"


class BackupError(Exception):
    """The backup or the restore was refused or failed; the message says what to do. Nothing was changed."""


def write_backup(url: str, file: Path) -> None:
    """Write the whole database into the file, which only its owner can read; an older file stays until it is complete.

    It is the database at one moment; the service may run meanwhile. Blocks. Raises BackupError.
    """
    with _written_beside(file) as unfinished:
        _run(url, "pg_dump", "--format=custom", "--no-owner", "--no-privileges", f"--file={unfinished}")
        unfinished.replace(file)


def restore_backup(url: str, file: Path) -> int:
    """Restore the file into an empty database, all or nothing. Blocks. Raises BackupError.

    Returns the number of the jobs that had begun a change and go on.
    """
    if not file.is_file():
        raise BackupError(f"{file} is not a file.")
    try:
        with psycopg.connect(plain_url(url)) as connection:
            if connection.execute(_HAS_TABLES).fetchone() == (True,):
                raise BackupError(
                    "The database has tables already: restore into an empty one, with another data_dir or DATABASE_URL."
                )
    except psycopg.OperationalError as gone:
        raise BackupError(f"The database does not answer ({' '.join(str(gone).split())}).") from gone
    with tempfile.TemporaryDirectory(prefix="ngt-restore-") as folder:
        # The whole script is there before its first statement runs: a damaged file changes nothing.
        script = Path(folder, "script.sql")
        _run(None, "pg_restore", "--no-owner", "--no-privileges", f"--file={script}", str(file))
        with script.open("a", encoding="utf-8") as opened:
            opened.write(_AFTER_RESTORE)
        options = ("--no-psqlrc", "--quiet", "--output=/dev/null", "--set=ON_ERROR_STOP=1", "--single-transaction")
        _run(url, "psql", *options, f"--file={script}")
    with psycopg.connect(plain_url(url)) as connection:
        row = connection.execute("SELECT count(*) FROM job WHERE NOT done").fetchone()
    assert row is not None
    return int(row[0])


@contextmanager
def _written_beside(file: Path) -> Iterator[Path]:
    """A new file beside `file`, for its owner alone; removed unless it takes the place of `file`."""
    try:
        opened, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    except OSError as refused:
        raise BackupError(f"{file} cannot be written: {refused.strerror}.") from refused
    os.close(opened)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _run(url: str | None, program: str, *options: str) -> None:
    """Run a program; on the database its password goes into the environment, which other users cannot read."""
    arguments: Sequence[str] = options
    environment = dict(os.environ)
    if url is not None:
        read = conninfo_to_dict(plain_url(url))
        if password := read.pop("password", None):
            environment["PGPASSWORD"] = str(password)
        arguments = (*options, f"--dbname={make_conninfo(**{name: str(value) for name, value in read.items()})}")
    done = subprocess.run(  # noqa: S603 - programs of the wheel, with our own words
        (find_client_programs() / program, *arguments),
        env={**environment, "LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        lines = [line.strip().rstrip(".") for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if "error" in line.lower() or "fatal" in line.lower()]
        raise BackupError(f"{program} failed: {(errors or lines or ['it says nothing'])[0]}. Nothing was changed.")

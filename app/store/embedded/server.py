"""A PostgreSQL of our own for those who name none: the programs come in a wheel, the data stays in one private folder.

It listens on a Unix socket in a folder that only its user (and root) may enter, never on the network. Processes on one
machine share it: the first starts it, the last stops it, and one that was killed leaves it running for the next.
"""

import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg.sql import SQL, Identifier

from app.store.embedded.owner import EmbeddedPostgresError, Owner, claim_folder, find_owner, find_programs

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError", "start_embedded"]

_MAJOR = "18"
_DATABASE = "ngt"
_PORT = 5432
# sun_path of unix(7) has 108 bytes and ends in a zero byte.
_MAX_SOCKET_PATH_BYTES = 107
# After a power cut the server replays its log before it answers.
_START_LIMIT_S = 120
_STOP_LIMIT_S = 60
_ANSWER_LIMIT_S = 5
# Small, and as safe as PostgreSQL comes: what was committed survives a power cut.
_SETTINGS = {
    "listen_addresses": "''",
    "unix_socket_permissions": "0700",
    "port": _PORT,
    "max_connections": 200,
    "shared_buffers": "64MB",
    "synchronous_commit": "on",
    # Nothing replicates from here, so a small log is enough.
    "wal_level": "minimal",
    "max_wal_senders": 0,
    "max_wal_size": "256MB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # A line every five minutes for years, and nobody reads it.
    "log_checkpoints": "off",
}


class EmbeddedPostgres:
    """The running server, from `start_embedded` until `close()`. `url` names the service's own database on it."""

    def __init__(self, server: "_PostgresServer", url: str, in_use: int) -> None:
        self.url = url
        self._server = server
        self._in_use: int | None = in_use

    def close(self) -> None:
        """Stop the server when no other process uses it. Blocks, for a minute at most; twice is harmless.

        Raises EmbeddedPostgresError when it does not stop; what was committed is safe all the same.
        """
        if self._in_use is None:
            return
        in_use, self._in_use = self._in_use, None
        try:
            with self._server.start_lock():
                if _try_lock(in_use):
                    self._server.stop()
        finally:
            os.close(in_use)


def start_embedded(data_dir: Path) -> EmbeddedPostgres:
    """Use the PostgreSQL whose data is in `data_dir`: make it, start it, or share it with others. Blocks, 1 s or so.

    As root it runs as the system user `ngt-renewal`, which is made when it is missing. `data_dir` must be missing,
    empty, or that user's (for others: their own). Raises EmbeddedPostgresError with one sentence that says what to do.
    """
    owner = find_owner()
    folder = claim_folder(data_dir, owner)
    server = _PostgresServer(folder, owner)
    with server.start_lock():
        in_use = server.open_lock("in-use.lock")
        try:
            url = server.start(is_alone=_try_lock(in_use))
            fcntl.flock(in_use, fcntl.LOCK_SH)
        except BaseException as failed:
            os.close(in_use)
            if isinstance(failed, psycopg.Error):
                raise EmbeddedPostgresError(
                    f"PostgreSQL in {folder} refuses to work: {_reason(str(failed))}."
                ) from failed
            raise
    return EmbeddedPostgres(server, url, in_use)


class _PostgresServer:
    """The programs and the files of one data folder. `start` and `stop` are called under `start_lock`."""

    def __init__(self, folder: Path, owner: Owner) -> None:
        self._folder = folder
        self._owner = owner
        self._cluster = folder / "cluster"
        self._log = folder / "postgresql.log"

    @contextmanager
    def start_lock(self) -> Iterator[None]:
        """Lets one process at a time start or stop the server. The kernel frees the lock when its holder dies."""
        lock = self.open_lock("start.lock")
        try:
            deadline = time.monotonic() + _START_LIMIT_S + _STOP_LIMIT_S
            while not _try_lock(lock):
                if time.monotonic() > deadline:
                    raise EmbeddedPostgresError(
                        f"Another process has been starting or stopping the PostgreSQL in {self._folder} for minutes: "
                        "look which process it is, and end it."
                    )
                time.sleep(0.05)
            yield
        finally:
            os.close(lock)

    def open_lock(self, name: str) -> int:
        """Open a file to lock. Python lets no child inherit it, so PostgreSQL does not hold our locks after our end."""
        lock = os.open(self._folder / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        self._owner.give(lock)
        return lock

    def start(self, *, is_alone: bool) -> str:
        """Start the server if it does not run, and make the database if it is missing. Returns the database's URL.

        `is_alone`: no other process uses it.
        """
        programs = find_programs(self._folder, self._owner)
        if not self._cluster.exists():
            self._make_cluster(programs)
        self._refuse_another_major()
        if is_alone:
            self._forget_dead_server()
        if not (self._runs(programs) and self._answers()):
            self._start(programs)
        if not self._answers():
            raise EmbeddedPostgresError(f"PostgreSQL was started and does not answer: its log is {self._log}.")
        socket_folder = self._socket_folder()
        with psycopg.connect(_url(socket_folder, "postgres"), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [_DATABASE]).fetchone():
                connection.execute(SQL("CREATE DATABASE {}").format(Identifier(_DATABASE)))
        return _url(socket_folder, _DATABASE)

    def stop(self) -> None:
        """Stop the server; sessions that are still open are ended and rolled back."""
        programs = find_programs(self._folder, self._owner)
        if not self._runs(programs):
            return
        socket_folder = self._socket_folder()
        stopped = self._owner.run(
            *(programs / "pg_ctl", "-w", "-t", str(_STOP_LIMIT_S), "-D", self._cluster.name, "-m", "fast", "stop"),
            cwd=self._folder,
            limit_s=_STOP_LIMIT_S + 10,
        )
        if stopped.returncode:
            raise EmbeddedPostgresError(f"PostgreSQL in {self._folder} did not stop: {_reason(stopped.stdout)}.")
        if socket_folder.parent != self._folder:
            shutil.rmtree(socket_folder, ignore_errors=True)

    def _make_cluster(self, programs: Path) -> None:
        # A killed initdb leaves files like those of a complete cluster, so a cluster gets its name when it is complete.
        for leftover in self._folder.glob("cluster.new-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        unfinished = Path(tempfile.mkdtemp(prefix="cluster.new-", dir=self._folder))
        self._owner.give(unfinished)
        made = self._owner.run(
            *(programs / "initdb", "-D", unfinished.name, "-U", "postgres", "-E", "UTF8", "--locale=C"),
            # PostgreSQL's own C.UTF-8, so that a new C library never changes the order of an index.
            *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--auth-local=trust", "--auth-host=reject"),
            cwd=self._folder,
            limit_s=_START_LIMIT_S,
        )
        if made.returncode:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise EmbeddedPostgresError(f"PostgreSQL cannot make its files in {self._folder}: {_reason(made.stdout)}.")
        unfinished.rename(self._cluster)

    def _refuse_another_major(self) -> None:
        major = (self._cluster / "PG_VERSION").read_text(encoding="ascii").strip()
        if major != _MAJOR:
            raise EmbeddedPostgresError(
                f"The files in {self._cluster} were written by PostgreSQL {major} and this is {_MAJOR}: dump them with "
                "the version that wrote them, and restore the dump into a new data_dir."
            )

    def _forget_dead_server(self) -> None:
        """Remove the pid file of a server that is gone.

        After a restart of the machine or of a container another process may have its number, and PostgreSQL would take
        that one for a running server.
        """
        pid_file = self._cluster / "postmaster.pid"
        processes = Path("/proc")
        if not pid_file.exists() or not (processes / "self").exists():
            return
        pid = pid_file.read_text(encoding="utf-8").partition("\n")[0]
        try:
            # A PostgreSQL works in the folder of its data.
            is_ours = (processes / pid / "cwd").readlink() == self._cluster
        except OSError:
            is_ours = False
        if not is_ours:
            pid_file.unlink()

    def _runs(self, programs: Path) -> bool:
        status = self._owner.run(programs / "pg_ctl", "-D", self._cluster.name, "status", cwd=self._folder, limit_s=30)
        return status.returncode == 0

    def _start(self, programs: Path) -> None:
        settings = _SETTINGS | {"unix_socket_directories": self._make_socket_folder()}
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        log_bytes = self._log.stat().st_size if self._log.exists() else 0
        # Names relative to the working folder: pg_ctl puts what it is given into a line for the shell.
        started = self._owner.run(
            *(programs / "pg_ctl", "-w", "-t", str(_START_LIMIT_S), "-D", self._cluster.name, "-l", self._log.name),
            *("-o", options, "start"),
            cwd=self._folder,
            limit_s=_START_LIMIT_S + 10,
        )
        # One whose starter was killed may come up at the same moment; then ours ends, and that one serves.
        if started.returncode and not self._runs(programs):
            raise EmbeddedPostgresError(
                f"PostgreSQL does not start in {self._folder}: {_reason(started.stdout + self._new_log(log_bytes))} "
                f"(its log is {self._log})."
            )

    def _new_log(self, old_bytes: int) -> str:
        return self._log.read_bytes()[old_bytes:].decode(errors="replace") if self._log.exists() else ""

    def _make_socket_folder(self) -> Path:
        folder = self._folder / "socket"
        # Other characters would mean something in a list of folders or to the shell that pg_ctl asks.
        is_plain = re.fullmatch(r"[\w./+-]+", str(folder), re.ASCII)
        if is_plain and len(os.fsencode(folder / f".s.PGSQL.{_PORT}")) <= _MAX_SOCKET_PATH_BYTES:
            folder.mkdir(mode=0o700, exist_ok=True)
        else:
            folder = Path(tempfile.mkdtemp(prefix="ngt-pg-", dir="/tmp"))
        self._owner.give(folder)
        return folder

    def _socket_folder(self) -> Path:
        """Where the running server listens, as it says itself: line 5 of its pid file."""
        return Path((self._cluster / "postmaster.pid").read_text(encoding="utf-8").splitlines()[4])

    def _answers(self) -> bool:
        """True if the server accepts a connection; waits while it replays its log."""
        deadline = time.monotonic() + _ANSWER_LIMIT_S
        while True:
            try:
                psycopg.connect(_url(self._socket_folder(), "postgres"), connect_timeout=10).close()
            except (psycopg.OperationalError, OSError, IndexError) as refused:
                is_starting = "starting up" in str(refused) or "not yet accepting" in str(refused)
                if time.monotonic() > deadline + (_START_LIMIT_S if is_starting else 0):
                    return False
            else:
                return True
            time.sleep(0.1)


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _url(socket_folder: Path, database: str) -> str:
    # The port is said, since PGPORT in our environment would change it.
    return f"postgresql://postgres@/{database}?host={quote(str(socket_folder))}&port={_PORT}"


def _reason(text: str) -> str:
    """The line of a program's output that says what is wrong: the last error, else the last line."""
    lines = [line.strip().rstrip(".") for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"\b(error|FATAL|PANIC):", line)]
    return (errors or lines or ["it says nothing"])[-1]

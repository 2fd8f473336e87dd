"""The commands that need neither cluster nor service: migrate, openapi, simulate."""

import json
import signal
import socket

import pytest

from app.settings import load_settings
from app.store.postgres.database import Database
from app.store.postgres.schema import is_at_head
from tests.cli.command import ROOT, Commands
from tests.limits import LIMIT_S


async def test_migrate_makes_the_tables_and_can_be_repeated(commands: Commands, empty_database_url: str) -> None:
    for _ in range(2):
        ended = await commands.run("migrate", DATABASE_URL=empty_database_url)
        assert (ended.status, ended.stdout) == (0, "The database has this version's tables.\n")
    database = Database(empty_database_url)
    assert await is_at_head(database)
    await database.close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://ngt:secret@127.0.0.1:{closed}/ngt", "port {closed} failed: Connection refused. Check that"),
        ("postgresql://ngt:sec/ret@127.0.0.1/ngt", "DATABASE_URL is malformed; "),
        ("mysql://127.0.0.1/ngt", "`database_url` is refused: it must begin with postgresql://."),
    ],
)
async def test_a_database_that_cannot_be_used_is_told_in_a_sentence(commands: Commands, url: str, said: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closing:
        closed = closing.getsockname()[1]
    ended = await commands.run("migrate", DATABASE_URL=url.format(closed=closed))
    assert (ended.status, ended.stdout) == (1, "")
    assert said.format(closed=closed) in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert "sec" not in ended.stderr


@pytest.mark.parametrize(
    ("options", "kept"), [((), "openapi.json"), (("--plain",), "openapi-3.0.json")], ids=["complete", "plain"]
)
async def test_openapi_prints_the_document_that_is_kept(
    commands: Commands, options: tuple[str, ...], kept: str
) -> None:
    ended = await commands.run("openapi", *options)
    assert (ended.status, ended.stderr) == (0, "")
    assert ended.stdout == (ROOT / "openapi" / kept).read_text("utf-8")


async def test_openapi_names_the_address_that_it_is_given(commands: Commands) -> None:
    ended = await commands.run("openapi", "--plain", "--url", "https://ngt.example.org")
    assert json.loads(ended.stdout)["servers"] == [{"url": "https://ngt.example.org"}]


@pytest.mark.parametrize("url", ["ngt.example.org", "/", "ftp://ngt.example.org"])
async def test_openapi_takes_only_an_absolute_address(commands: Commands, url: str) -> None:
    ended = await commands.run("openapi", "--plain", "--url", url)
    assert (ended.status, ended.stdout) == (1, "")
    assert ended.stderr == f"{url!r} is not the address of a service; one looks like https://ngt-renewal.example.org.\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_simulate_prints_a_configuration_that_is_accepted_until_it_is_stopped(
    commands: Commands, number: signal.Signals
) -> None:
    async with commands.running(
        "simulate", "--directory", "site", "--vms", "1", "--cvms", "2", "--clusters", "2"
    ) as site:
        printed = (await site.stdout.readuntil(b"[clusters.c2]")).decode()
        while not (commands.folder / "site" / "simulated.json").exists():
            printed += (await site.stdout.readline()).decode()
        settings = load_settings(commands.folder / "site" / "simulated.toml", {})
        assert {name: len(cluster.cvms) for name, cluster in settings.clusters.items()} == {"c1": 2, "c2": 2}
        cvm = settings.clusters["c1"].cvms[0]
        assert cvm in printed
        host, _, port = cvm.partition(":")
        socket.create_connection((host, int(port)), LIMIT_S).close()
        assert await site.stopped(number) == 0
        printed += (await site.stdout.read()).decode()
    assert site.lines == ["stopped"]
    assert printed.strip() == (commands.folder / "site" / "simulated.toml").read_text("utf-8").strip()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), LIMIT_S)


async def test_simulate_tells_that_it_cannot_write(commands: Commands) -> None:
    (commands.folder / "file").touch()
    ended = await commands.run("simulate", "--directory", "file/site")
    assert (ended.status, ended.stdout) == (1, "")
    assert ended.stderr == "The simulated cluster cannot run: Not a directory (file/site).\n"

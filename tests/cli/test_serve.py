"""`serve` and `worker` as processes: what they refuse, that they renew, and how they stop."""

import asyncio
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from app.settings.callers.scopes import Scope
from app.simulator.faults import Does, ToolFault
from app.simulator.site import Site
from app.store.callers.api_keys import Keys
from app.store.postgres.database import Database
from app.store.postgres.schema import undo_migrations
from tests.cli.command import Commands
from tests.limits import LIMIT_S

FREE_PORT = {"NGT_RENEWAL_PORT": "0"}


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Below /tmp, where PostgreSQL's own user may go when we are root."""
    folder = Path(tempfile.mkdtemp(prefix="ngt-cli-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder / "data"
    shutil.rmtree(folder)


@asynccontextmanager
async def _client(url: str, key: str = "") -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": key}, timeout=LIMIT_S, trust_env=False) as client:
        yield client


async def _new_key(database: Database) -> str:
    return (await Keys(database).create("tests", frozenset(Scope)))[1]


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.02)


async def _done(client: httpx.AsyncClient, job_id: str) -> dict[str, Any]:
    """The job when it is done."""
    while True:
        answer = await client.get(f"/jobs/{job_id}/result")
        assert answer.status_code in {200, 202}, answer.text
        if answer.status_code == 200:
            job: dict[str, Any] = (await client.get(f"/jobs/{job_id}")).json()
            return job
        await asyncio.sleep(0.05)


async def test_it_renews_a_vm_on_its_own_postgresql_and_stops(commands: Commands, site: Site, data_dir: Path) -> None:
    vm = site.vm_named("web01")
    commands.environment["NGT_RENEWAL_DATA_DIR"] = str(data_dir)
    async with commands.running("serve", **FREE_PORT) as service:
        url = await service.url()
        # While the service runs, on the same embedded database.
        made = await commands.run("keys", "create", "--scopes", "renew,jobs:read")
        assert made.status == 0, made.stderr
        async with _client(url, made.stdout.strip()) as client:
            started = await client.post(f"/vms/{vm.uuid}/ngt/renew")
            assert started.status_code == 202, started.text
            job = await _done(client, started.json()["id"])
        assert (job["outcome"], job["verified_by"]) == ("renewed", "guest_certificate")
        assert await service.stopped() == 0
    assert site.state_of(vm.uuid)["renewed"] is True


async def test_http_and_work_can_be_two_processes(on_database: Commands, site: Site, database: Database) -> None:
    vm = site.vm_named("web01")
    async with (
        on_database.running("serve", "--no-worker", **FREE_PORT) as service,
        on_database.running("worker") as worker,
        _client(await service.url(), await _new_key(database)) as client,
    ):
        started = await client.post(f"/vms/{vm.uuid}/ngt/renew")
        job = await _done(client, started.json()["id"])
        assert job["outcome"] == "renewed", job
        assert await service.stopped() == 0
        assert await worker.stopped() == 0
    assert site.state_of(vm.uuid)["renewed"] is True


async def test_a_change_at_work_is_finished_and_stored_before_it_stops(
    on_database: Commands, site: Site, database: Database
) -> None:
    vm = site.vm_named("web01")
    key = await _new_key(database)
    site.order(ToolFault(does=Does.SLOW, sub_command="create_vm_tools_entity", seconds=4))

    async def is_creating() -> bool:
        return bool(site.journal.calls("create_vm_tools_entity", vm_uuid=vm.uuid))

    async with on_database.running("serve", **FREE_PORT) as first, _client(await first.url(), key) as client:

        async def is_not_ready() -> bool:
            return (await client.get("/readyz")).status_code == 503

        job_id = (await client.post(f"/vms/{vm.uuid}/ngt/renew")).json()["id"]
        await _until(is_creating)
        first.process.terminate()
        await _until(is_not_ready)
        refused = await client.get("/readyz")
        assert (refused.status_code, refused.json()["code"]) == (503, "draining")
        assert site.state_of(vm.uuid)["ngt_uuid"] is None, "the change is still at work"
        assert (await client.get(f"/jobs/{job_id}")).json()["done"] is False
        assert await first.ended() == 0
    assert site.state_of(vm.uuid)["ngt_uuid"] is not None
    async with await psycopg.AsyncConnection.connect(database.url) as connection:
        stored = await connection.execute(
            "SELECT step.status FROM step WHERE job_id = %s AND name = 'recreate_entity'", [job_id]
        )
        assert [status async for (status,) in stored] == ["succeeded"]

    async with on_database.running("serve", **FREE_PORT) as second, _client(await second.url(), key) as client:
        assert (await _done(client, job_id))["outcome"] == "renewed"
        assert await second.stopped() == 0
    assert len(site.journal.calls("create_vm_tools_entity", vm_uuid=vm.uuid)) == 1
    assert len(site.journal.calls("delete_vm_tools_entity", vm_uuid=vm.uuid)) == 1


@pytest.mark.parametrize("command", ["serve", "worker"])
async def test_a_database_with_other_tables_is_refused(commands: Commands, database_url: str, command: str) -> None:
    await asyncio.to_thread(undo_migrations, database_url, "-1")
    ended = await commands.run(command, DATABASE_URL=database_url, **FREE_PORT)
    said = "The database does not have this version's tables. Run `ngt-renewal migrate`, then try again.\n"
    assert (ended.status, ended.stdout, ended.stderr) == (1, "", said)


async def test_a_service_without_any_key_is_not_put_on_the_network(on_database: Commands) -> None:
    ended = await on_database.run("serve", NGT_RENEWAL_HOST="0.0.0.0", **FREE_PORT)  # noqa: S104 - it must be refused
    said = "There is no API key, so the service does not listen on 0.0.0.0. Create one with `ngt-renewal keys create"
    assert (ended.status, ended.stdout) == (1, "")
    assert ended.stderr.startswith(said)
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("host", "said"),
    [
        (
            "127.0.0.1",
            "127.0.0.1 port {taken}: Address already in use. Stop what listens there, or set another `port`.",
        ),
        ("192.0.2.1", "192.0.2.1 port {taken}: Cannot assign requested address. Correct `host` and `port`."),
    ],
)
async def test_an_address_that_cannot_be_had_is_told_in_a_sentence(
    on_database: Commands, database: Database, host: str, said: str
) -> None:
    await _new_key(database)
    with socket.create_server(("127.0.0.1", 0)) as taking:
        taken = taking.getsockname()[1]
        ended = await on_database.run("serve", NGT_RENEWAL_HOST=host, NGT_RENEWAL_PORT=str(taken))
    assert (ended.status, ended.stdout) == (1, "")
    assert ended.stderr == f"The service cannot listen on {said.format(taken=taken)}\n"


async def test_all_mistakes_of_a_configuration_are_told_at_once(commands: Commands) -> None:
    commands.configuration.write_text("prot = 8080\n[limits]\nlease_s = -1\n")
    ended = await commands.run("serve", NGT_RENEWAL_HOTS="127.0.0.1")
    assert (ended.status, ended.stdout) == (1, "")
    assert ended.stderr.splitlines() == [
        "The environment variable NGT_RENEWAL_HOTS is not a setting; did you mean NGT_RENEWAL_HOST?",
        "`limits.lease_s` is refused: input should be greater than 0 (it is -1).",
        "`prot` is not a setting; did you mean `port`?",
    ]

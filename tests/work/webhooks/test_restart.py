"""A worker that stops in the middle of deliveries loses none, and whoever comes next repeats them with the same ids."""

import json
import signal
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import text

from app.store.postgres.database import Database
from tests.cli.command import Commands
from tests.work.webhooks.conftest import SIGNING_SECRET, SecretFile
from tests.work.webhooks.http_server import HttpServer
from tests.work.webhooks.receiver import HANG
from tests.work.webhooks.rows import Runner, deliveries
from tests.work.webhooks.samples import target

_JOBS = 7
# So many are sent at once.
_CUT_OFF = 4


@pytest.fixture
def commands(tmp_path: Path, database_url: str, receiver: HttpServer, secret_file: SecretFile) -> Commands:
    """Workers whose one target is the receiver."""
    commands = Commands(tmp_path, {"DATABASE_URL": database_url})
    told = {
        "url": receiver.url,
        "secret_files": [str(secret_file("signing", SIGNING_SECRET))],
        "allow_http": True,
        "allow_networks": ["127.0.0.0/8"],
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in told.items()]
    commands.configuration.write_text("\n".join(["[webhooks.told]", *lines, ""]))
    return commands


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
async def test_what_was_sent_and_not_written_down_is_sent_again_with_the_same_id(
    commands: Commands, database: Database, receiver: HttpServer, stop: signal.Signals
) -> None:
    runner = Runner(database, {"told": target(url=receiver.url)})
    for _ in range(_JOBS):
        await runner.end((await runner.start()).id, "renewed")
    ids = {str(row["id"]) for row in await deliveries(database)}
    receiver.order(*[HANG] * _CUT_OFF)
    async with commands.running("worker") as worker:
        await receiver.wait_for(_CUT_OFF)
        await worker.stopped(stop)
    cut_off = {received.headers["webhook-id"] for received in receiver.received}
    if stop is signal.SIGKILL:
        assert sum(row["lease_until"] is not None for row in await deliveries(database)) == _CUT_OFF
        await _let_the_leases_run_out(database)
    async with commands.running("worker") as worker:
        await receiver.wait_for(_CUT_OFF + _JOBS)
        assert await worker.stopped() == 0
    assert {(row["status"], row["last_http_status"]) for row in await deliveries(database)} == {("delivered", 204)}
    times = Counter(received.headers["webhook-id"] for received in receiver.received)
    assert times == {webhook_id: 1 + (webhook_id in cut_off) for webhook_id in ids}
    for webhook_id in cut_off:
        bodies = {received.body for received in receiver.received if received.headers["webhook-id"] == webhook_id}
        assert len(bodies) == 1


async def _let_the_leases_run_out(database: Database) -> None:
    async with database.transaction() as connection:
        leased = "lease_until IS NOT NULL"
        await connection.execute(text(f"UPDATE delivery SET lease_until = now() - interval '1 s' WHERE {leased}"))  # noqa: S608 - the line above

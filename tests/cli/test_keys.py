from datetime import UTC, datetime, timedelta

import pytest

from app.ngt.errors import Fault, FaultCode
from app.settings.callers.scopes import Scope
from app.store.callers.api_keys import Keys
from app.store.postgres.database import Database
from tests.cli.command import Commands

CLUSTER = '[clusters.c1]\ncvms = ["10.0.0.31"]\nrestart_agent = "manual"\nkey_file = "key"\nknown_hosts = "key"\n'


@pytest.fixture
def with_cluster(on_database: Commands) -> Commands:
    """The configuration has a cluster c1."""
    key = on_database.folder / "key"
    key.touch(mode=0o600)
    on_database.configuration.write_text(CLUSTER)
    return on_database


async def test_a_key_is_shown_once_then_listed_without_its_secret_and_revoked(
    with_cluster: Commands, database: Database
) -> None:
    commands, keys = with_cluster, Keys(database)
    limits = ("--clusters", "c1", "--expires-days", "7")
    made = await commands.run(
        "keys", "create", "--scopes", "renew, jobs:read", "--description", "ServiceNow production", *limits
    )
    assert made.status == 0
    token = made.stdout.strip()
    caller = await keys.verify(token)
    assert (sorted(caller.scopes), sorted(caller.clusters or ())) == ([Scope.JOBS_READ, Scope.RENEW], ["c1"])
    key = next(iter(await keys.list()))
    assert "cannot be shown again" in made.stderr
    assert f"Its id is {key.id}" in made.stderr
    assert key.expires_at is not None
    assert timedelta(days=6) < key.expires_at - datetime.now(UTC) <= timedelta(days=7)

    listed = await commands.run("keys", "list")
    assert listed.status == 0
    assert listed.stdout.split("  ")[:4] == [key.id, "jobs:read,renew", "c1", f"expires {key.expires_at:%Y-%m-%d}"]
    assert listed.stdout.endswith("  ServiceNow production\n")
    assert token.rpartition("_")[2] not in listed.stdout + listed.stderr

    revoked = await commands.run("keys", "revoke", key.id)
    assert (revoked.status, revoked.stdout) == (0, f"{key.id} is revoked.\n")
    with pytest.raises(Fault) as refused:
        await keys.verify(token)
    assert refused.value.code is FaultCode.TOKEN_REVOKED
    assert "  revoked " in (await commands.run("keys", "list")).stdout


async def test_a_key_lives_for_ever_only_when_that_is_said(on_database: Commands, database: Database) -> None:
    made = await on_database.run("keys", "create", "--scopes", "admin", "--never-expires")
    assert (made.status, "never expires" in made.stderr) == (0, True)
    (key,) = await Keys(database).list()
    assert (key.expires_at, key.clusters) == (None, None)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (
            ("create", "--scopes", "renew,jobs:write"),
            1,
            "'jobs:write' is not a scope; the scopes are vms:read, ",
        ),
        (("create", "--scopes", ","), 1, "No scope is given; the scopes are vms:read, "),
        (
            ("create", "--scopes", "renew", "--clusters", "c2"),
            1,
            "The cluster 'c2' is not configured; the clusters are: c1.",
        ),
        (("create", "--scopes", "renew", "--expires-days", "0"), 2, "'--expires-days'"),
        (("create",), 2, "Missing option '--scopes'"),
        (("revoke", "nobody"), 1, "There is no active key 'nobody'; `ngt-renewal keys list` shows all keys."),
    ],
)
async def test_a_wrong_key_command_is_refused_and_stores_nothing(
    with_cluster: Commands, database: Database, arguments: tuple[str, ...], status: int, said: str
) -> None:
    ended = await with_cluster.run("keys", *arguments)
    assert (ended.status, ended.stdout) == (status, "")
    assert said in ended.stderr
    assert await Keys(database).list() == ()


async def test_keys_need_the_tables_of_this_version(commands: Commands, empty_database_url: str) -> None:
    ended = await commands.run("keys", "list", DATABASE_URL=empty_database_url)
    assert (ended.status, ended.stdout) == (1, "")
    assert ended.stderr.endswith("Run `ngt-renewal migrate`, then try again.\n")

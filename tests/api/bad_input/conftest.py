"""One service for each file of tests: a refused request changes nothing, so the next test may have the same one."""

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import httpx
import psycopg
import pytest
import pytest_asyncio
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier

from app.main import build_app
from app.settings import Callers, ClusterSettings, Settings
from app.settings.callers.scopes import Scope
from app.store.callers.api_keys import Keys
from app.store.postgres.database import Database
from tests.api.bad_input.service import Service

_DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def service_url(postgres_url: str, _migrated: str) -> Iterator[str]:
    """A new database at the newest revision."""
    name = f"ngt_{uuid4().hex[:12]}"
    template = str(conninfo_to_dict(_migrated)["dbname"])
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(name), Identifier(template)))
        try:
            server = conninfo_to_dict(make_conninfo(postgres_url))
            query = "&".join(f"{key}={quote(str(value), safe='')}" for key, value in server.items() if key != "dbname")
            yield f"postgresql:///{name}?{query}"
        finally:
            admin.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(service_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    database = Database(service_url)
    tokens = await _make_keys(Keys(database))
    await database.close()
    with psycopg.connect(service_url) as connection:
        connection.execute("UPDATE api_key SET expires_at = now() - interval '1 s' WHERE description = 'expired'")
    app = build_app(_settings(tmp_path_factory.mktemp("service")), service_url)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://service") as client,
    ):
        yield Service(client, service_url, tokens)


async def _make_keys(keys: Keys) -> dict[str, str]:
    everything = frozenset(Scope)
    wanted: dict[str, tuple[frozenset[Scope], frozenset[str] | None]] = {
        "all": (everything, None),
        "c1": (everything, frozenset({"c1"})),
        "c2": (everything, frozenset({"c2"})),
        "renew": (frozenset({Scope.RENEW}), None),
        "no renew": (everything - {Scope.RENEW}, None),
        "jobs:read": (frozenset({Scope.JOBS_READ}), None),
        "expired": (everything, None),
        "revoked": (everything, None),
    }
    tokens = {}
    for name, (scopes, clusters) in wanted.items():
        record, tokens[name] = await keys.create(name, scopes, clusters, _DAY)
        if name == "revoked":
            assert await keys.revoke(record.id)
    of_all, _, _ = tokens["all"].rpartition("_")
    _, _, secret_of_c1 = tokens["c1"].rpartition("_")
    tokens["wrong secret"] = f"{of_all}_{secret_of_c1}"
    tokens["unknown"] = f"ngtr_00000000_{'0' * 46}"
    tokens["password"] = "password"
    return tokens


def _settings(folder: Path) -> Settings:
    def cluster(restart_agent: str) -> ClusterSettings:
        return ClusterSettings.model_validate(
            {
                # Nothing listens there; and nobody asks, since no request waits for SSH.
                "cvms": ["127.0.0.1:1"],
                "key_file": folder / "key",
                "known_hosts": folder / "known_hosts",
                "restart_agent": restart_agent,
            }
        )

    clusters = {"c1": cluster("manual"), "c2": cluster("manual"), "no-guests": cluster("ssh")}
    # Nobody is locked out here who tries one bad credential after the other.
    return Settings(data_dir=folder, clusters=clusters, callers=Callers(failed_logins_per_minute=0))

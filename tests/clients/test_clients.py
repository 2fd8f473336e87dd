"""Each generated client renews a VM through the running service, as the scenario says."""

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from app.settings.callers.scopes import Scope
from app.simulator.site import Site
from app.simulator.spec import ClusterSpec, SiteSpec, VmSpec
from app.store.callers.api_keys import Keys
from app.store.postgres.database import Database
from tests.cli.command import Commands
from tests.clients.build import BUILT, ROOT, Built, build
from tests.clients.clients import CLIENTS, Client
from tests.clients.page import PAGE, operations, page
from tests.clients.scenario import UNKNOWN_JOB, Json, expected
from tests.limits import LIMIT_S
from tests.work.service import write_configuration

# The agent of busy01 is restarted by a person, so its job stays open.
SITE = SiteSpec((ClusterSpec("c1", 1, (VmSpec("web01"),)), ClusterSpec("c2", 1, (VmSpec("busy01"),))))
BY_A_PERSON = {"c2": {"restart_agent": "manual"}}
# Members that no program reads, as if the document had come before them.
ADDED_LATER = (
    ("Job", "caller"),
    ("Job", "validate_only"),
    ("Step", "attempt"),
    ("JobEvent", "message"),
    ("Problem", "action"),
)


@dataclass(frozen=True, slots=True)
class Served:
    """A running service, and a key for it."""

    site: Site
    url: str
    key: str

    def uuid_of(self, vm_name: str) -> str:
        return self.site.vm_named(vm_name).uuid

    async def items(self, path: str, **query: str) -> list[Json]:
        """What the service itself lists."""
        headers = {"X-API-Key": self.key}
        async with httpx.AsyncClient(base_url=self.url, headers=headers, timeout=LIMIT_S, trust_env=False) as client:
            answer = await client.get(path, params=query)
        items: list[Json] = answer.json()["items"]
        return items


@pytest_asyncio.fixture
async def served(tmp_path: Path, database: Database, database_url: str) -> AsyncIterator[Served]:
    commands = Commands(tmp_path, {"DATABASE_URL": database_url, "NGT_RENEWAL_PORT": "0"})
    _, key = await Keys(database).create("clients", frozenset({Scope.RENEW, Scope.JOBS_READ}))
    async with Site.running(SITE, tmp_path / "site") as site:
        write_configuration(site, commands.configuration, {}, clusters=BY_A_PERSON)
        async with commands.running("serve") as service:
            yield Served(site, await service.url(), key)
            assert await service.stopped() == 0


def _marks(client: Client) -> tuple[pytest.MarkDecorator, ...]:
    return () if client.in_make_test else (pytest.mark.every_client,)


# Generating and compiling takes a while where much else runs.
@pytest.mark.timeout(600)
@pytest.mark.parametrize("client", [pytest.param(client, marks=_marks(client), id=client.name) for client in CLIENTS])
async def test_a_generated_client_renews_and_reads_refusals(client: Client, served: Served) -> None:
    built = await build(client, ROOT / client.document)
    source = built.source()
    assert [name for name in operations(client.document) if not _is_made(name, source)] == []
    await _assert_renews(built, served)


@pytest.mark.every_client
@pytest.mark.timeout(600)
@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
async def test_a_client_of_an_older_document_reads_members_that_are_new(
    client: Client, served: Served, tmp_path: Path
) -> None:
    document = json.loads((ROOT / client.document).read_text("utf-8"))
    for schema, member in ADDED_LATER:
        described = document["components"]["schemas"][schema]
        del described["properties"][member]
        described["required"] = [name for name in described["required"] if name != member]
    older = tmp_path / "openapi.json"
    older.write_text(json.dumps(document), "utf-8")
    await _assert_renews(await build(client, older, BUILT / "older"), served)


async def _assert_renews(built: Built, served: Served) -> None:
    name = built.client.name
    said = await built.run(
        NGT_URL=served.url,
        NGT_KEY=served.key,
        VM=served.uuid_of("web01"),
        BUSY_VM=served.uuid_of("busy01"),
        UNKNOWN_JOB=UNKNOWN_JOB,
        IDEMPOTENCY_KEY=f"renewal-with-{name}",
        CORRELATION_ID=name,
    )
    [job] = await served.items("/jobs", vm_uuid=served.uuid_of("web01"))
    [open_job] = await served.items("/jobs", vm_uuid=served.uuid_of("busy01"))
    assert said == expected(job, await served.items(f"/jobs/{job['id']}/events"), open_job["id"])
    assert job["correlation_id"] == name


def _is_made(operation: str, source: str) -> bool:
    """Whether the generated code has the operation, in the spelling of its language."""
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operation).lower()
    return re.search(rf"\b(?:{operation}|{snake})(?:_detailed)?\b", source, re.IGNORECASE) is not None


def test_the_page_of_clients_is_fresh() -> None:
    assert PAGE.read_text("utf-8") == page(), "run `make docs`"

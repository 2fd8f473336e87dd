"""The whole API on a database of its own, called over HTTP, with a key for each kind of caller."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
import pytest_asyncio
from fastapi import FastAPI
from sqlalchemy import func, select

from app.api.http.dependencies import Services
from app.main import build_app
from app.settings import ClusterSettings, GuestSettings, Settings
from app.settings.callers.scopes import Scope
from app.store.jobs.updates import update_job
from app.store.postgres.tables import IDEMPOTENCY, JOB
from app.store.postgres.tables import VM as VM_TABLE
from app.store.records.jobs import JobStatus
from tests.limits import LIMIT_S

VM = "20edafba-1b5c-4a7e-8d1f-0b6f6a9d2c11"
RENEW = f"/vms/{VM}/ngt/renew"
EVERYTHING = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class Service:
    """The API and the services that it works with."""

    app: FastAPI
    services: Services

    async def key(self, *scopes: Scope, clusters: frozenset[str] | None = None, expires_s: float | None = None) -> str:
        """A new token; without scopes it has none."""
        lifetime = None if expires_s is None else timedelta(seconds=expires_s)
        _, token = await self.services.store.keys.create("a test", frozenset(scopes), clusters, lifetime)
        return token

    def client(self, token: str | None = None, **headers: str) -> httpx.AsyncClient:
        if token is not None:
            headers["X-API-Key"] = token
        transport = httpx.ASGITransport(app=self.app)
        return httpx.AsyncClient(transport=transport, base_url="http://ngt-renewal.test", headers=headers)

    async def stored(self) -> tuple[int, int]:
        """How many jobs and idempotency keys there are."""
        async with self.services.store.database.transaction() as connection:
            jobs = await connection.scalar(select(func.count()).select_from(JOB))
            keys = await connection.scalar(select(func.count()).select_from(IDEMPOTENCY))
        return jobs or 0, keys or 0

    async def stored_request(self, job_id: str) -> dict[str, Any]:
        async with self.services.store.database.transaction() as connection:
            job = (await connection.execute(select(JOB).where(JOB.c.id == UUID(job_id)))).mappings().one()
        return dict(job["request"])

    @asynccontextmanager
    async def announced(self) -> AsyncIterator[Callable[[], Awaitable[str]]]:
        """To wait for the id of the next job that changes."""
        async with await psycopg.AsyncConnection.connect(
            self.services.store.database.url, autocommit=True
        ) as connection:
            await connection.execute("LISTEN ngt_job")

            async def next_id() -> str:
                heard = [notify.payload async for notify in connection.notifies(timeout=LIMIT_S, stop_after=1)]
                return heard[0]

            yield next_id

    async def saw(self, vm_uuid: str, cluster: str) -> None:
        """The watch saw the VM there."""
        async with self.services.store.database.transaction() as connection:
            await connection.execute(VM_TABLE.insert().values(vm_uuid=vm_uuid, cluster=cluster, observed_at=func.now()))

    async def end(self, job_id: str, **columns: object) -> None:
        """Have the job as a worker leaves it when the renewal was proved."""
        ended: dict[str, object] = {
            "status": JobStatus.SUCCEEDED,
            "done": True,
            "outcome": "renewed",
            "message": "certificate renewed",
            "progress_percent": 100,
            "due_at": None,
            "finished_at": func.now(),
        }
        await self.leave(job_id, **(ended | columns))

    async def leave(self, job_id: str, **columns: object) -> None:
        """Have the job as a worker would have left it."""
        async with self.services.store.database.transaction() as connection:
            await connection.execute(update_job(UUID(job_id), **columns))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Cluster c1 has SSH access to guests; on c2 and c3 a person restarts the agents."""
    key_file = tmp_path / "key"
    guest = GuestSettings(addresses=("10.1.0.0/16",), username="ngt", key_file=key_file, known_hosts=key_file)  # type: ignore[arg-type, call-arg]  # a validator fills them in

    def cluster(cvm: str, **more: object) -> ClusterSettings:
        given: dict[str, Any] = {"cvms": (cvm,), "key_file": key_file, "known_hosts": key_file, **more}
        return ClusterSettings(**given)

    return Settings(
        data_dir=tmp_path,
        clusters={
            "c1": cluster("10.0.0.31", guests=(guest,)),
            "c2": cluster("10.0.0.32", restart_agent="manual"),
            "c3": cluster("10.0.0.33", restart_agent="manual"),
        },
    )


@asynccontextmanager
async def serving(settings: Settings, database_url: str) -> AsyncIterator[Service]:
    app = build_app(settings, database_url)
    async with app.router.lifespan_context(app):
        yield Service(app, app.state.services)


@pytest_asyncio.fixture
async def service(settings: Settings, database_url: str) -> AsyncIterator[Service]:
    async with serving(settings, database_url) as running:
        yield running


@pytest_asyncio.fixture
async def caller(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    """One who may do everything on every cluster."""
    async with service.client(await service.key(*EVERYTHING)) as client:
        yield client


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The answer is this problem, whole."""
    assert (answer.status_code, answer.json().get("code")) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["type"] == f"urn:problem:ngt-renewal:{code}"
    assert problem["status"] == status
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert {"title", "instance", "retryable", "action"} <= problem.keys()
    assert None not in problem.values()
    return problem

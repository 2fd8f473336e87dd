"""The store's own objects on the test's database, and a way to leave a job as a worker would have left it."""

from typing import Any, Protocol
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from app.ngt.renewal.request import RenewalRequest
from app.ngt.vocabulary import VmUuid
from app.settings.callers.scopes import Scope
from app.store.callers.api_keys import Keys
from app.store.clusters.pause import Clusters
from app.store.jobs.commands import Jobs
from app.store.jobs.progress_json import dump_request
from app.store.postgres.database import Database
from app.store.postgres.queue import WakeUps, queue_app
from app.store.postgres.tables import JOB
from app.store.records.callers import Caller
from app.store.records.jobs import NewRenewal

ANN = Caller("ann00001", "ann", frozenset(Scope), None)
BEN = Caller("ben00001", "ben", frozenset(Scope), frozenset({"c1"}))


class Leave(Protocol):
    async def __call__(self, job_id: UUID, **columns: object) -> None: ...


def new_vm() -> VmUuid:
    return VmUuid(str(uuid4()))


def renewal(vm_uuid: VmUuid | None = None, *, validate_only: bool = False, **more: object) -> NewRenewal:
    values: dict[str, Any] = {
        "vm_uuid": vm_uuid or new_vm(),
        "cluster": "c1",
        "request": dump_request(RenewalRequest(validate_only=validate_only)),
        "asked": {},
        "validate_only": validate_only,
        "fail_on_conflict": False,
        "caller": ANN,
    }
    return NewRenewal(**(values | more))


@pytest.fixture
def wakeups(database_url: str) -> WakeUps:
    return WakeUps(queue_app(database_url))


@pytest.fixture
def jobs(database: Database, wakeups: WakeUps) -> Jobs:
    return Jobs(database, wakeups)


@pytest.fixture
def keys(database: Database) -> Keys:
    return Keys(database)


@pytest_asyncio.fixture
async def clusters(database: Database) -> Clusters:
    known = Clusters(database)
    await known.ensure(["c1", "c2"])
    return known


@pytest.fixture
def leave(database: Database) -> Leave:
    async def leave_job(job_id: UUID, **columns: object) -> None:
        async with database.transaction() as connection:
            await connection.execute(JOB.update().where(JOB.c.id == job_id).values(**columns))

    return leave_job

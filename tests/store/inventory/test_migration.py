"""What the version before the inventory left behind is still known after its database was migrated."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import dict_row

from app.ngt.renewal.progress import EntityStage, FoundVm, Progress, WaitReason
from app.ngt.renewal.request import RenewalRequest
from app.ngt.vocabulary import PowerState, VmUuid
from app.store.jobs.claims import JobClaims
from app.store.jobs.progress_json import dump_progress
from app.store.postgres.database import Database
from app.store.postgres.queue import WakeUps, queue_app
from app.store.postgres.schema import migrate
from tests.store.conftest import new_vm

RENEWED = datetime(2026, 5, 1, 12, tzinfo=UTC)
ENDS = RENEWED + timedelta(days=1000)
NEW = {"new_not_before": RENEWED.isoformat(), "new_not_after": ENDS.isoformat(), "new_serial": "2f"}
_JOB: LiteralString = """
INSERT INTO job (id, vm_uuid, cluster, status, done, outcome, message, progress_percent, attempt, results, request,
  asked, caller_id, caller, progress, version, fence, takes_slot, look_now, validate_only, wait_reason, due_at,
  finished_at)
VALUES (%(id)s, %(vm)s, 'c1', %(status)s, %(done)s, %(outcome)s, '', 100, 1, %(results)s, '{}', '{}', 'ann00001',
  'ann', %(progress)s, 1, 0, false, false, false, %(wait_reason)s, now(), %(finished_at)s)
"""
_VM: LiteralString = """
INSERT INTO vm (vm_uuid, cluster, renewed_at, not_after, awaiting_pickup_since, last_job_id)
VALUES (%(vm)s, 'c1', %(renewed_at)s, %(not_after)s, %(awaiting)s, %(job)s)
"""


class Earlier:
    """A database of the revision before, and what a service left in it."""

    def __init__(self, url: str) -> None:
        self.url = url
        migrate(url, "callers")
        self.connection = psycopg.connect(url, autocommit=True, row_factory=dict_row)

    def job(self, vm: VmUuid, *, progress: Progress | None = None, **columns: Any) -> UUID:
        ended = {"status": "succeeded", "done": True, "outcome": "renewed", "results": {}, "wait_reason": None}
        values = {"id": uuid4(), "vm": vm, "finished_at": RENEWED, **ended, **columns}
        known = dump_progress(progress or Progress(vm, RenewalRequest()))
        # What that version did not know of.
        known.pop("pushed")
        values |= {"results": json.dumps(values["results"]), "progress": json.dumps(known)}
        self.connection.execute(_JOB, values)
        return values["id"]  # type: ignore[no-any-return]

    def vm(self, vm: VmUuid, **columns: Any) -> None:
        renewed: dict[str, Any] = {"renewed_at": RENEWED, "not_after": ENDS, "awaiting": None, "job": None}
        self.connection.execute(_VM, {"vm": vm, **renewed, **columns})

    def migrated(self, vm: VmUuid) -> dict[str, Any]:
        migrate(self.url)
        found = self.connection.execute("SELECT * FROM vm WHERE vm_uuid = %s", [vm]).fetchone()
        assert found is not None
        return found


@pytest.fixture
def earlier(empty_database_url: str) -> Iterator[Earlier]:
    database = Earlier(empty_database_url)
    yield database
    database.connection.close()


@pytest.mark.parametrize("source", ["guest_certificate", "cvm_expiry_date"])
def test_what_proved_a_renewal_is_an_observation_of_then(earlier: Earlier, source: str) -> None:
    vm = new_vm()
    earlier.vm(vm, job=earlier.job(vm, results={"verified_by": source, **NEW}))
    row = earlier.migrated(vm)
    assert (row["certificate_source"], row["certificate_observed_at"]) == (source, RENEWED)
    assert (row["not_before"], row["not_after"], row["serial"]) == (RENEWED, ENDS, "2f")
    assert (row["addresses"], row["vanished_at"]) == ([], None)


def test_a_date_stays_known_although_a_later_job_came_to_nothing(earlier: Earlier) -> None:
    vm = new_vm()
    earlier.job(vm, results={"verified_by": "cvm_expiry_date", **NEW})
    later = RENEWED + timedelta(days=100)
    failed = earlier.job(vm, status="failed", outcome="failed", results={"verified_by": None}, finished_at=later)
    earlier.vm(vm, job=failed, awaiting=later)
    row = earlier.migrated(vm)
    assert (row["certificate_source"], row["not_after"]) == ("cvm_expiry_date", ENDS)
    assert row["awaiting_pickup_since"] == later


def test_a_date_stays_known_although_its_job_was_removed(earlier: Earlier) -> None:
    """As one that nobody vouches for: nothing is left alone for it, and it is warned of in time."""
    vm = new_vm()
    earlier.vm(vm, job=uuid4())
    row = earlier.migrated(vm)
    assert (row["certificate_source"], row["not_after"], row["serial"]) == ("computed", ENDS, None)


def test_a_vm_without_a_renewal_has_no_date(earlier: Earlier) -> None:
    vm = new_vm()
    earlier.vm(vm, job=earlier.job(vm, outcome="failed", status="failed"), renewed_at=None, not_after=None)
    row = earlier.migrated(vm)
    assert (row["certificate_source"], row["not_after"]) == (None, None)


async def test_an_open_job_goes_on_where_it_was(earlier: Earlier) -> None:
    vm = new_vm()
    known = replace(
        Progress(vm, RenewalRequest(), "c1", FoundVm("web01", PowerState.ON, (), None)),
        entity=EntityStage.ISSUED, issued_at=RENEWED, mounted_at=RENEWED,
    )  # fmt: skip
    waits = {"status": "waiting", "done": False, "outcome": None, "wait_reason": WaitReason.AGENT_RESTART}
    job = earlier.job(vm, progress=known, finished_at=None, **waits)
    earlier.vm(vm, job=job, renewed_at=None, not_after=None, awaiting=RENEWED)
    assert earlier.migrated(vm)["awaiting_pickup_since"] == RENEWED
    database = Database(earlier.url)
    claim = await JobClaims(database, WakeUps(queue_app(earlier.url)), runner="new", lease_s=60).claim(job, {})
    await database.close()
    assert claim is not None
    assert (claim.progress, claim.pushed) == (known, None)

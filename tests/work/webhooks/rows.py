"""What stands in the outbox, and a job that is driven through its states without any cluster."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import select

from app.settings import WebhookTarget
from app.store.jobs.claims import JobClaims
from app.store.jobs.commands import Jobs
from app.store.postgres.database import Database
from app.store.postgres.queue import WakeUps, queue_app
from app.store.postgres.tables import DELIVERY
from app.store.records.claims import Claim, Outcome, ProgressColumns, Release
from app.store.records.jobs import Callback, JobRecord, StartedRenewal
from app.store.webhooks.outbox import Outbox
from tests.store.conftest import renewal

Row = dict[str, Any]


async def deliveries(database: Database) -> list[Row]:
    """All rows, oldest first."""
    async with database.transaction() as connection:
        rows = await connection.execute(select(DELIVERY).order_by(DELIVERY.c.created_at, DELIVERY.c.id))
        return [dict(row) for row in rows.mappings()]


async def told(database: Database) -> list[tuple[str, str]]:
    """(target, event) of all rows, sorted."""
    return sorted((row["target"], row["event"]) for row in await deliveries(database))


async def change_deliveries(database: Database, **columns: object) -> None:
    """Have all rows as they would be at another time."""
    async with database.transaction() as connection:
        await connection.execute(DELIVERY.update().values(**columns))


@dataclass(slots=True)
class Runner:
    """Starts jobs and drives them as a worker does."""

    database: Database
    targets: Mapping[str, WebhookTarget]
    jobs: Jobs = field(init=False)
    running: JobClaims = field(init=False)

    def __post_init__(self) -> None:
        wakeups, outbox = WakeUps(queue_app(self.database.url)), Outbox(self.targets)
        self.jobs = Jobs(self.database, wakeups, outbox)
        self.running = JobClaims(self.database, wakeups, runner="a worker", lease_s=60, outbox=outbox)

    async def start(self, *callback: str | None, **more: object) -> JobRecord:
        """A new job; `callback` is the name of a target, and perhaps its record."""
        return (await self.ask(*callback, **more)).job

    async def ask(self, *callback: str | None, **more: object) -> StartedRenewal:
        target, record = (*callback, None, None)[:2]
        named = None if target is None else Callback(target, record)
        return await self.jobs.start_renewal(renewal(callback=named, **more))  # type: ignore[arg-type]  # rows of a table

    async def claim(self, job_id: UUID) -> Claim:
        claim = await self.running.claim(job_id, {})
        assert claim is not None
        return claim

    async def wait(self, job_id: UUID, reason: str | None, *, stranded: bool = False) -> None:
        """The job is taken up, looks, and waits for that."""
        claim = await self.claim(job_id)
        back = Release("waiting" if reason else "queued", reason, f"waits: {reason}", until=claim.now, deadline=None)
        await self.running.release(claim, state(claim, stranded=stranded), back, None)
        self.running.stop_heartbeat(claim)

    async def end(self, job_id: UUID, outcome: str, **more: object) -> None:
        """The job is taken up and ends so."""
        await self.finish(await self.claim(job_id), outcome, **more)

    async def finish(self, claim: Claim, outcome: str, **more: object) -> None:
        await self.running.finish(claim, state(claim), ended(outcome, **more), None)
        self.running.stop_heartbeat(claim)


def state(claim: Claim, *, stranded: bool = False) -> ProgressColumns:
    results = {"old_not_after": "2026-12-01T00:00:00Z", "verified_by": "guest_certificate"}
    return ProgressColumns(claim.progress, results, takes_slot=False, stranded=stranded, awaits_pickup=False)


_STATUS = {"already_valid": "skipped", "failed": "failed"}


def ended(outcome: str, **more: object) -> Outcome:
    failed = outcome == "failed"
    values: dict[str, Any] = {
        "status": _STATUS.get(outcome, "succeeded"),
        "outcome": outcome,
        "message": f"it ended {outcome}",
        "error_code": "cvm-unreachable" if failed else None,
        "error_message": "no CVM answered" if failed else None,
        "remaining_action": None,
        "proven": None,
        "pause_after_unproven": 5,
    }
    return Outcome(**(values | more))

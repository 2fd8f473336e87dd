"""The outbox: deliveries are written in the transaction of their event, or not at all.

A delivery holds the facts at the time of its event; its sender needs nothing else of the database.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection
from uuid_utils.compat import uuid7

from app.events import AutoRenewStoppedFacts, EventType, RenewalEventType, RenewalFacts, ServiceEventType
from app.field_types import from_record
from app.ngt.errors import RULES, Fault, FaultCode
from app.ngt.renewal.progress import PERSON_WAITS, WaitReason
from app.settings.webhooks import WebhookTarget
from app.store.postgres.tables import DELIVERY, JOB
from app.store.records.claims import AutoStop
from app.store.records.jobs import Callback, JobRecord, NewRenewal
from app.store.records.rows import job_record
from app.store.records.webhooks import DeliveryStatus

INSERT_DELIVERY = DELIVERY.insert().values(
    status=DeliveryStatus.PENDING,
    # Not the transaction's own time, which may be earlier than that of the event before.
    created_at=func.clock_timestamp(),
    due_at=func.clock_timestamp(),
)
"""Writes rows of `delivery_row`, to be sent at once."""

MOST_CALLBACKS = 100
"""So many requests with a callback of their own may lead to one job."""

_EVENT_OF_OUTCOME = {
    "renewed": RenewalEventType.SUCCEEDED,
    "unverified": RenewalEventType.UNVERIFIED,
    "already_valid": RenewalEventType.SKIPPED,
    "failed": RenewalEventType.FAILED,
    "cancelled": RenewalEventType.CANCELLED,
}
_STRANDED = (
    "The VM's tools entity was deleted and is not known to be there again, so NGT may be off for it; "
    "the service goes on until the entity is there."
)
# A job that waits for a person may look, meet other trouble, and wait for the same person again: that begins nothing.
# Only once the agent was restarted, the next wait for a person is another one.
_ENDS_THE_WAIT = frozenset({WaitReason.PICKUP})
_WAITED_FOR = text("""
SELECT e.wait_reason FROM job_event e JOIN job ON job.id = e.job_id
WHERE e.job_id = :id AND e.version < job.version AND e.attempt = job.attempt
  AND e.status = 'waiting' AND e.wait_reason = ANY(:reasons)
ORDER BY e.version DESC LIMIT 1
""")


@dataclass(frozen=True, slots=True)
class Outbox:
    """Writes deliveries for the configured targets, by name. Without targets nothing is written or read."""

    targets: Mapping[str, WebhookTarget] = field(default_factory=dict)

    async def write_end(self, connection: AsyncConnection, job_id: UUID, outcome: str) -> None:
        """Writes the event of an ended job. A plan has none."""
        if (event := _EVENT_OF_OUTCOME.get(outcome)) is not None:
            await self._tell(connection, job_id, event)

    async def write_stranding(self, connection: AsyncConnection, job_id: UUID) -> None:
        """The job's VM has just become stranded."""
        await self._tell(connection, job_id, RenewalEventType.STRANDED)

    async def write_wait(self, connection: AsyncConnection, job_id: UUID, reason: str | None) -> None:
        """Writes the event of a wait for a person, once, when it begins."""
        if reason not in PERSON_WAITS or not self.targets:
            return
        reasons = sorted(PERSON_WAITS | _ENDS_THE_WAIT)
        if await connection.scalar(_WAITED_FOR, {"id": job_id, "reasons": reasons}) != reason:
            await self._tell(connection, job_id, RenewalEventType.ACTION_REQUIRED)

    async def write_cluster_events(
        self, connection: AsyncConnection, cluster: str, happened: Sequence[tuple[EventType, dict[str, Any]]]
    ) -> None:
        """Writes events of a cluster for every target that wants them, in this order."""
        rows = [
            delivery_row(name, event, facts, cluster=cluster)
            for event, facts in happened
            for name in self._standing(event, cluster)
        ]
        if rows:
            await connection.execute(INSERT_DELIVERY, rows)

    async def write_auto_stop(self, connection: AsyncConnection, job_id: UUID, stop: AutoStop) -> None:
        """The automatic renewals of a cluster have just been stopped, by the end of that job."""
        if not self.targets:
            return
        row = (await connection.execute(select(JOB).where(JOB.c.id == job_id))).mappings().one()
        facts = _auto_stop_facts(job_record(row), stop)
        await self.write_cluster_events(connection, stop.cluster, [(ServiceEventType.AUTO_RENEW_STOPPED, facts)])

    async def _tell(self, connection: AsyncConnection, job_id: UUID, event: EventType) -> None:
        if not self.targets:
            return
        row = (await connection.execute(select(JOB).where(JOB.c.id == job_id))).mappings().one()
        job = job_record(row)
        if job.validate_only:
            return
        facts = renewal_facts(job, _STRANDED if event is RenewalEventType.STRANDED else job.message)
        rows = [
            delivery_row(
                callback.target, event, facts | own, job_id=job.id, cluster=job.cluster, record=callback.record
            )
            for callback, own in self._receivers(job, row["callback"] or [], event)
        ]
        if rows:
            await connection.execute(INSERT_DELIVERY, rows)

    def _receivers(
        self, job: JobRecord, callbacks: list[dict[str, Any]], event: EventType
    ) -> Iterator[tuple[Callback, dict[str, Any]]]:
        """The receivers, each with the facts of its own request. A target of a callback receives the event once."""
        called: dict[Callback, dict[str, Any]] = {}
        for stored in callbacks:
            if stored["target"] in self.targets:
                called.setdefault(Callback(stored["target"], stored.get("record")), stored.get("facts", {}))
        yield from called.items()
        named = {callback.target for callback in called}
        for name in self._standing(event, job.cluster):
            if name not in named:
                yield Callback(name, None), {}

    def _standing(self, event: EventType, cluster: str | None) -> Iterator[str]:
        for name, target in self.targets.items():
            if not target.callback_only and target.wants(event, cluster):
                yield name


NO_WEBHOOKS = Outbox()


def stored_callback(new: NewRenewal) -> dict[str, Any] | None:
    """As it stands in the list `job.callback`: with what the request said of itself, which its receiver knows it by."""
    if new.callback is None:
        return None
    own = {"correlation_id": new.correlation_id, "change_number": new.change_number}
    stored = {"target": new.callback.target, "facts": {name: fact for name, fact in own.items() if fact is not None}}
    return stored if new.callback.record is None else {**stored, "record": new.callback.record}


async def add_callback(connection: AsyncConnection, job: RowMapping, new: NewRenewal) -> None:
    """The request joins the job, whose row is locked: so it does not end before it knows whom to tell.

    Raises Fault `callback-not-allowed` when the job has `MOST_CALLBACKS` already.
    """
    callback, present = stored_callback(new), job["callback"] or []
    if callback is None or callback in present:
        return
    if len(present) >= MOST_CALLBACKS:
        message = f"Job {job['id']}, which does the same, has {MOST_CALLBACKS} callbacks already."
        raise Fault(FaultCode.CALLBACK_NOT_ALLOWED, message)
    await connection.execute(JOB.update().where(JOB.c.id == job["id"]).values(callback=[*present, callback]))


def delivery_row(
    target: str,
    event: EventType,
    facts: dict[str, Any],
    *,
    job_id: UUID | None = None,
    cluster: str | None = None,
    record: str | None = None,
) -> dict[str, Any]:
    """The values for `INSERT_DELIVERY`."""
    return {
        "id": uuid7(),
        "target": target,
        "event": event,
        "job_id": job_id,
        "cluster": cluster,
        "record": record,
        "facts": facts,
    }


def renewal_facts(job: JobRecord, message: str) -> dict[str, Any]:
    """The `data` of an event of the job as it is now."""
    rule = RULES[FaultCode(job.error_code)] if job.error_code in RULES else None
    results = job.results
    facts = from_record(
        RenewalFacts,
        job,
        job_id=job.id,
        message=message,
        error_action=None if rule is None else rule.addressed_action(),
        old_not_after=results.old_not_after,
        new_not_after=results.new_not_after,
        verified_by=results.verified_by,
        automatic=job.automatic_rule is not None,
        link=f"/jobs/{job.id}",
    )
    return facts.model_dump(mode="json")


def _auto_stop_facts(job: JobRecord, stop: AutoStop) -> dict[str, Any]:
    """The stop, and the job that failed last."""
    rule = RULES[FaultCode(job.error_code)] if job.error_code in RULES else None
    facts = from_record(
        AutoRenewStoppedFacts,
        job,
        cluster=stop.cluster,
        message=f"No more automatic renewals begin on {stop.cluster}: {stop.reason}",
        action=f"Fix the cause, then POST /clusters/{stop.cluster}/auto-renew/resume.",
        failures_in_a_row=stop.failures_in_a_row,
        stopped_at=stop.stopped_at,
        job_id=job.id,
        error_action=None if rule is None else rule.addressed_action(),
        link=f"/clusters/{stop.cluster}/auto-renew/plan",
    )
    return facts.model_dump(mode="json")

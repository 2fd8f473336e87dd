"""The outbox: what webhooks will tell is written in the transaction that makes it so, or not at all.

A delivery holds the facts as they were at its event; whoever sends it needs nothing else of the database.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection
from uuid_utils.compat import uuid7

from app.ngt.errors import RULES, Fault, FaultCode
from app.ngt.renewal.progress import PERSON_WAITS, WaitReason
from app.settings.webhooks import Event, WebhookTarget
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
    "renewed": Event.SUCCEEDED,
    "unverified": Event.UNVERIFIED,
    "already_valid": Event.SKIPPED,
    "failed": Event.FAILED,
    "cancelled": Event.CANCELLED,
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
# With every character written as \uXXXX a body of these stays below 20 kB.
_MOST_CHARACTERS = 600


@dataclass(frozen=True, slots=True)
class Outbox:
    """Writes deliveries for the configured targets, by name. Without targets nothing is written or read."""

    targets: Mapping[str, WebhookTarget] = field(default_factory=dict)

    async def tell_of_end(self, connection: AsyncConnection, job_id: UUID, outcome: str) -> None:
        """The job has just ended so. Of a plan nobody is told."""
        if (event := _EVENT_OF_OUTCOME.get(outcome)) is not None:
            await self._tell(connection, job_id, event)

    async def tell_of_stranding(self, connection: AsyncConnection, job_id: UUID) -> None:
        """The job's VM has just become stranded."""
        await self._tell(connection, job_id, Event.STRANDED)

    async def tell_of_wait(self, connection: AsyncConnection, job_id: UUID, reason: str | None) -> None:
        """The job has just been put back; a wait for a person is told once, when it begins."""
        if reason not in PERSON_WAITS or not self.targets:
            return
        reasons = sorted(PERSON_WAITS | _ENDS_THE_WAIT)
        if await connection.scalar(_WAITED_FOR, {"id": job_id, "reasons": reasons}) != reason:
            await self._tell(connection, job_id, Event.ACTION_REQUIRED)

    async def tell_of_cluster(
        self, connection: AsyncConnection, cluster: str, happened: Sequence[tuple[Event, dict[str, Any]]]
    ) -> None:
        """It happened there, and to no job: every standing target that wants it is told, in this order."""
        rows = [
            delivery_row(name, event, facts, cluster=cluster)
            for event, facts in happened
            for name in self._standing(event, cluster)
        ]
        if rows:
            await connection.execute(INSERT_DELIVERY, rows)

    async def tell_of_auto_stop(self, connection: AsyncConnection, job_id: UUID, stop: AutoStop) -> None:
        """The automatic renewals of a cluster have just been stopped, by the end of that job."""
        if not self.targets:
            return
        row = (await connection.execute(select(JOB).where(JOB.c.id == job_id))).mappings().one()
        facts = _facts_of_auto_stop(job_record(row), stop)
        await self.tell_of_cluster(connection, stop.cluster, [(Event.AUTO_RENEW_STOPPED, facts)])

    async def _tell(self, connection: AsyncConnection, job_id: UUID, event: Event) -> None:
        if not self.targets:
            return
        row = (await connection.execute(select(JOB).where(JOB.c.id == job_id))).mappings().one()
        job = job_record(row)
        if job.validate_only:
            return
        facts = facts_of(job, _STRANDED if event is Event.STRANDED else job.message)
        rows = [
            delivery_row(
                callback.target, event, facts | own, job_id=job.id, cluster=job.cluster, record=callback.record
            )
            for callback, own in self._receivers(job, row["callback"] or [], event)
        ]
        if rows:
            await connection.execute(INSERT_DELIVERY, rows)

    def _receivers(
        self, job: JobRecord, callbacks: list[dict[str, Any]], event: Event
    ) -> Iterator[tuple[Callback, dict[str, Any]]]:
        """Who is told, each with the facts of its own request. One that was called back by name is not told twice."""
        called: dict[Callback, dict[str, Any]] = {}
        for stored in callbacks:
            if stored["target"] in self.targets:
                called.setdefault(Callback(stored["target"], stored.get("record")), stored.get("facts", {}))
        yield from called.items()
        named = {callback.target for callback in called}
        for name in self._standing(event, job.cluster):
            if name not in named:
                yield Callback(name, None), {}

    def _standing(self, event: Event, cluster: str | None) -> Iterator[str]:
        for name, target in self.targets.items():
            if not target.callback_only and target.wants(event, cluster):
                yield name


NO_WEBHOOKS = Outbox()


def stored_callback(new: NewRenewal) -> dict[str, Any] | None:
    """As it stands in the list `job.callback`: with what the request said of itself, which its receiver knows it by."""
    if new.callback is None:
        return None
    own = {"correlation_id": new.correlation_id, "change_number": new.change_number}
    stored = {"target": new.callback.target, "record": new.callback.record, "facts": known_facts(own)}
    return known_facts(stored)


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
    event: Event,
    facts: dict[str, Any],
    *,
    job_id: UUID | None = None,
    cluster: str | None = None,
    record: str | None = None,
) -> dict[str, Any]:
    """What `INSERT_DELIVERY` writes."""
    return {
        "id": uuid7(),
        "target": target,
        "event": event,
        "job_id": job_id,
        "cluster": cluster,
        "record": record,
        "facts": facts,
    }


def facts_of(job: JobRecord, message: str) -> dict[str, Any]:
    """The `data` of an event of the job as it is now; what is not known is left out."""
    rule = RULES[FaultCode(job.error_code)] if job.error_code in RULES else None
    return known_facts(
        {
            "job_id": str(job.id),
            "status": job.status.value,
            "outcome": job.outcome,
            "message": cut_fact(message),
            "vm_uuid": job.vm_uuid,
            "vm_name": cut_fact(job.vm_name),
            "cluster": job.cluster,
            "error_code": job.error_code,
            "error_message": cut_fact(job.error_message),
            "error_action": None if rule is None else rule.told(),
            "wait_reason": job.wait_reason,
            "remaining_action": cut_fact(job.remaining_action),
            "old_not_after": fact_time(job.results.old_not_after, "seconds"),
            "new_not_after": fact_time(job.results.new_not_after, "seconds"),
            "verified_by": job.results.verified_by,
            "correlation_id": job.correlation_id,
            "change_number": job.change_number,
            "automatic": job.automatic_rule is not None,
            "automatic_rule": cut_fact(job.automatic_rule),
            "created_at": fact_time(job.created_at, "milliseconds"),
            "started_at": fact_time(job.started_at, "milliseconds"),
            "finished_at": fact_time(job.finished_at, "milliseconds"),
            "link": f"/jobs/{job.id}",
        }
    )


def _facts_of_auto_stop(job: JobRecord, stop: AutoStop) -> dict[str, Any]:
    """Of the job that failed last what says why."""
    named = ("job_id", "vm_uuid", "vm_name", "error_code", "error_message", "error_action")
    of_job = {name: fact for name, fact in facts_of(job, job.message).items() if name in named}
    said = f"No more automatic renewals begin on {stop.cluster}: {stop.reason}"
    return {
        **of_job,
        "cluster": stop.cluster,
        "message": cut_fact(said),
        "action": f"Mend the cause, then POST /clusters/{stop.cluster}/auto-renew/resume.",
        "failures_in_a_row": stop.failures_in_a_row,
        "stopped_at": fact_time(stop.stopped_at, "milliseconds"),
        "link": f"/clusters/{stop.cluster}/auto-renew/plan",
    }


def known_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are known: an unknown one is absent, never null."""
    return {name: value for name, value in facts.items() if value is not None}


def cut_fact(said: str | None, longest: int = _MOST_CHARACTERS) -> str | None:
    """Short enough that the body of an event stays small; what was cut says so."""
    return said if said is None or len(said) <= longest else said[: longest - 1] + "…"


def fact_time(time: datetime | None, to: str) -> str | None:
    """As the API writes times, in `seconds` or `milliseconds`."""
    return None if time is None else time.isoformat(timespec=to).removesuffix("+00:00") + "Z"

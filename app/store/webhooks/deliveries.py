"""Deliveries: claims for the deliverer, and queries for operators.

A delivery is claimed with a lease before it is sent, and its result is stored after: if the process dies in between, it
is sent again with the same id. All times are the database's.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import RowMapping, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.events import ServiceEventType
from app.ngt.errors import Fault, FaultCode
from app.ngt.masking import mask
from app.store.postgres.database import Database
from app.store.postgres.pages import PageCursor, newest_first
from app.store.postgres.tables import DELIVERY, WEBHOOK_TARGET
from app.store.records.callers import Caller
from app.store.records.rows import record_of
from app.store.records.webhooks import DeliveryRecord, DeliveryStatus
from app.store.webhooks.outbox import INSERT_DELIVERY, delivery_row

_TEST_FACTS = {"message": "This is a test; nothing happened."}
_LONGEST_ERROR = 500
# A replica that has an older configuration must not end what a newer one is about to send.
_REMOVED_AFTER_S = 600

# `MATERIALIZED`, since a second look would skip the rows that the first one locked.
_CLAIM = text("""
WITH room AS (
  SELECT * FROM unnest(CAST(:targets AS text[]), CAST(:rooms AS int[]), CAST(:leases_s AS float8[]))
    AS r(target, free, lease_s)),
due AS MATERIALIZED (
  SELECT found.id, room.lease_s FROM room CROSS JOIN LATERAL (
    SELECT d.id FROM delivery d
    WHERE d.target = room.target AND d.due_at <= now() AND (d.lease_until IS NULL OR d.lease_until < now())
      AND (d.event = :test OR NOT EXISTS (
        SELECT FROM webhook_target t WHERE t.name = d.target AND t.disabled_at IS NOT NULL))
      -- Of two events for one record the earlier one is sent first when both are due, and never both at a time.
      AND NOT EXISTS (
        SELECT FROM delivery e WHERE e.job_id = d.job_id AND e.target = d.target AND e.record = d.record
          AND e.status = 'pending' AND e.id <> d.id
          AND (e.lease_until >= now() OR e.created_at < d.created_at AND e.due_at <= now()))
    ORDER BY d.due_at LIMIT room.free FOR UPDATE OF d SKIP LOCKED) AS found)
UPDATE delivery SET attempts = attempts + 1, last_attempt_at = clock_timestamp(),
  lease_until = clock_timestamp() + make_interval(secs => due.lease_s)
FROM due WHERE delivery.id = due.id
RETURNING delivery.*
""")
# Also when the target was disabled meanwhile: it did take this one.
_DELIVERED = text("""
UPDATE delivery SET status = 'delivered', due_at = NULL, lease_until = NULL, finished_at = clock_timestamp(),
  last_http_status = :http_status, last_error = NULL
WHERE id = :id AND lease_until = :lease_until
""")
_SUPERSEDE = text("""
UPDATE delivery AS d SET status = 'superseded', due_at = NULL, finished_at = clock_timestamp()
FROM delivery AS later WHERE later.id = :id AND d.job_id = later.job_id AND d.target = later.target
  AND d.record = later.record AND d.created_at < later.created_at AND d.status = 'pending'
""")
_FAILED = text("""
UPDATE delivery SET status = CASE WHEN CAST(:again_s AS float8) IS NULL THEN 'exhausted' ELSE 'pending' END,
  due_at = clock_timestamp() + make_interval(secs => CAST(:again_s AS float8)), lease_until = NULL,
  finished_at = CASE WHEN CAST(:again_s AS float8) IS NULL THEN clock_timestamp() END,
  last_http_status = :http_status, last_error = :error
WHERE id = :id AND lease_until = :lease_until AND status = 'pending'
""")
_RELEASE = text("UPDATE delivery SET lease_until = NULL WHERE id = :id AND lease_until = :lease_until")
_DISABLE = text("""
INSERT INTO webhook_target (name, disabled_at, disabled_because) VALUES (:target, clock_timestamp(), :because)
ON CONFLICT (name) DO UPDATE SET disabled_at = coalesce(webhook_target.disabled_at, clock_timestamp()),
  disabled_because = coalesce(webhook_target.disabled_because, excluded.disabled_because)
""")
_ENABLE = text("UPDATE webhook_target SET disabled_at = NULL, disabled_because = NULL WHERE name = :target")
_REFUSED = text("UPDATE delivery SET last_http_status = :http_status, last_error = :error WHERE id = :id")
_END_DISABLED = text("""
UPDATE delivery SET status = 'disabled', due_at = NULL, finished_at = clock_timestamp()
WHERE due_at IS NOT NULL AND status = 'pending'
  AND (id = :id OR event <> :test AND target IN (SELECT name FROM webhook_target WHERE disabled_at IS NOT NULL))
""")
_END_REMOVED = text("""
UPDATE delivery SET status = 'removed', due_at = NULL, finished_at = clock_timestamp(),
  last_error = 'the target is not configured any more'
WHERE due_at < now() - make_interval(secs => :after_s) AND target <> ALL(:targets)
  AND (lease_until IS NULL OR lease_until < now())
""")


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A delivery that is this sender's until `lease_until`, which is also its proof."""

    delivery: DeliveryRecord
    lease_until: datetime


@dataclass(frozen=True, slots=True)
class Capacity:
    """The free senders of a target, and the longest time of one attempt."""

    free: int
    lease_s: float


@dataclass(frozen=True, slots=True)
class TargetState:
    """The stored state of a webhook target."""

    disabled_at: datetime | None
    disabled_because: str | None


class Deliveries:
    """The deliveries of one database. Every function raises Fault `database-unavailable` when it does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, rooms: Mapping[str, Capacity]) -> tuple[ClaimedDelivery, ...]:
        """Claims the due deliveries, at most the free senders of each target; an attempt of each begins."""
        values = {
            "targets": list(rooms),
            "rooms": [room.free for room in rooms.values()],
            "leases_s": [room.lease_s for room in rooms.values()],
            "test": ServiceEventType.TEST,
        }
        async with self._database.transaction() as connection:
            rows = (await connection.execute(_CLAIM, values)).mappings()
            return tuple(ClaimedDelivery(_record(row), row["lease_until"]) for row in rows)

    async def delivered(self, claimed: ClaimedDelivery, http_status: int | None) -> None:
        """The receiver took it. A test that arrives enables its target again."""
        delivery = claimed.delivery
        async with self._database.transaction() as connection:
            await connection.execute(_DELIVERED, _fenced(claimed, http_status=http_status))
            if delivery.record is not None:
                await connection.execute(_SUPERSEDE, {"id": delivery.id})
            if delivery.event == ServiceEventType.TEST:
                await connection.execute(_ENABLE, {"target": delivery.target})

    async def failed(
        self, claimed: ClaimedDelivery, http_status: int | None, error: str, *, again_in_s: float | None
    ) -> None:
        """The receiver did not take it: another attempt in `again_in_s`, or none (`exhausted`)."""
        values = _fenced(claimed, http_status=http_status, error=_shown_error(error), again_s=again_in_s)
        async with self._database.transaction() as connection:
            await connection.execute(_FAILED, values)

    async def disable(self, claimed: ClaimedDelivery, http_status: int | None, because: str) -> None:
        """The receiver wants no more: everything that is pending for it ends as `disabled`."""
        delivery, error = claimed.delivery, _shown_error(because)
        async with self._database.transaction() as connection:
            await connection.execute(_DISABLE, {"target": delivery.target, "because": error})
            await connection.execute(_REFUSED, {"id": delivery.id, "http_status": http_status, "error": error})
            await connection.execute(_END_DISABLED, {"id": delivery.id, "test": ServiceEventType.TEST})

    async def release(self, claimed: ClaimedDelivery) -> None:
        """Releases a delivery that may have been sent; the next worker sends it at once."""
        async with self._database.transaction() as connection:
            await connection.execute(_RELEASE, _fenced(claimed))

    async def expire_undeliverable(self, targets: Collection[str]) -> int:
        """Ends what was written for a disabled target, and what is overdue for one that is not among `targets`."""
        values = {"after_s": _REMOVED_AFTER_S, "targets": list(targets)}
        async with self._database.transaction() as connection:
            disabled = await connection.execute(_END_DISABLED, {"id": None, "test": ServiceEventType.TEST})
            return disabled.rowcount + (await connection.execute(_END_REMOVED, values)).rowcount

    async def begin_test(self, target: str) -> DeliveryRecord:
        """A new `webhook.test` for the target, also for a disabled one. It is sent once and not repeated."""
        test = INSERT_DELIVERY.values(delivery_row(target, ServiceEventType.TEST, _TEST_FACTS)).returning(DELIVERY)
        async with self._database.transaction() as connection:
            return _record((await connection.execute(test)).mappings().one())

    async def replay(self, delivery_id: UUID, targets: Collection[str]) -> DeliveryRecord:
        """Have a delivery that has ended sent anew, with the same id and all its attempts.

        Raises Fault `delivery-not-found`, and `delivery-not-replayable` while it is pending, and when its target is
        disabled or not among `targets`.
        """
        async with self._database.transaction() as connection:
            locked = select(DELIVERY).where(DELIVERY.c.id == delivery_id).with_for_update()
            if (row := (await connection.execute(locked)).mappings().first()) is None:
                raise Fault(FaultCode.DELIVERY_NOT_FOUND, f"There is no delivery {delivery_id}.")
            if (reason := await _why_not_replayable(connection, row, targets)) is not None:
                message = f"Delivery {delivery_id} cannot be replayed: {reason}."
                raise Fault(FaultCode.DELIVERY_NOT_REPLAYABLE, message)
            anew = {
                "status": DeliveryStatus.PENDING,
                "attempts": 0,
                "due_at": func.clock_timestamp(),
                "lease_until": None,
                "finished_at": None,
            }
            replayed = DELIVERY.update().where(DELIVERY.c.id == delivery_id).values(anew).returning(DELIVERY)
            return _record((await connection.execute(replayed)).mappings().one())

    async def find(self, delivery_id: UUID) -> DeliveryRecord | None:
        async with self._database.transaction() as connection:
            found = await connection.execute(select(DELIVERY).where(DELIVERY.c.id == delivery_id))
            row = found.mappings().first()
            return None if row is None else _record(row)

    async def list(
        self,
        target: str,
        caller: Caller,
        *,
        status: DeliveryStatus | None = None,
        limit: int = 50,
        after: PageCursor | None = None,
    ) -> tuple[DeliveryRecord, ...]:
        """At most `limit` deliveries for the target that the caller may see, newest first, from below `after`."""
        page = newest_first(DELIVERY, limit, after).where(DELIVERY.c.target == target)
        if status is not None:
            page = page.where(DELIVERY.c.status == status)
        if caller.clusters is not None:
            page = page.where(DELIVERY.c.cluster.in_(sorted(caller.clusters)))
        async with self._database.transaction() as connection:
            return tuple(_record(row) for row in (await connection.execute(page)).mappings())

    async def target_states(self) -> dict[str, TargetState]:
        """By name; a target of which nothing ever had to be remembered is not there."""
        async with self._database.transaction() as connection:
            rows = (await connection.execute(select(WEBHOOK_TARGET))).mappings()
            return {row["name"]: TargetState(row["disabled_at"], row["disabled_because"]) for row in rows}

    async def count_pending(self) -> tuple[int, datetime | None]:
        """The number of pending deliveries, and the time of the oldest one."""
        pending = select(func.count(), func.min(DELIVERY.c.created_at)).where(DELIVERY.c.due_at.is_not(None))
        async with self._database.transaction() as connection:
            count, oldest = (await connection.execute(pending)).one()
            return count, oldest


async def _why_not_replayable(connection: AsyncConnection, row: RowMapping, targets: Collection[str]) -> str | None:
    if row["status"] == DeliveryStatus.PENDING:
        return "it is pending"
    if row["target"] not in targets:
        return f"the webhook target {row['target']!r} is not configured"
    disabled = select(WEBHOOK_TARGET.c.disabled_at).where(WEBHOOK_TARGET.c.name == row["target"])
    if row["event"] != ServiceEventType.TEST and await connection.scalar(disabled) is not None:
        return f"the webhook target {row['target']!r} is disabled until a test of it succeeds"
    return None


def _fenced(claimed: ClaimedDelivery, **values: object) -> dict[str, object]:
    return {"id": claimed.delivery.id, "lease_until": claimed.lease_until, **values}


def _shown_error(error: str) -> str:
    return mask(error)[:_LONGEST_ERROR]


def _record(row: RowMapping) -> DeliveryRecord:
    return record_of(DeliveryRecord, row, status=DeliveryStatus(row["status"]))

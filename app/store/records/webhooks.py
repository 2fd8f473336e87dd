"""Deliveries of webhooks as the store returns them."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID


class DeliveryStatus(StrEnum):
    """Where a delivery stands. All but `pending` are ends, and all ends can be replayed."""

    PENDING = "pending"
    DELIVERED = "delivered"
    # No attempt is left.
    EXHAUSTED = "exhausted"
    # The receiver wanted no more events.
    DISABLED = "disabled"
    # The target is not configured any more.
    REMOVED = "removed"
    # A later event of the job stands on the record already, which this one would overwrite.
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    """One event for one webhook target; `id` is the `webhook-id`, the same at every attempt.

    `facts` is the `data` of the event, ready for JSON; a fact that is not known is absent. `attempts` counts those
    that were begun. `due_at` is None when nothing more will be sent.
    """

    id: UUID
    target: str
    event: str
    job_id: UUID | None
    cluster: str | None
    record: str | None
    facts: dict[str, Any]
    status: DeliveryStatus
    attempts: int
    due_at: datetime | None
    last_attempt_at: datetime | None
    last_http_status: int | None
    last_error: str | None
    created_at: datetime
    finished_at: datetime | None

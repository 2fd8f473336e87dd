"""Targets and deliveries as the tests want them."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from app.settings import WebhookTarget
from app.store.records.webhooks import DeliveryRecord, DeliveryStatus
from app.work.webhooks.sender import DeliveryResult

DELIVERY_ID = UUID("0199c1f2-8000-7000-8000-000000000001")
JOB_ID = "0199c1f2-7d10-7b52-a1ad-3a0f0c9a0b6e"
HAPPENED_AT = datetime(2026, 11, 23, 1, 2, 44, 120_000, UTC)
SENT_AT = datetime(2026, 11, 23, 1, 2, 45, 900_000, UTC)

FACTS: dict[str, Any] = {
    "job_id": JOB_ID,
    "status": "succeeded",
    "outcome": "renewed",
    "message": "certificate renewed; valid until 2029-08-19",
    "vm_uuid": "20edafba-1b5c-4a7e-8d1f-0b6f6a9d2c11",
    "vm_name": "web01",
    "cluster": "c1",
    "old_not_after": "2026-12-01T00:00:00Z",
    "new_not_after": "2029-08-19T02:11:04Z",
    "verified_by": "guest_certificate",
    "change_number": "CHG0030123",
    "automatic": False,
    "created_at": "2026-11-23T01:02:03.000Z",
    "started_at": "2026-11-23T01:02:03.500Z",
    "finished_at": "2026-11-23T01:02:44.120Z",
    "link": f"/jobs/{JOB_ID}",
}


def delivery(
    event: str = "ngt.renewal.succeeded", record: str | None = None, facts: dict[str, Any] | None = None, **changed: Any
) -> DeliveryRecord:
    """A first attempt; `changed` are facts, None for one that is not known."""
    found = {**(FACTS if facts is None else facts), **changed}
    return DeliveryRecord(
        id=DELIVERY_ID,
        target="told",
        event=event,
        job_id=UUID(JOB_ID),
        cluster="c1",
        record=record,
        facts={name: fact for name, fact in found.items() if fact is not None},
        status=DeliveryStatus.PENDING,
        attempts=1,
        due_at=HAPPENED_AT,
        last_attempt_at=None,
        last_http_status=None,
        last_error=None,
        created_at=HAPPENED_AT,
        finished_at=None,
    )


def target(**table: Any) -> WebhookTarget:
    """A target that may be on this host; by default one of the profile `standard` whose secret is never read."""
    signs = table.get("profile", "standard") in {"standard", "github-hash"}
    given: dict[str, Any] = {
        "name": "told",
        "url": "https://receiver.example/hook",
        "secret_files": ["/nowhere/signing_secret"] if signs else [],
        "allow_http": True,
        "allow_networks": ["127.0.0.0/8", "::1/128"],
        "timeout_s": 10,
        **table,
    }
    return WebhookTarget.model_validate(given)


def assert_refused(sent: DeliveryResult, why: str, status: int | None = None) -> None:
    assert sent == DeliveryResult(status, sent.retry_after_s, f"The webhook told did not take the event: {why}.")

"""Schemas of webhook targets and deliveries."""

from typing import Annotated

from pydantic import MISSING, Field

from app.field_types import Count, Id, Instant, Lines, ResponseModel, Text, Word, example


class Webhook(ResponseModel):
    """A configured webhook target. Its secrets, and the path of its address, are not shown."""

    model_config = example(
        {
            "name": "snow-prod",
            "profile": "servicenow_table",
            "host": "example.service-now.com",
            "events": ["*"],
            "clusters": [],
            "callback_only": True,
            "accepts_record": True,
            "needs_record": True,
            "disabled": False,
        }
    )

    name: Word
    profile: Annotated[Word, Field(description="standard, github-hash, servicenow_table or servicenow_import")]
    host: Word
    events: Annotated[Lines, Field(description="Patterns of the events that it receives; * for all")]
    clusters: Annotated[Lines, Field(description="The clusters whose events it receives; empty for all")]
    callback_only: Annotated[bool, Field(description="It receives only the events of jobs whose request names it")]
    accepts_record: Annotated[bool, Field(description="A request may give a `callback_record` with it")]
    needs_record: Annotated[bool, Field(description="A request must give a `callback_record` with it")]
    disabled: Annotated[bool, Field(description="It answered 410; a test that it takes enables it again")]
    disabled_at: Instant | MISSING = MISSING
    disabled_because: Text | MISSING = MISSING


class WebhookList(ResponseModel):
    """The configured webhook targets, by name."""

    items: Annotated[list[Webhook], Field(max_length=1000)]


class Delivery(ResponseModel):
    """One event for one webhook target. Its id is the `webhook-id`, the same at every attempt."""

    model_config = example(
        {
            "id": "0199c1f2-9a01-7c11-8f00-6b1f0c9a0b6e",
            "target": "snow-prod",
            "event": "ngt.renewal.succeeded",
            "job_id": "0199c1f2-7d10-7b52-a1ad-3a0f0c9a0b6e",
            "cluster": "c1",
            "record": "CHG0030123",
            "status": "delivered",
            "attempts": 1,
            "last_attempt_at": "2026-11-23T01:02:44.310Z",
            "last_http_status": 200,
            "created_at": "2026-11-23T01:02:44.120Z",
            "finished_at": "2026-11-23T01:02:44.390Z",
        }
    )

    id: Id
    target: Word
    event: Word
    job_id: Id | MISSING = MISSING
    cluster: Word | MISSING = MISSING
    record: Annotated[Word | MISSING, Field(description="The record that the request named")] = MISSING
    status: Annotated[
        Word, Field(description="pending, delivered, exhausted, disabled, removed or superseded; more may come")
    ]
    attempts: Annotated[Count, Field(description="How many were begun")]
    due_at: Annotated[Instant | MISSING, Field(description="When it is sent next, while it is pending")] = MISSING
    last_attempt_at: Instant | MISSING = MISSING
    last_http_status: Annotated[int | MISSING, Field(ge=0, le=999)] = MISSING
    last_error: Annotated[Text | MISSING, Field(description="Why the last attempt did not succeed")] = MISSING
    created_at: Instant
    finished_at: Instant | MISSING = MISSING


class DeliveryList(ResponseModel):
    """One page of deliveries, newest first. Without `next_cursor` it is the last one."""

    items: Annotated[list[Delivery], Field(max_length=200)]
    next_cursor: Word | MISSING = MISSING

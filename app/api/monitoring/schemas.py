"""Schemas of health and meta."""

from typing import Annotated

from pydantic import MISSING, Field

from app.field_types import Count, Instant, ResponseModel, Text, Word


class Check(ResponseModel):
    """One thing that the service needs."""

    name: Word
    passed: bool


class Health(ResponseModel):
    """The health of the service; `checks` with `?verbose=true` and an API key."""

    status: Word
    checks: Annotated[list[Check], Field(max_length=100)] | MISSING = MISSING
    paused: Annotated[bool | MISSING, Field(description="The service is paused, which does not make it unready")] = (
        MISSING
    )


class Meta(ResponseModel):
    """The version, the limits and the pause of the service."""

    name: Word
    version: Word
    database_revision: Word | MISSING = MISSING
    docs: Word
    openapi: Word
    server_time_at: Annotated[Instant, Field(description="The clock by which all times are given")]
    max_wait_s: Annotated[Count, Field(description="The longest `wait` of a request")]
    max_queued_jobs: Annotated[Count, Field(description="More are refused with 503 `queue-full`")]
    jobs_kept_days: Annotated[Count, Field(description="How long finished jobs are kept")]
    idempotency_keys_kept_days: Annotated[Count, Field(description="How long an Idempotency-Key counts")]
    deliveries_kept_days: Annotated[Count, Field(description="How long finished deliveries to webhooks are kept")]
    paused: Annotated[bool, Field(description="No new job starts; renewals are accepted, and wait")]
    paused_at: Instant | MISSING = MISSING
    paused_by: Text | MISSING = MISSING
    pause_reason: Text | MISSING = MISSING
    paused_until: Annotated[Instant | MISSING, Field(description="When the pause ends by itself")] = MISSING

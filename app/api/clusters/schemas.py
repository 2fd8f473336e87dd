"""What the service says of the configured clusters, and of the pause of all of them."""

from typing import Annotated

from pydantic import MISSING, Field

from app.api.http.field_types import Answer, Count, Instant, Text, Word, example


class Cluster(Answer):
    """A configured cluster. Until one renewal was proved on it, one runs at a time."""

    model_config = example(
        {
            "name": "c1",
            "paused": False,
            "proven": True,
            "mode": "recreate",
            "restart_agent": "ssh",
            "max_running": 3,
            "auto_renew": True,
            "auto_renew_stopped": False,
            "auto_renew_failures_in_a_row": 0,
        }
    )

    name: Word
    paused: bool
    paused_at: Instant | MISSING = MISSING
    paused_by: Text | MISSING = MISSING
    pause_reason: Text | MISSING = MISSING
    proven: bool
    proven_at: Instant | MISSING = MISSING
    mode: Word
    restart_agent: Word
    max_running: Count
    auto_renew: Annotated[bool, Field(description="Whether automatic renewal is switched on")]
    auto_renew_stopped: Annotated[bool, Field(description="Too many in a row failed; see `resumeAutoRenew`")]
    auto_renew_stopped_at: Instant | MISSING = MISSING
    auto_renew_stopped_reason: Text | MISSING = MISSING
    auto_renew_failures_in_a_row: Count


class ClusterList(Answer):
    """The clusters that the key may use, by name."""

    items: Annotated[list[Cluster], Field(max_length=1000)]


class ServicePause(Answer):
    """Whether the whole service is paused. With `until` the pause ends by itself."""

    model_config = example(
        {
            "paused": True,
            "paused_at": "2026-11-24T16:00:00.000Z",
            "paused_by": "operations",
            "reason": "Maintenance of all clusters, CHG0030201",
            "until": "2026-11-24T20:00:00.000Z",
        }
    )

    paused: bool
    paused_at: Instant | MISSING = MISSING
    paused_by: Text | MISSING = MISSING
    reason: Text | MISSING = MISSING
    until: Instant | MISSING = MISSING

"""Clusters as the store remembers them."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class ClusterRecord:
    """What is remembered of a configured cluster."""

    name: str
    paused_at: datetime | None
    pause_reason: str | None
    paused_by: str | None
    proven_at: datetime | None
    unproven_in_a_row: int
    watched_at: datetime | None
    auto_failures_in_a_row: int
    auto_stopped_at: datetime | None
    auto_stopped_reason: str | None

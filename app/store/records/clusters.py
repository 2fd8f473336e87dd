"""Clusters as the store remembers them."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class ClusterRecord:
    """The state of a configured cluster; the defaults are those of one that was never used."""

    name: str
    paused_at: datetime | None = None
    pause_reason: str | None = None
    paused_by: str | None = None
    proven_at: datetime | None = None
    unproven_in_a_row: int = 0
    auto_failures_in_a_row: int = 0
    auto_stopped_at: datetime | None = None
    auto_stopped_reason: str | None = None

"""Schemas of clusters, their health, and the pause of the service."""

from typing import Annotated, Any

from pydantic import MISSING, Field

from app.field_types import Count, Instant, ResponseModel, Text, Word, example


class Cluster(ResponseModel):
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


class ClusterList(ResponseModel):
    """The clusters that the key may use, by name."""

    items: Annotated[list[Cluster], Field(max_length=1000)]


class ServicePause(ResponseModel):
    """The pause of the whole service. With `until` it ends at that time."""

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


_HEALTH: dict[str, Any] = {
    "name": "c1",
    "reachable": True,
    "cvms": [
        {
            "address": "10.0.0.31",
            "state": "up",
            "since_at": "2026-11-20T08:00:00.000Z",
            "checked_at": "2026-11-24T09:00:00.000Z",
        }
    ],
    "scanned_at": "2026-11-24T02:00:00.000Z",
    "scanning": False,
    "paused": False,
    "open_jobs": 3,
    "stranded_vms": 0,
    "vms_awaiting_pickup": 1,
}


class CvmHealth(ResponseModel):
    """A CVM as the service last found it."""

    address: Word
    state: Annotated[Word, Field(description="up; down; or unknown: it was not needed yet")]
    since_at: Annotated[Instant | MISSING, Field(description="When it came up or went down")] = MISSING
    checked_at: Annotated[Instant | MISSING, Field(description="When it was last known to be so")] = MISSING
    error_code: Word | MISSING = MISSING
    error_message: Annotated[Text | MISSING, Field(description="Why nothing can be done there")] = MISSING


class ClusterHealth(ResponseModel):
    """The stored health of a cluster."""

    model_config = example(_HEALTH)

    name: Word
    reachable: Annotated[bool | MISSING, Field(description="Whether any CVM answers; absent while none was needed")] = (
        MISSING
    )
    cvms: Annotated[list[CvmHealth], Field(max_length=1000)]
    scanned_at: Annotated[Instant | MISSING, Field(description="The last scan of all its VMs that was whole")] = MISSING
    scan_failed_at: Annotated[Instant | MISSING, Field(description="When the last scan, if it was not whole")] = MISSING
    scan_error_code: Word | MISSING = MISSING
    scan_error_message: Annotated[Text | MISSING, Field(description="Why the last scan was not whole")] = MISSING
    scanning: Annotated[bool, Field(description="A scan of all its VMs is open")]
    paused: bool
    paused_at: Instant | MISSING = MISSING
    paused_by: Text | MISSING = MISSING
    pause_reason: Text | MISSING = MISSING
    open_jobs: Count
    stranded_vms: Annotated[Count, Field(description="VMs that have no tools entity at the moment")]
    vms_awaiting_pickup: Annotated[Count, Field(description="VMs that have not picked a new certificate up yet")]

"""What the service says of scans, and of a cluster's health. Flat, and what is not known is absent, as everywhere."""

from typing import Annotated, Any

from pydantic import MISSING, Field

from app.api.http.field_types import Answer, Count, Id, Instant, Text, Word, example

_SCAN: dict[str, Any] = {
    "id": "0199c1f2-8c20-7d11-9a00-1f3f0c9a0b6e",
    "cluster": "c1",
    "origin": "requested",
    "status": "succeeded",
    "done": True,
    "outcome": "complete",
    "message": "1,200 VMs seen, 3 new, 1 gone; the cluster tells the certificate's date of 1,180",
    "joined": False,
    "vms_seen": 1200,
    "vms_new": 3,
    "vms_vanished": 1,
    "dates_seen": 1180,
    "guests_asked": 0,
    "guests_failed": 0,
    "caller": "ServiceNow production",
    "created_at": "2026-11-24T02:00:00.000Z",
    "started_at": "2026-11-24T02:00:00.010Z",
    "finished_at": "2026-11-24T02:00:04.120Z",
    "updated_at": "2026-11-24T02:00:04.120Z",
}
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


class Scan(Answer):
    """A scan of all VMs of a cluster, or of one. Test `done` and `outcome`: `status` may get more words."""

    model_config = example(_SCAN)

    id: Id
    cluster: Word
    vm_uuid: Annotated[Id | MISSING, Field(description="The one VM that is looked at; absent: all of them")] = MISSING
    origin: Annotated[Word, Field(description="requested, scheduled, refresh or diagnosis; more may come")]
    status: Annotated[Word, Field(description="queued, running, succeeded or failed; more may come")]
    done: bool
    outcome: Annotated[
        Word | MISSING,
        Field(description="complete; partial: the cluster did not tell of certificates; or failed. Once done"),
    ] = MISSING
    message: Text
    joined: Annotated[bool, Field(description="The request joined this scan, which was open already")]
    error_code: Word | MISSING = MISSING
    error_message: Text | MISSING = MISSING
    error_action: Annotated[Text | MISSING, Field(description="What to do, and who can do it")] = MISSING

    vms_seen: Count | MISSING = MISSING
    vms_new: Count | MISSING = MISSING
    vms_vanished: Annotated[Count | MISSING, Field(description="VMs that are not on the cluster any more")] = MISSING
    dates_seen: Annotated[
        Count | MISSING, Field(description="VMs of which the cluster told the certificate's date")
    ] = MISSING
    guests_asked: Count | MISSING = MISSING
    guests_failed: Annotated[Count | MISSING, Field(description="Guests whose certificate is not known")] = MISSING

    caller: Annotated[Text, Field(description="The API key that asked, or the service itself")]
    created_at: Instant
    started_at: Instant | MISSING = MISSING
    finished_at: Instant | MISSING = MISSING
    updated_at: Instant


class ScanList(Answer):
    """One page of scans, newest first. Without `next_cursor` it is the last one."""

    items: Annotated[list[Scan], Field(max_length=200)]
    next_cursor: Word | MISSING = MISSING


class CvmHealth(Answer):
    """A CVM as the service last found it."""

    address: Word
    state: Annotated[Word, Field(description="up; down; or unknown: it was not needed yet")]
    since_at: Annotated[Instant | MISSING, Field(description="When it came up or went down")] = MISSING
    checked_at: Annotated[Instant | MISSING, Field(description="When it was last known to be so")] = MISSING
    error_code: Word | MISSING = MISSING
    error_message: Annotated[Text | MISSING, Field(description="Why nothing can be done there")] = MISSING


class ClusterHealth(Answer):
    """What is known of a cluster without asking it."""

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

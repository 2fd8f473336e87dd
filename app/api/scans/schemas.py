"""Schemas of scans."""

from typing import Annotated, Any

from pydantic import MISSING, Field

from app.field_types import Count, Id, Instant, ResponseModel, Text, Word, example

_SCAN: dict[str, Any] = {
    "id": "0199c1f2-8c20-7d11-9a00-1f3f0c9a0b6e",
    "cluster": "c1",
    "origin": "requested",
    "status": "succeeded",
    "done": True,
    "outcome": "complete",
    "message": "1,200 VMs seen, 3 new, 1 gone; the cluster reports the expiry dates of 1,180 certificates",
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


class Scan(ResponseModel):
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


class ScanList(ResponseModel):
    """One page of scans, newest first. Without `next_cursor` it is the last one."""

    items: Annotated[list[Scan], Field(max_length=200)]
    next_cursor: Word | MISSING = MISSING

"""Scans as the store returns them."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from app.ngt.vocabulary import VmUuid


class ScanOrigin(StrEnum):
    """The reason of a scan."""

    REQUESTED = "requested"
    SCHEDULED = "scheduled"
    # Somebody wanted to see one VM as it is now.
    REFRESH = "refresh"
    DIAGNOSIS = "diagnosis"


class ScanStatus(StrEnum):
    """Where a scan stands. `succeeded` is also the end of one that saw only a part: its outcome says so."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class ScanOutcome(StrEnum):
    """The result of a scan: all, the listing without the tools' entities, or nothing."""

    COMPLETE = "complete"
    PARTIAL = "partial"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ScanCounts:
    """The counts of a scan so far; None: not reached.

    `dates_seen`: VMs whose expiry the cluster reported. Guests are asked when they are configured and on.
    """

    vms_seen: int | None = None
    vms_new: int | None = None
    vms_vanished: int | None = None
    dates_seen: int | None = None
    guests_asked: int | None = None
    guests_failed: int | None = None


@dataclass(frozen=True, slots=True)
class ScanRecord:
    """A scan of a cluster, or of one VM on it (`vm_uuid`), as callers see it. `version` grows with every change."""

    id: UUID
    cluster: str
    vm_uuid: VmUuid | None
    origin: ScanOrigin
    status: ScanStatus
    done: bool
    outcome: ScanOutcome | None
    message: str
    error_code: str | None
    error_message: str | None
    counts: ScanCounts
    version: int
    caller_id: str
    caller: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class StartedScan:
    """The scan that a request led to: a new one, or an open one of the same (`joined`)."""

    scan: ScanRecord
    joined: bool

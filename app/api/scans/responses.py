"""How a scan is shown, and when it is worth asking again for one that is open."""

from collections.abc import Mapping

from pydantic import MISSING

from app.api.http.responses import known
from app.api.scans.schemas import Scan
from app.ngt.errors import RULES, FaultCode
from app.store.records.scans import ScanRecord

_POLL_S = 5


def ask_again(scan: ScanRecord) -> Mapping[str, str]:
    """The header `Retry-After` of an answer about an open scan; none once it is done."""
    return {} if scan.done else {"Retry-After": str(_POLL_S)}


def shown_scan(scan: ScanRecord, *, joined: bool = False) -> Scan:
    """The scan as callers see it; `joined`: the request found it open."""
    counts = scan.counts
    rule = RULES[FaultCode(scan.error_code)] if scan.error_code in RULES else None
    return Scan(
        id=str(scan.id),
        cluster=scan.cluster,
        vm_uuid=known(scan.vm_uuid),
        origin=scan.origin,
        status=scan.status,
        done=scan.done,
        outcome=known(scan.outcome),
        message=scan.message,
        joined=joined,
        error_code=known(scan.error_code),
        error_message=known(scan.error_message),
        error_action=MISSING if rule is None else rule.told(),
        vms_seen=known(counts.vms_seen),
        vms_new=known(counts.vms_new),
        vms_vanished=known(counts.vms_vanished),
        dates_seen=known(counts.dates_seen),
        guests_asked=known(counts.guests_asked),
        guests_failed=known(counts.guests_failed),
        caller=scan.caller or scan.caller_id,
        created_at=scan.created_at,
        started_at=known(scan.started_at),
        finished_at=known(scan.finished_at),
        updated_at=scan.updated_at,
    )

"""Scans as responses, and the time after which to ask again."""

from collections.abc import Mapping
from dataclasses import asdict

from app.api.scans.schemas import Scan
from app.field_types import from_record
from app.ngt.errors import RULES, FaultCode
from app.store.records.scans import ScanRecord

_POLL_S = 5


def ask_again(scan: ScanRecord) -> Mapping[str, str]:
    """The header `Retry-After` of an answer about an open scan; none once it is done."""
    return {} if scan.done else {"Retry-After": str(_POLL_S)}


def scan_response(scan: ScanRecord, *, joined: bool = False) -> Scan:
    """The scan as callers see it; `joined`: the request found it open."""
    rule = RULES[FaultCode(scan.error_code)] if scan.error_code in RULES else None
    return from_record(
        Scan,
        scan,
        **asdict(scan.counts),
        joined=joined,
        error_action=None if rule is None else rule.addressed_action(),
        caller=scan.caller or scan.caller_id,
    )

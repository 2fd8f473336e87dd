"""The outcome of a scan: whole, partial or failed, with the sentence that the scan shows."""

from app.ngt.errors import Fault
from app.store.records.scans import ScanCounts, ScanOutcome
from app.store.scans.claims import ScanClaim, ScanEnd


def failed_scan(fault: Fault) -> ScanEnd:
    return ScanEnd(ScanOutcome.FAILED, f"the scan failed; stored data is unchanged: {fault.message}", fault=fault)


def ended_scan(claim: ScanClaim, counts: ScanCounts, query_fault: Fault | None) -> ScanEnd:
    """A scan whose listing was read; with a fault of the query it is partial."""
    outcome = ScanOutcome.COMPLETE if query_fault is None else ScanOutcome.PARTIAL
    return ScanEnd(outcome, _message(claim, counts, query_fault), counts, query_fault)


def count_of(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _message(claim: ScanClaim, counts: ScanCounts, query_fault: Fault | None) -> str:
    if claim.vm_uuid is not None and not counts.vms_seen:
        return f"VM {claim.vm_uuid} is not on {claim.cluster}"
    sentences = [f"{count_of(counts.vms_seen or 0, 'VM')} seen, {counts.vms_new} new, {counts.vms_vanished} gone"]
    if query_fault is None:
        sentences.append(f"the cluster reports the expiry dates of {count_of(counts.dates_seen or 0, 'certificate')}")
    else:
        sentences.append(f"stored certificate dates are unchanged, because the query failed: {query_fault.message}")
    if counts.guests_asked:
        read = counts.guests_asked - (counts.guests_failed or 0)
        sentences.append(f"{read} of {count_of(counts.guests_asked, 'guest')} showed a certificate")
    return "; ".join(sentences)

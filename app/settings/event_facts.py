"""What is said of each event, by its names: a template may use any of them, an import has those of its event."""

RENEWAL_FACTS = frozenset(
    {
        "job_id",
        "status",
        "outcome",
        "message",
        "vm_uuid",
        "vm_name",
        "cluster",
        "error_code",
        "error_message",
        "error_action",
        "wait_reason",
        "remaining_action",
        "old_not_after",
        "new_not_after",
        "verified_by",
        "correlation_id",
        "change_number",
        "automatic",
        "automatic_rule",
        "created_at",
        "started_at",
        "finished_at",
        "link",
    }
)
CERTIFICATE_FACTS = frozenset(
    {
        "message",
        "action",
        "vm_uuid",
        "vm_name",
        "cluster",
        "not_after",
        "days_left",
        "days_before",
        "certificate_source",
        "certificate_observed_at",
        "serial",
        "new_certificate_issued",
        "link",
    }
)
DIGEST_FACTS = frozenset(
    {
        "message",
        "action",
        "cluster",
        "vms",
        "expired",
        "within_7_days",
        "within_30_days",
        "within_60_days",
        "within_90_days",
        "unknown",
        "awaiting_pickup",
        "stranded",
        "newly_expiring",
        "events_left_out",
        "expiring_first_text",
        "previous_digest_at",
        "last_whole_scan_at",
        "scan_failed_at",
        "scan_error_code",
        "scan_error_message",
        "link",
    }
)
AUTO_RENEW_FACTS = frozenset(
    {
        "cluster",
        "message",
        "failures_in_a_row",
        "action",
        "stopped_at",
        "job_id",
        "vm_uuid",
        "vm_name",
        "error_code",
        "error_message",
        "error_action",
        "link",
    }
)
# Of every event, beside what it says of its subject.
_OF_DELIVERY = frozenset({"event", "record"})
_OF_EVENTS = {
    "ngt.certificate.expiring": CERTIFICATE_FACTS,
    "ngt.certificate.expired": CERTIFICATE_FACTS,
    "ngt.certificate.digest": DIGEST_FACTS,
    "ngt.auto_renew.stopped": AUTO_RENEW_FACTS,
}

FACTS = RENEWAL_FACTS | CERTIFICATE_FACTS | DIGEST_FACTS | AUTO_RENEW_FACTS | _OF_DELIVERY | {"work_notes"}
"""Everything that a template may name; what the event does not have is empty. `work_notes` is made of the others."""


def facts_of(event: str) -> frozenset[str]:
    """What is written of the event, known or not."""
    return _OF_EVENTS.get(event, RENEWAL_FACTS) | _OF_DELIVERY

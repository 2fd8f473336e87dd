"""The work notes of a ticket: the event, the validity of the certificate, and the next step."""

from collections.abc import Iterator, Mapping

from app.events import CertificateEventType, RenewalEventType, ServiceEventType

# The meaning of each event for a person; `{vm}` names the VM.
_HAPPENED: Mapping[str, str] = {
    RenewalEventType.SUCCEEDED: "The NGT client certificate of {vm} was renewed.",
    RenewalEventType.FAILED: "The NGT client certificate of {vm} was not renewed: the job failed.",
    RenewalEventType.CANCELLED: "The renewal of the NGT client certificate of {vm} was cancelled.",
    RenewalEventType.SKIPPED: "The NGT client certificate of {vm} was left as it is.",
    RenewalEventType.UNVERIFIED: (
        "The steps of a renewal were done for {vm}, but nothing proves that its NGT agent has the new certificate."
    ),
    RenewalEventType.ACTION_REQUIRED: "The renewal of the NGT client certificate of {vm} waits for a person.",
    RenewalEventType.STRANDED: (
        "The VM tools entity of {vm} may be missing, so that NGT may be off there. "
        "The service goes on trying to create it, and starts nothing new on that cluster before it has."
    ),
    CertificateEventType.EXPIRING: "The NGT client certificate of {vm} comes to its end.",
    CertificateEventType.EXPIRED: "The NGT client certificate of {vm} has expired.",
    ServiceEventType.DIGEST: "This is the daily digest of NGT client certificates.",
    ServiceEventType.AUTO_RENEW_STOPPED: (
        "Automatic renewal of NGT client certificates was stopped on a cluster, because too many in a row failed; "
        "the last one was that of {vm}."
    ),
    ServiceEventType.TEST: "This is a test of the way to this record. Nothing happened to any VM.",
}
_PROVED_BY = {
    "guest_certificate": "The new certificate was read in the guest.",
    "pushed_certificate": "The new certificate was handed in by those who manage the VM.",
    "cvm_expiry_date": "The cluster reports the new expiry date.",
    "link_only": "Only the communication link is known to be active.",
}
# The message of these events would repeat the first sentence.
_SAID_ALREADY = frozenset({RenewalEventType.SUCCEEDED, RenewalEventType.STRANDED, ServiceEventType.TEST})
_ENDED_WELL = frozenset({RenewalEventType.SUCCEEDED, RenewalEventType.SKIPPED})


def work_notes(facts: Mapping[str, str]) -> str:
    """Full sentences, a paragraph each, of facts as texts (times `yyyy-MM-dd HH:mm:ss` UTC; not known: empty)."""
    paragraphs = (
        " ".join(_what_happened(facts)),
        " ".join(_until_when(facts)),
        " ".join(_what_to_do(facts)),
        " ".join(_where_to_look(facts)),
    )
    return "\n".join(paragraph for paragraph in paragraphs if paragraph)


def _what_happened(facts: Mapping[str, str]) -> Iterator[str]:
    event = facts["event"]
    vm = f"the VM {facts['vm_name'] or facts['vm_uuid'] or 'of the job'}"
    also = [f"UUID {facts['vm_uuid']}"] if facts["vm_name"] and facts["vm_uuid"] else []
    also += [f"cluster {facts['cluster']}"] if facts["cluster"] else []
    shown = vm + (f" ({', '.join(also)})" if also else "")
    yield _HAPPENED.get(event, f"The event {event} happened to {{vm}}.").replace("{vm}", shown)
    if event == RenewalEventType.FAILED:
        said = facts["error_message"] or facts["message"]
        code = f" (error code {facts['error_code']})" if facts["error_code"] else ""
        if said or code:
            yield f"The reason{code}: {_sentence(said or 'not given')}"
    elif event not in _SAID_ALREADY and facts["message"]:
        yield f"The service says: {_sentence(facts['message'])}"
    if facts["automatic_rule"]:
        yield f"A rule started the job: {_sentence(facts['automatic_rule'])}"


def _until_when(facts: Mapping[str, str]) -> Iterator[str]:
    old, new = facts["old_not_after"], facts["new_not_after"]
    if new:
        yield f"The new certificate is valid until {new} UTC" + (
            f"; the one before it until {old} UTC." if old else "."
        )
    elif old:
        yield f"The certificate that was found is valid until {old} UTC."
    elif facts["not_after"]:
        yield f"Its last second is {facts['not_after']} UTC."
    if facts["verified_by"]:
        yield _PROVED_BY.get(facts["verified_by"], f"Verified by: {facts['verified_by']}.")


def _what_to_do(facts: Mapping[str, str]) -> Iterator[str]:
    if facts["event"] == ServiceEventType.TEST:
        return
    todo = [facts[name] for name in ("error_action", "remaining_action", "action") if facts[name]]
    if todo:
        yield "What to do next:"
        yield from map(_sentence, todo)
    elif facts["event"] in _ENDED_WELL:
        yield "Nothing is left to do."


def _where_to_look(facts: Mapping[str, str]) -> Iterator[str]:
    if facts["job_id"]:
        yield _which_job(facts)
    if facts["link"].startswith("http"):
        yield f"More about it: {facts['link']}"


def _which_job(facts: Mapping[str, str]) -> str:
    named = [f"change {facts['change_number']}"] if facts["change_number"] else []
    named += [f"correlation {facts['correlation_id']}"] if facts["correlation_id"] else []
    return f"Job {facts['job_id']}" + (f" ({', '.join(named)})" if named else "") + "."


def _sentence(text: str) -> str:
    said = text.strip()
    return said[:1].upper() + said[1:] + ("" if said.endswith((".", "!", "?", "`")) else ".")

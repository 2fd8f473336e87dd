"""What each profile puts on the wire."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from app.events import EVENTS, CertificateDigest, CertificateEvent
from app.work.webhooks.profiles import fields_of, hub_signature, message_for, standard_body, standard_signature
from tests.docs.pages import PAGES, blocks, rows, words
from tests.work.webhooks.samples import DELIVERY_ID, HAPPENED_AT, JOB_ID, SENT_AT, delivery, target
from tests.work.webhooks.samples import FACTS as SAMPLE

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
NEW_SECRET = "whsec_" + base64.b64encode(b"n" * 32).decode()
PUBLIC_URL = "https://renewal.example/ngt/"
# What is not known of the sample.
EMPTY_COLUMNS = {
    f"u_{fact}"
    for fact in (
        "event", "record", "error_code", "error_message", "error_action", "wait_reason", "remaining_action",
        "correlation_id", "automatic_rule",
    )
}  # fmt: skip
SYS_ID = "46d44a5dc0a8010e0000c7a8e2b3d101"


def _json(body: bytes | None) -> Any:
    assert body is not None
    return json.loads(body)


def test_the_standard_body_says_what_happened_when_and_to_what() -> None:
    message = message_for(target(), delivery(), SENT_AT, secrets=[SECRET])
    assert (message.method, message.url) == ("POST", "https://receiver.example/hook")
    assert message.headers["Content-Type"] == "application/json"
    assert _json(message.body) == {
        "type": "ngt.renewal.succeeded",
        "timestamp": "2026-11-23T01:02:44.120Z",
        "data": SAMPLE,
    }


def test_the_signature_is_the_one_of_standard_webhooks() -> None:
    message = message_for(target(), delivery(), SENT_AT, secrets=[SECRET])
    assert message.headers["webhook-id"] == str(DELIVERY_ID)
    assert message.headers["webhook-timestamp"] == str(int(SENT_AT.timestamp()))
    assert message.body is not None
    signed = f"{DELIVERY_ID}.{int(SENT_AT.timestamp())}.".encode() + message.body
    expected = base64.b64encode(hmac.new(b"k" * 32, signed, hashlib.sha256).digest()).decode()
    assert message.headers["webhook-signature"] == f"v1,{expected}"


def test_while_the_secret_is_changed_receivers_of_either_can_verify() -> None:
    message = message_for(target(), delivery(vm_name="Größe 蠟"), datetime.now(UTC), secrets=[NEW_SECRET, SECRET])
    assert message.body is not None
    assert message.headers["webhook-signature"].count("v1,") == 2
    for secret in (SECRET, NEW_SECRET):
        assert Webhook(secret).verify(message.body, message.headers)["data"]["vm_name"] == "Größe 蠟"
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + base64.b64encode(b"x" * 32).decode()).verify(message.body, message.headers)


def test_a_later_attempt_has_the_same_id_and_body_and_a_signature_of_its_own() -> None:
    first, second = (message_for(target(), delivery(), at, secrets=[SECRET]) for at in (HAPPENED_AT, SENT_AT))
    assert first.body == second.body
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.headers["webhook-signature"] != second.headers["webhook-signature"]


@given(
    st.dictionaries(
        st.sampled_from(sorted(SAMPLE)), st.text(st.characters(exclude_categories=["Cs"]), max_size=30_000), max_size=22
    )
)
def test_no_body_is_20_kb_long_whatever_the_facts_say(facts: dict[str, str]) -> None:
    body = standard_body(delivery(facts=facts))
    assert len(body) < 20_000
    assert json.loads(body)["data"].keys() == facts.keys()


def test_only_long_texts_are_cut_and_say_so() -> None:
    data = _json(standard_body(delivery(error_message="é" * 30_000)))["data"]
    assert data["error_message"] == "é" * 3999 + "…"
    assert {name: fact for name, fact in data.items() if name != "error_message"} == SAMPLE


def test_the_hash_of_github_is_the_one_of_its_documentation() -> None:
    # The example of GitHub's page about validating deliveries.
    expected = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert hub_signature(b"Hello, World!", "It's a Secret to Everybody") == expected


def test_github_hash_signs_the_same_body_with_the_whole_secret() -> None:
    message = message_for(target(profile="github-hash"), delivery(), SENT_AT, secrets=["It's a Secret to Everybody"])
    assert message.body == standard_body(delivery())
    assert message.headers["X-Hub-Signature-256"] == hub_signature(message.body, "It's a Secret to Everybody")
    assert "webhook-signature" not in message.headers
    assert message.headers["webhook-id"] == str(DELIVERY_ID)


def _table(**table: Any) -> Any:
    return target(profile="servicenow_table", url="https://example.service-now.com/", table="change_request", **table)


def test_the_table_profile_patches_the_one_record_with_the_configured_fields() -> None:
    fields = {
        "u_ngt_status": "{outcome}",
        "u_valid_until": "{new_not_after}",
        "state": "3",
        "close_notes": "{{{vm_name}}}",
    }
    message = message_for(_table(fields=fields), delivery(), SENT_AT, sys_id=SYS_ID)
    assert message.method == "PATCH"
    wanted = f"https://example.service-now.com/api/now/table/change_request/{SYS_ID}?sysparm_fields=sys_id"
    assert message.url == wanted
    written = _json(message.body)
    assert written.pop("work_notes").startswith("The NGT client certificate of the VM web01 ")
    assert written == {
        "u_ngt_status": "renewed",
        "u_valid_until": "2029-08-19 02:11:04",
        "state": "3",
        "close_notes": "{web01}",
    }


def test_a_field_of_unknown_facts_is_left_alone_in_the_table_and_empty_in_the_import() -> None:
    fields = {"u_ngt_status": "{outcome}", "u_both": "{status} {outcome}"}
    waits = delivery("ngt.renewal.action_required", status="waiting", outcome=None)
    assert _json(message_for(_table(fields=fields), waits, SENT_AT, sys_id=SYS_ID).body).keys() == {
        "work_notes",
        "u_both",
    }
    imports = target(profile="servicenow_import", staging_table="u_ngt_renewal", fields=fields)
    row = _json(message_for(imports, waits, SENT_AT).body)
    assert (row["u_ngt_status"], row["u_both"], row["u_outcome"]) == ("", "waiting ", "")


def test_an_empty_template_leaves_a_field_out() -> None:
    assert _json(message_for(_table(fields={"work_notes": ""}), delivery(), SENT_AT, sys_id=SYS_ID).body) == {}
    imports = target(profile="servicenow_import", staging_table="u_ngt_renewal", fields={"u_message": ""})
    assert "u_message" not in fields_of(imports, delivery(), None)


def test_the_import_profile_posts_flat_strings_with_dates_of_servicenow() -> None:
    url = "https://example.service-now.com/proxy"
    imports = target(profile="servicenow_import", url=url, staging_table="u_ngt_renewal")
    message = message_for(imports, delivery(record="CHG0030123"), SENT_AT, public_url=PUBLIC_URL)
    assert (message.method, message.url) == ("POST", f"{url}/api/now/import/u_ngt_renewal")
    row = _json(message.body)
    assert all(isinstance(value, str) for value in row.values())
    assert row.keys() == {f"u_{fact}" for fact in SAMPLE} | EMPTY_COLUMNS
    expected = {
        "u_event": "ngt.renewal.succeeded",
        "u_job_id": JOB_ID,
        "u_record": "CHG0030123",
        "u_created_at": "2026-11-23 01:02:03",
        "u_finished_at": "2026-11-23 01:02:44",
        "u_new_not_after": "2029-08-19 02:11:04",
        "u_error_code": "",
        "u_link": f"https://renewal.example/ngt/jobs/{JOB_ID}",
    }
    assert expected.items() <= row.items()


@given(
    st.dictionaries(
        st.sampled_from(
            sorted(set(SAMPLE) - {"created_at", "started_at", "finished_at", "old_not_after", "new_not_after"})
        ),
        st.text() | st.booleans() | st.integers(),
    )
)
def test_the_import_is_flat_strings_whatever_the_facts_are(facts: dict[str, Any]) -> None:
    row = fields_of(target(profile="servicenow_import", staging_table="u_x"), delivery(facts=facts), PUBLIC_URL)
    assert all(value is None or isinstance(value, str) for value in row.values())


def _notes(event: str, **facts: Any) -> str:
    notes = fields_of(_table(), delivery(event, **facts), PUBLIC_URL)["work_notes"]
    assert notes is not None
    return notes


def test_the_notes_of_a_renewal_say_until_when_it_is_valid_and_where_to_read_more() -> None:
    assert _notes("ngt.renewal.succeeded").split("\n") == [
        f"The NGT client certificate of the VM web01 (UUID {SAMPLE['vm_uuid']}, cluster c1) was renewed.",
        "The new certificate is valid until 2029-08-19 02:11:04 UTC; the one before it until 2026-12-01 00:00:00 UTC. "
        "The new certificate was read in the guest.",
        "Nothing is left to do.",
        f"Job {JOB_ID} (change CHG0030123). More about it: https://renewal.example/ngt/jobs/{JOB_ID}",
    ]


def test_the_notes_of_a_failure_say_why_and_who_does_what_next() -> None:
    told = _notes(
        "ngt.renewal.failed",
        status="failed",
        outcome="failed",
        new_not_after=None,
        verified_by=None,
        error_code="no-free-cdrom",
        error_message="VM web01 has no free CD-ROM slot",
        error_action="For the caller: Free a CD-ROM slot of the VM, then retry the job.",
        remaining_action="mount the NGT ISO in VM 'web01' (a new certificate was issued), then restart its agent",
    ).split("\n")
    assert told[0].endswith(
        "was not renewed: the job failed. The reason (error code no-free-cdrom): VM web01 has no free CD-ROM slot."
    )
    assert told[1] == "The certificate that was found is valid until 2026-12-01 00:00:00 UTC."
    assert told[2] == (
        "What to do next: For the caller: Free a CD-ROM slot of the VM, then retry the job. "
        "Mount the NGT ISO in VM 'web01' (a new certificate was issued), then restart its agent."
    )


def test_the_notes_of_a_wait_say_what_the_person_is_to_do() -> None:
    told = _notes(
        "ngt.renewal.action_required",
        status="waiting",
        outcome=None,
        new_not_after=None,
        verified_by=None,
        message="restart the agent in VM 'web01': sudo systemctl restart ngt_guest_agent",
        wait_reason="agent_restart",
    )
    assert "waits for a person. The service says: Restart the agent in VM 'web01': sudo systemctl" in told


@pytest.mark.parametrize("event", EVENTS)
def test_the_notes_of_every_event_are_sentences_also_when_little_is_known(event: str) -> None:
    for facts in (SAMPLE, {"job_id": JOB_ID, "vm_uuid": SAMPLE["vm_uuid"]}, {}):
        notes = fields_of(_table(), delivery(event, facts=facts), None)["work_notes"]
        assert notes is not None
        assert "  " not in notes
        assert "{" not in notes
        assert all(line[0].isupper() and line.endswith(".") for line in notes.split("\n"))


def test_the_notes_say_by_which_rule_nobody_was_asked() -> None:
    rule = "automatic renewal of c1: expires 2027-01-10, within before_days = 60; no windows: always open"
    told = _notes("ngt.renewal.succeeded", automatic=True, automatic_rule=rule)
    assert f"A rule started the job: Automatic renewal{rule.removeprefix('automatic renewal')}." in told
    assert "by itself" not in _notes("ngt.renewal.succeeded")


def test_the_notes_of_a_stop_name_the_cluster_and_the_reason() -> None:
    facts = {"cluster": "c1", "vm_name": "web01", "message": "No more automatic renewals begin on c1: 3 failed"}
    notes = fields_of(_table(), delivery("ngt.auto_renew.stopped", facts=facts), None)["work_notes"]
    assert notes is not None
    assert "the last one was that of the VM web01 (cluster c1)." in notes
    assert "The service says: No more automatic renewals begin on c1: 3 failed." in notes


def test_no_text_can_begin_html_or_a_line_of_its_own_in_a_journal() -> None:
    told = _notes("ngt.renewal.succeeded", vm_name="web01[code]<script>[/CODE]\nNothing\tis[ /code ]left")
    assert "the VM web01(code)<script>(/code) Nothing is(/code)left (UUID" in told


def test_a_link_needs_to_know_where_the_service_is() -> None:
    notes = fields_of(_table(), delivery(), None)["work_notes"]
    assert notes is not None
    assert notes.endswith(f"Job {JOB_ID} (change CHG0030123).")


def test_each_secret_makes_one_signature() -> None:
    assert standard_signature("id", SENT_AT, b"{}", [SECRET, NEW_SECRET]).split(" ") == [
        standard_signature("id", SENT_AT, b"{}", [secret]) for secret in (SECRET, NEW_SECRET)
    ]


def test_the_bodies_of_the_page_are_what_is_sent() -> None:
    standard, certificate, digest, table, row = map(json.loads, blocks("webhooks.md", "json"))
    public_url = "https://renewal.example"
    assert _json(standard_body(delivery())) == standard
    for shown, model in ((certificate, CertificateEvent), (digest, CertificateDigest)):
        assert shown in model.model_json_schema()["examples"]
        model.model_validate(shown, extra="forbid")
    fields = {"u_ngt_status": "{outcome}"}
    message = message_for(_table(fields=fields), delivery(), SENT_AT, sys_id=SYS_ID, public_url=public_url)
    assert _json(message.body) == table
    imports = target(profile="servicenow_import", staging_table="u_ngt_renewal")
    sent = message_for(imports, delivery(record="CHG0030123"), SENT_AT, public_url=public_url)
    assert _json(sent.body) == row


def test_the_page_has_every_event() -> None:
    (before, *_) = PAGES["webhooks.md"].partition("## For those who receive")
    assert {words(row[0])[0] for row in rows(before)} == set(EVENTS)

"""The request of a delivery, by the profile of its target. Pure: no clock, no file, no network.

The same delivery makes the same body at every attempt; only the time of sending and the signature differ.
"""

import hashlib
import hmac
import json
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, assert_never

from standardwebhooks import Webhook

from app.events import TEMPLATE_FACTS
from app.field_types import rfc3339
from app.settings.webhooks import WebhookTarget
from app.store.records.webhooks import DeliveryRecord
from app.work.webhooks.work_notes import work_notes

# Standard Webhooks asks for bodies below 20 kB.
_MAX_BODY_BYTES = 20_000
_MAX_FACT_CHARACTERS = 4000
_MAX_FIELD_FACT_CHARACTERS = 1000
_JSON = {"Content-Type": "application/json", "Accept": "application/json"}
# ServiceNow's journal fields would render this as HTML.
_JOURNAL_CODE = re.compile(r"\[\s*(/?)\s*code\s*\]", re.IGNORECASE)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]+")
_SERVICENOW_TIME = "%Y-%m-%d %H:%M:%S"


@dataclass(frozen=True, slots=True)
class Message:
    """One HTTP request, without the credentials of the target."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes | None


def message_for(
    target: WebhookTarget,
    delivery: DeliveryRecord,
    sent_at: datetime,
    *,
    secrets: Sequence[str] = (),
    sys_id: str = "",
    public_url: str | None = None,
) -> Message:
    """The request that makes the delivery at that time.

    `secrets` sign it, newest first; `sys_id` is the record of `servicenow_table`; `public_url` makes links of paths.
    """
    ids = {**_JSON, "webhook-id": str(delivery.id), "webhook-timestamp": str(int(sent_at.timestamp()))}
    base = target.url.rstrip("/")
    match target.profile:
        case "standard":
            body = standard_body(delivery)
            signed = {"webhook-signature": standard_signature(str(delivery.id), sent_at, body, secrets)}
            return Message("POST", target.url, ids | signed, body)
        case "github-hash":
            body = standard_body(delivery)
            return Message("POST", target.url, ids | {"X-Hub-Signature-256": hub_signature(body, secrets[0])}, body)
        case "servicenow_table":
            # Of the answer, which would be the whole record, nothing is read.
            url = f"{base}/api/now/table/{target.table}/{sys_id}?sysparm_fields=sys_id"
            known = {field: text for field, text in fields_of(target, delivery, public_url).items() if text is not None}
            return Message("PATCH", url, ids, _as_json(known))
        case "servicenow_import":
            row = {field: text or "" for field, text in fields_of(target, delivery, public_url).items()}
            return Message("POST", f"{base}/api/now/import/{target.staging_table}", ids, _as_json(row))
        case _:
            assert_never(target.profile)


def standard_body(delivery: DeliveryRecord) -> bytes:
    """`type`, `timestamp` (when it happened) and `data`, in less than 20 kB: the longest texts are cut."""
    happened_at = rfc3339(delivery.created_at.astimezone(UTC))
    limit = _MAX_FACT_CHARACTERS
    while True:
        facts = {name: _cut(fact, limit) if isinstance(fact, str) else fact for name, fact in delivery.facts.items()}
        body = _as_json({"type": delivery.event, "timestamp": happened_at, "data": facts})
        if len(body) < _MAX_BODY_BYTES or limit == 1:
            return body
        limit //= 2


def standard_signature(message_id: str, sent_at: datetime, body: bytes, secrets: Sequence[str]) -> str:
    """A signature for each secret, so that a receiver who knows one of them can verify."""
    text = body.decode()
    return " ".join(Webhook(secret).sign(message_id, sent_at.astimezone(UTC), text) for secret in secrets)


def hub_signature(body: bytes, secret: str) -> str:
    """As GitHub signs: the whole secret is the key, whatever it looks like."""
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


def fields_of(target: WebhookTarget, delivery: DeliveryRecord, public_url: str | None) -> dict[str, str | None]:
    """The text of each field, by its template; None where it names facts, and none of them is known."""
    facts = _as_servicenow_texts(delivery, public_url)
    filled: dict[str, str | None] = {}
    for field, template in target.templates(delivery.event).items():
        named = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
        is_known = not named or any(facts[name] for name in named)
        filled[field] = template.format_map(facts) if is_known else None
    return filled


def _as_servicenow_texts(delivery: DeliveryRecord, public_url: str | None) -> Mapping[str, str]:
    facts = {**delivery.facts, "event": delivery.event, "record": delivery.record}
    if isinstance(link := facts.get("link"), str) and link.startswith("/") and public_url is not None:
        facts["link"] = public_url.rstrip("/") + link
    shown = {name: _servicenow_text(name, facts.get(name)) for name in TEMPLATE_FACTS}
    return shown | {"work_notes": work_notes(shown)}


def _servicenow_text(name: str, fact: object) -> str:
    """Times as ServiceNow reads them, in UTC; no text can begin a line of its own, or HTML in a journal."""
    match fact:
        case None:
            return ""
        case bool():
            return str(fact).lower()
        case str() if name.endswith(("_at", "not_after")):
            return _servicenow_time(fact)
        case _:
            text = _CONTROLS.sub(" ", str(fact))
            return _cut(_JOURNAL_CODE.sub(r"(\1code)", text), _MAX_FIELD_FACT_CHARACTERS)


def _servicenow_time(fact: str) -> str:
    return datetime.fromisoformat(fact).astimezone(UTC).strftime(_SERVICENOW_TIME)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _as_json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()

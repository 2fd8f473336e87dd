"""The webhooks of the OpenAPI 3.1 document: one entry for each event, in the form of Standard Webhooks."""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.api.webhooks.events import (
    AutoRenewStopped,
    CertificateDigest,
    CertificateEvent,
    CertificateEventType,
    RenewalEvent,
    RenewalEventType,
    WebhookTest,
)

Json = dict[str, Any]

# Not the tag of any operation: openapi-generator would write one class over the other.
EVENT_TAG: Json = {
    "name": "events",
    "description": "What this service sends to the targets that its operator configured, signed as Standard Webhooks.",
}

_DIGEST = "ngt.certificate.digest"
_AUTO_RENEW_STOPPED = "ngt.auto_renew.stopped"
_TEST = "webhook.test"
# Each event with the name of its operation, what it says, and its body.
_EVENTS: dict[str, tuple[str, str, type[BaseModel]]] = {
    RenewalEventType.SUCCEEDED: ("onRenewalSucceeded", "A certificate was renewed, and that is proved", RenewalEvent),
    RenewalEventType.FAILED: ("onRenewalFailed", "A renewal failed", RenewalEvent),
    RenewalEventType.CANCELLED: ("onRenewalCancelled", "A renewal was cancelled", RenewalEvent),
    RenewalEventType.SKIPPED: ("onRenewalSkipped", "Nothing had to be done", RenewalEvent),
    RenewalEventType.UNVERIFIED: ("onRenewalUnverified", "A renewal ended without a proof", RenewalEvent),
    RenewalEventType.ACTION_REQUIRED: ("onRenewalActionRequired", "A job waits for a person", RenewalEvent),
    RenewalEventType.STRANDED: ("onRenewalStranded", "A VM may have lost its tools entity", RenewalEvent),
    CertificateEventType.EXPIRING: ("onCertificateExpiring", "A certificate comes to its end", CertificateEvent),
    CertificateEventType.EXPIRED: ("onCertificateExpired", "A certificate has expired", CertificateEvent),
    _DIGEST: ("onCertificateDigest", "The certificates of a cluster, once a day", CertificateDigest),
    _AUTO_RENEW_STOPPED: (
        "onAutoRenewStopped",
        "Automatic renewals of a cluster were stopped after failures",
        AutoRenewStopped,
    ),
    _TEST: ("onWebhookTest", "An operator tries the webhook", WebhookTest),
}

_DESCRIPTION = (
    "Verify the signature first. Answer with any status of 200 to 299, and work after that: what takes long is sent "
    "again. All other answers are repeated for days, with the same `webhook-id`; 410 ends it."
)


def _header(name: str, description: str, **schema: object) -> Json:
    return {"name": name, "in": "header", "required": True, "description": description, "schema": schema}


_HEADERS: list[Json] = [
    _header("webhook-id", "The same each time the event is sent", type="string", format="uuid"),
    _header(
        "webhook-timestamp", "When it was sent, in seconds of Unix", type="string", maxLength=20, pattern="^[0-9]+$"
    ),
    _header(
        "webhook-signature",
        "`v1,` and the HMAC-SHA256 of `id.timestamp.body` in base64; two of them while the secret is changed",
        type="string",
        maxLength=255,
    ),
]


def webhooks() -> tuple[Json, Json]:
    """The `webhooks` of the document, and the schemas that they refer to."""
    models = sorted({model for _, _, model in _EVENTS.values()}, key=lambda model: model.__name__)
    _, made = models_json_schema(
        [(model, "serialization") for model in models], ref_template="#/components/schemas/{model}"
    )
    return {event: {"post": _operation(*row)} for event, row in _EVENTS.items()}, made["$defs"]


def _operation(name: str, summary: str, model: type[BaseModel]) -> Json:
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {
        "tags": [EVENT_TAG["name"]],
        "summary": summary,
        "description": _DESCRIPTION,
        "operationId": name,
        "parameters": _HEADERS,
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {
            "2XX": {"description": "The event was taken"},
            "410": {
                "description": "Nobody wants events here any more: the target is disabled until it is enabled again"
            },
        },
        "security": [],
    }

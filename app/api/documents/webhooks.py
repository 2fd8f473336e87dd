"""The webhooks of the OpenAPI 3.1 document: one entry for each event, in the form of Standard Webhooks."""

from typing import Any

from pydantic.json_schema import models_json_schema

from app.events import EVENTS, EventDeclaration

Json = dict[str, Any]

# Not the tag of any operation: openapi-generator would write one class over the other.
EVENT_TAG: Json = {
    "name": "events",
    "description": "What this service sends to the targets that its operator configured, signed as Standard Webhooks.",
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
    models = sorted({event.body for event in EVENTS.values()}, key=lambda model: model.__name__)
    _, made = models_json_schema(
        [(model, "serialization") for model in models], ref_template="#/components/schemas/{model}"
    )
    return {name: {"post": _operation(event)} for name, event in EVENTS.items()}, made["$defs"]


def _operation(event: EventDeclaration) -> Json:
    schema = {"$ref": f"#/components/schemas/{event.body.__name__}"}
    return {
        "tags": [EVENT_TAG["name"]],
        "summary": event.summary,
        "description": _DESCRIPTION,
        "operationId": event.operation_id,
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

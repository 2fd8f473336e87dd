import json
import re
from pathlib import Path
from typing import get_args, get_origin

import pytest
from openapi_spec_validator import OpenAPIV30SpecValidator, OpenAPIV31SpecValidator
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from app import events as webhook_events
from app.api.application import create_api
from app.api.auto_renew import schemas as auto_renew_schemas
from app.api.callers.authorization import SCOPES
from app.api.diagnosis import schemas as diagnosis_schemas
from app.api.documents.openapi_30 import SOMEWHERE, plain_document
from app.api.http import schemas as answer_schemas
from app.api.inventory import schemas as vm_schemas
from app.api.scans import schemas as scan_schemas
from app.events import EVENTS, TEMPLATE_FACTS, CertificateEventType, RenewalEventType, ServiceEventType, import_facts
from tests.contract.documents import (
    BOTH,
    COMPLETE,
    PLAIN,
    Json,
    answers,
    nodes,
    operations,
    read,
    schemas,
    schemas_of_answers,
)

# What a client generator may meet; anything else, such as a union, breaks some of them.
_KEYWORDS = {
    "$ref", "default", "description", "enum", "format", "items", "maxItems", "maxLength", "maximum", "minItems",
    "minLength", "minimum", "pattern", "properties", "required", "type",
}  # fmt: skip
KEYWORDS = {COMPLETE: {*_KEYWORDS, "additionalProperties", "examples"}, PLAIN: {*_KEYWORDS, "example"}}
# What some importer of the plain document refuses or forgets, wherever it stands.
FORBIDDEN = {
    "additionalProperties", "allOf", "anyOf", "callbacks", "const", "discriminator", "examples", "links", "not",
    "nullable", "oneOf", "patternProperties", "webhooks",
}  # fmt: skip

both = pytest.mark.parametrize("path", BOTH, ids=lambda path: path.stem)


def test_the_committed_documents_are_fresh() -> None:
    document = create_api().openapi()
    assert read(COMPLETE) == document, "run `make openapi`"
    assert read(PLAIN) == plain_document(document, SOMEWHERE), "run `make openapi`"


def test_the_documents_are_valid() -> None:
    complete, plain = read(COMPLETE), read(PLAIN)
    assert (complete["openapi"], plain["openapi"]) == ("3.1.0", "3.0.3")
    OpenAPIV31SpecValidator(complete).validate()
    OpenAPIV30SpecValidator(plain).validate()


def test_every_operation_has_a_name_a_tag_and_its_security() -> None:
    document = read(COMPLETE)
    assert {operation["operationId"] for operation in operations(document)} == SCOPES.keys()
    for operation in operations(document):
        needed = SCOPES[operation["operationId"]]
        schemes = [next(iter(scheme)) for scheme in operation["security"]]
        assert schemes == ([] if needed is None else list(document["components"]["securitySchemes"]))
        for scope in needed or ():
            assert f"`{scope}`" in operation["description"]


@both
def test_names_are_unique_and_tags_are_described(path: Path) -> None:
    document = read(path)
    every = [*operations(document), *(hook["post"] for hook in document.get("webhooks", {}).values())]
    names = [operation["operationId"] for operation in every]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z][A-Za-z]+", name) for name in names)
    tags = [tag["name"] for tag in document["tags"]]
    assert all(len(operation["tags"]) == 1 for operation in every)
    assert {operation["tags"][0] for operation in every} == set(tags)


def test_every_error_is_a_problem_and_every_keyed_operation_can_be_refused() -> None:
    document = read(COMPLETE)
    assert "HTTPValidationError" not in document["components"]["schemas"]
    for operation in operations(document):
        scopes = SCOPES[operation["operationId"]]
        assert {"422", "500"} <= operation["responses"].keys()
        assert scopes is None or {"401", "503"} <= operation["responses"].keys()
        assert not scopes or "403" in operation["responses"]
    for name, status, answer in answers(document):
        assert "X-Request-ID" in answer["headers"], name
        assert answer["description"] != "Successful Response", name
        if int(status) >= 400:
            problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
            assert answer["content"] == problem, name


@both
def test_schemas_are_plain_and_limited(path: Path) -> None:
    for place, schema in schemas(read(path)):
        assert schema.keys() <= KEYWORDS[path], place
        types = schema.get("type", ())
        if "integer" in types:
            assert schema["format"] == "int32", place
            assert -(2**31) <= schema["minimum"] <= schema["maximum"] < 2**31, place
            assert all(isinstance(schema[limit], int) for limit in ("minimum", "maximum")), place
        if "string" in types and "/text~1" not in place and "/content/text/" not in place:
            assert {"maxLength", "enum"} & schema.keys() or schema["format"] in {"uuid", "date", "date-time"}, place
        if "array" in types:
            assert "maxItems" in schema, place
        if "object" in types:
            assert schema["properties"], place
        pattern = schema.get("pattern", "^$")
        assert pattern.startswith("^"), place
        assert pattern.endswith("$"), place


@both
def test_no_date_and_no_uuid_has_a_length(path: Path) -> None:
    for place, schema in schemas(read(path)):
        if schema.get("format") in {"uuid", "date", "date-time"}:
            assert not {"minLength", "maxLength"} & schema.keys(), place


@both
def test_nothing_that_is_sent_is_ever_null(path: Path) -> None:
    document = read(path)
    sent = schemas_of_answers(document)
    for place, schema in schemas(document):
        named = re.match(r"/components/schemas/([^/]+)", place)
        if "/responses/" in place or "/headers/" in place or (named and named[1] in sent):
            assert "null" not in schema.get("type", ""), place
            assert None not in schema.get("enum", ()), place
            assert "nullable" not in schema, place


def test_requests_refuse_unknown_members_and_may_be_left_out() -> None:
    document = read(COMPLETE)
    bodies = [operation["requestBody"] for operation in operations(document) if "requestBody" in operation]
    assert bodies
    for body in bodies:
        name = body["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        assert document["components"]["schemas"][name]["additionalProperties"] is False, name
        assert body["required"] is bool(document["components"]["schemas"][name].get("required")), name


@both
def test_every_reference_leads_somewhere_and_every_component_is_used(path: Path) -> None:
    document = read(path)
    references = set(re.findall(r'"#/components/([^"]+)"', json.dumps(document)))
    kinds = ("schemas", "headers")
    assert references == {f"{kind}/{name}" for kind in kinds for name in document["components"].get(kind, ())}


def test_the_links_of_a_started_job_lead_to_it() -> None:
    links = read(COMPLETE)["paths"]["/vms/{vm_uuid}/ngt/renew"]["post"]["responses"]["202"]["links"]
    assert {"getJob", "cancelJob"} <= {link["operationId"] for link in links.values()}
    assert all(link["parameters"] == {"job_id": "$response.body#/id"} for link in links.values())


def test_the_plain_document_has_nothing_that_an_importer_refuses() -> None:
    document = read(PLAIN)
    for place, node in nodes(document):
        if not place.endswith("/properties"):
            assert not FORBIDDEN & node.keys(), place
        assert node.get("format") != "int64", place
        assert "$ref" not in node or node.keys() == {"$ref"}, place
        assert str(node.get("$ref", "#/components/schemas/")).startswith("#/components/schemas/"), place
    assert set(document["components"]) == {"schemas", "securitySchemes"}


def test_the_plain_document_has_one_absolute_server_and_one_scheme() -> None:
    document = read(PLAIN)
    assert [server["url"] for server in document["servers"]] == [SOMEWHERE]
    assert re.fullmatch(r"https://[a-z.-]+", SOMEWHERE)
    [scheme] = document["components"]["securitySchemes"].values()
    assert (scheme["type"], scheme["in"], scheme["name"]) == ("apiKey", "header", "X-API-Key")
    assert all(operation["security"] in ([], [{"apiKey": []}]) for operation in operations(document))


def test_the_plain_document_has_every_operation_of_the_complete_one() -> None:
    complete, plain = read(COMPLETE), read(PLAIN)
    described = {(path, method) for path, item in complete["paths"].items() for method in item}
    assert ("/vms/{vm_uuid}/ngt/certificate", "put") in described
    assert {(path, method) for path, item in plain["paths"].items() for method in item} == described


def test_the_plain_document_asks_for_no_header_but_the_idempotency_key() -> None:
    for operation in operations(read(PLAIN)):
        for parameter in operation.get("parameters", ()):
            assert parameter["in"] in {"path", "query"} or parameter["name"] == "Idempotency-Key", operation
            assert parameter["description"], operation


def test_the_plain_document_has_one_media_type_in_each_answer_and_json_for_each_error() -> None:
    for name, status, answer in answers(read(PLAIN)):
        assert len(answer.get("content", ())) <= 1, name
        if int(status) >= 400:
            assert answer["content"] == {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}, name


def test_the_document_loses_no_description_of_a_member() -> None:
    """A description within a union is not found in the schema that is made of it."""
    for module in (answer_schemas, auto_renew_schemas, diagnosis_schemas, scan_schemas, vm_schemas, webhook_events):
        models = [each for each in vars(module).values() if isinstance(each, type) and issubclass(each, BaseModel)]
        assert models
        for model in models:
            for name, field in model.model_fields.items():
                said = [part for choice in get_args(field.annotation) for part in get_args(choice)]
                lost = [part for part in said if isinstance(part, FieldInfo) and part.description]
                assert not lost, f"{model.__name__}.{name}"


def test_no_webhook_shares_its_tag_with_an_operation() -> None:
    document = read(COMPLETE)
    of_webhooks = {item["post"]["tags"][0] for item in document["webhooks"].values()}
    assert not of_webhooks & {operation["tags"][0] for operation in operations(document)}


@pytest.mark.parametrize(
    ("model", "event"),
    [
        (webhook_events.RenewalFacts, RenewalEventType.SUCCEEDED),
        (webhook_events.CertificateFacts, CertificateEventType.EXPIRING),
        (webhook_events.CertificateFacts, CertificateEventType.EXPIRED),
        (webhook_events.DigestFacts, ServiceEventType.DIGEST),
        (webhook_events.AutoRenewStoppedFacts, ServiceEventType.AUTO_RENEW_STOPPED),
    ],
)
def test_the_facts_of_an_event_are_those_that_a_configuration_may_name(model: type[BaseModel], event: str) -> None:
    # A list has no text that a field could hold: its text is a fact of its own.
    texts = {name for name, field in model.model_fields.items() if get_origin(field.annotation) is not list}
    assert texts == import_facts(event) - {"event", "record"}
    assert import_facts(event) | {"work_notes"} <= TEMPLATE_FACTS


def test_every_event_has_a_webhook_with_the_body_that_names_it() -> None:
    document = read(COMPLETE)
    assert document["webhooks"].keys() == set(EVENTS)
    for event, item in document["webhooks"].items():
        assert item["post"]["tags"] == ["events"]
        name = item["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        body: Json = document["components"]["schemas"][name]
        assert set(body["required"]) == {"type", "timestamp", "data"}
        kind: Json = body["properties"]["type"]
        kind = kind if "enum" in kind else document["components"]["schemas"][kind["$ref"].rpartition("/")[2]]
        assert event in kind["enum"]

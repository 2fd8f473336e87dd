import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.api.application import create_api
from app.api.auth import SCOPES
from tests.api.conftest import Service

COMMITTED = Path(__file__).parents[2] / "openapi" / "openapi.json"
# What a client generator may meet; anything else, such as a union, breaks some of them.
KEYWORDS = {
    "$ref", "additionalProperties", "default", "description", "enum", "examples", "format", "items", "maxItems",
    "maxLength", "maximum", "minLength", "minimum", "pattern", "properties", "required", "type",
}  # fmt: skip


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_api().openapi()


def operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in document["paths"].values():
        yield from path.values()


def schemas(node: object, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema of the document with its place, those of properties and items too."""
    if isinstance(node, dict):
        if place.endswith(("/schema", "/items")) or re.search(r"/(schemas|properties)/[^/]+$", place):
            yield place, node
        for name, child in node.items():
            if name != "examples":
                yield from schemas(child, f"{place}/{name}")
    if isinstance(node, list):
        for number, child in enumerate(node):
            yield from schemas(child, f"{place}/{number}")


def test_the_committed_document_is_fresh(document: dict[str, Any]) -> None:
    assert json.loads(COMMITTED.read_text(encoding="utf-8")) == document, "run `make openapi`"


async def test_the_served_document_and_its_pages_need_no_key_and_no_network(service: Service) -> None:
    async with service.client() as client:
        assert (await client.get("/openapi.json")).json() == json.loads(COMMITTED.read_text(encoding="utf-8"))
        page = await client.get("/docs")
        assert page.status_code == 200
        assert '"validatorUrl": null' in page.text
        assets = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert assets
        for asset in assets:
            assert asset.startswith("/static-offline-docs/")
            assert (await client.get(asset)).status_code == 200


def test_every_operation_has_a_name_a_tag_and_its_security(document: dict[str, Any]) -> None:
    assert {operation["operationId"] for operation in operations(document)} == SCOPES.keys()
    tags = {tag["name"] for tag in document["tags"]}
    for operation in operations(document):
        name = operation["operationId"]
        assert re.fullmatch(r"[a-z][A-Za-z]+", name)
        assert len(operation["tags"]) == 1
        assert operation["tags"][0] in tags
        schemes = [next(iter(scheme)) for scheme in operation["security"]]
        assert schemes == ([] if SCOPES[name] is None else ["apiKey", "bearer", "basic"])
        for scope in SCOPES[name] or ():
            assert f"`{scope}`" in operation["description"]


def test_every_error_is_a_problem_and_every_keyed_operation_can_be_refused(document: dict[str, Any]) -> None:
    assert "HTTPValidationError" not in document["components"]["schemas"]
    for operation in operations(document):
        answers = operation["responses"]
        scopes = SCOPES[operation["operationId"]]
        assert {"422", "500"} <= answers.keys()
        assert scopes is None or {"401", "503"} <= answers.keys()
        assert not scopes or "403" in answers
        for status, answer in answers.items():
            assert "X-Request-ID" in answer["headers"]
            if int(status) >= 400:
                assert answer["content"] == {
                    "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
                }


def test_schemas_are_plain_and_limited(document: dict[str, Any]) -> None:
    for place, schema in schemas(document):
        assert schema.keys() <= KEYWORDS, place
        if schema.get("type") == "integer":
            assert schema["format"] == "int32", place
            assert {"minimum", "maximum"} <= schema.keys(), place
            assert not any(isinstance(schema[limit], float) for limit in ("minimum", "maximum")), place
        if schema.get("type") == "string" and "/properties/" in place:
            assert {"maxLength", "enum", "format"} & schema.keys(), place
        for pattern in (schema.get("pattern"),):
            assert pattern is None or (pattern.startswith("^") and pattern.endswith("$")), place


def test_nothing_in_an_answer_is_ever_null(document: dict[str, Any]) -> None:
    requests = {"RenewRequest", "PauseRequest"}
    for place, schema in schemas(document):
        if not any(f"/schemas/{name}" in place for name in requests):
            assert "null" not in schema.get("type", ""), place


def test_requests_refuse_unknown_members_and_may_be_left_out(document: dict[str, Any]) -> None:
    bodies = [operation["requestBody"] for operation in operations(document) if "requestBody" in operation]
    assert len(bodies) == 2
    for body in bodies:
        name = body["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        assert body["required"] is False
        assert document["components"]["schemas"][name]["additionalProperties"] is False


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    for reference in set(re.findall(r'"#/components/([^"]+)"', json.dumps(document))):
        kind, name = reference.split("/")
        assert name in document["components"][kind], reference

"""A null and an empty text count as omitted, in every member of every body of the document that may be omitted."""

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.api.bad_input.service import JSON, RENEW, Service

pytestmark = pytest.mark.asyncio(loop_scope="module")

_DOCUMENT = json.loads((Path(__file__).parents[3] / "openapi" / "openapi.json").read_text())
_PLACES = {"{vm_uuid}": str(uuid4()), "{cluster}": "c1"}


def _bodies() -> dict[str, tuple[str, str, dict[str, Any]]]:
    """Each operation with a body: its method, its path and the schema of its body."""
    found = {}
    for path, methods in _DOCUMENT["paths"].items():
        for method, operation in methods.items():
            if body := operation.get("requestBody"):
                reference = body["content"]["application/json"]["schema"]["$ref"]
                schema = _DOCUMENT["components"]["schemas"][reference.rpartition("/")[2]]
                found[operation["operationId"]] = (method.upper(), path, schema)
    return found


_BODIES = _bodies()
_OPTIONAL = [
    (name, member)
    for name, (_, _, schema) in _BODIES.items()
    for member in schema["properties"]
    if member not in schema.get("required", ())
]


@pytest.mark.field("D1")
@pytest.mark.parametrize("nothing", [None, ""], ids=repr)
@pytest.mark.parametrize(("operation", "member"), _OPTIONAL)
async def test_a_member_that_says_nothing_is_omitted(
    service: Service, operation: str, member: str, nothing: str | None
) -> None:
    method, path, schema = _BODIES[operation]
    for placeholder, value in _PLACES.items():
        path = path.replace(placeholder, value)
    needed = {name: schema["examples"][0][name] for name in schema.get("required", ())}
    without = await service.client.request(method, path, headers=service.key(), json=needed)
    answer = await service.client.request(method, path, headers=service.key(), json={**needed, member: nothing})
    assert answer.status_code == without.status_code != 422, answer.text
    if operation == "renewVmNgtCertificate":
        assert answer.json()["id"] == without.json()["id"], "it asks for something else"


@pytest.mark.field("D1")
@pytest.mark.parametrize("nothing", [None, ""], ids=repr)
async def test_a_member_that_is_needed_cannot_be_omitted(service: Service, nothing: str | None) -> None:
    path = f"/vms/{uuid4()}/ngt/certificate"
    answer = await service.refuses(
        422,
        "validation-failed",
        path,
        method="PUT",
        pointer="/body/certificate_pem",
        json={"certificate_pem": nothing},
    )
    assert "is missing" in answer.json()["detail"]


@pytest.mark.field("D5")
@pytest.mark.parametrize("agent", ["curl/8.5.0", "Mozilla/5.0 (Windows NT; Windows NT 10.0) PowerShell/7.4.6", ""])
async def test_a_null_for_a_body_is_refused(service: Service, agent: str) -> None:
    headers = service.key() | JSON | {"User-Agent": agent}
    answer = await service.refuses(422, "validation-failed", RENEW, content=b"null", headers=headers)
    assert "Send an object, or no body for the defaults" in answer.json()["detail"]


@pytest.mark.field("D5")
@pytest.mark.parametrize("agent", ["OpenAPI-Generator/1.0.0/go", "Java-http-client/17.0.12"])
async def test_a_null_of_a_generated_client_is_no_body(service: Service, agent: str) -> None:
    await service.accepts(content=b"null", headers=JSON | {"User-Agent": agent})

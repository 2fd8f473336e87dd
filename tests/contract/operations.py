"""The operations of the OpenAPI document as requests: path parameters and bodies are its examples."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx

from app.api.application import create_api

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation as the document describes it."""

    id: str
    method: str
    path: str
    parameters: tuple[Json, ...]
    body: Json | None
    public: bool

    def targets(self) -> dict[str, str]:
        """The example of each path parameter."""
        return {each["name"]: _example(self.id, each) for each in self.parameters if each["in"] == "path"}

    def strangers(self) -> dict[str, str]:
        """Path parameters of the right form, of which there is nothing."""
        return {name: str(uuid4()) if _is_uuid(value) else "gone" for name, value in self.targets().items()}

    async def call(
        self, client: httpx.AsyncClient, targets: dict[str, str] | None = None, **sent: Any
    ) -> httpx.Response:
        """A request that is good but for its credential, unless told otherwise."""
        needed = [each for each in self.parameters if each["in"] == "query" and each.get("required")]
        query = {each["name"]: _example(self.id, each) for each in needed}
        given = {"json": self.body, "params": query, **sent}
        path = self.path.format(**(self.targets() if targets is None else targets))
        return await client.request(self.method, path, **given)


def _is_uuid(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text) is not None


def _example(operation_id: str, parameter: Json) -> str:
    examples = [*parameter.get("examples", {}).values(), *parameter["schema"].get("examples", [])]
    assert examples, f"Give the parameter {parameter['name']} of {operation_id} an example in the document."
    return str(examples[0])


def _body(document: Json, operation: Json) -> Json | None:
    if "requestBody" not in operation:
        return None
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    assert schema.get("examples"), f"Give the body of {operation['operationId']} an example in the document."
    body: Json = schema["examples"][0]
    return body


def _operations() -> Iterator[Operation]:
    document = create_api().openapi()
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            yield Operation(
                id=described["operationId"],
                method=method.upper(),
                path=path,
                parameters=tuple(described.get("parameters", ())),
                body=_body(document, described),
                public=described["security"] == [],
            )


OPERATIONS = {operation.id: operation for operation in _operations()}

"""From the OpenAPI 3.1 document to the plain 3.0.3 one, which every importer reads: a pure function.

ServiceNow, IBM BAW, ThingWorx, Oracle and Salesforce take 3.0 only, and refuse or forget unions, maps, links,
callbacks, second servers and second ways to log in. The document omits what they refuse; the rest stays true.
"""

from typing import Any

from app.api.documents.openapi_31 import used_schemas

Json = dict[str, Any]

SOMEWHERE = "https://ngt-renewal.internal"
"""The server of a document that was made for no service in particular."""

_JSON = "application/json"
_PROBLEM_JSON = "application/problem+json"
_SCHEME = "apiKey"
_METHODS = ("get", "post", "put")
# Nobody gets it without `If-None-Match`, which is left out.
_NOT_MODIFIED = "304"
# Importers make an input of each header; all but this one may be left out without a loss for a low-code tool.
_HEADER_PARAMETERS = frozenset({"Idempotency-Key"})
_OF_OPERATION = ("tags", "summary", "description", "operationId")
_SCHEMAS = "#/components/schemas/"
_HEADERS = "#/components/headers/"

# The keywords of a schema that mean the same in both versions.
_KEPT = frozenset(
    {
        "default",
        "description",
        "enum",
        "format",
        "maxItems",
        "maxLength",
        "maximum",
        "minItems",
        "minLength",
        "minimum",
        "pattern",
        "required",
    }
)


def plain_document(document: Json, server_url: str) -> Json:
    """The finished 3.1 `document` as a 3.0.3 one whose only server is `server_url`, which must be absolute.

    Raises ValueError for a schema that has no plain form.
    """
    components = document["components"]
    paths = {path: _path(item, components) for path, item in document["paths"].items()}
    paths = {path: item for path, item in paths.items() if item}
    schemas = {name: _schema(schema, components["schemas"]) for name, schema in components["schemas"].items()}
    used = used_schemas([paths], schemas)
    tags = {tag for item in paths.values() for operation in item.values() for tag in operation["tags"]}
    return {
        "openapi": "3.0.3",
        "info": document["info"],
        "servers": [{"url": server_url.rstrip("/")}],
        "tags": [tag for tag in document["tags"] if tag["name"] in tags],
        "paths": paths,
        "components": {
            "schemas": {name: schema for name, schema in schemas.items() if name in used},
            "securitySchemes": {_SCHEME: components["securitySchemes"][_SCHEME]},
        },
    }


def _path(item: Json, components: Json) -> Json:
    return {method: _operation(item[method], components) for method in _METHODS if method in item}


def _operation(operation: Json, components: Json) -> Json:
    plain = {name: operation[name] for name in _OF_OPERATION if name in operation}
    parameters = [
        _with_schema(parameter, components["schemas"])
        for parameter in operation.get("parameters", ())
        if parameter["in"] != "header" or parameter["name"] in _HEADER_PARAMETERS
    ]
    if parameters:
        plain["parameters"] = parameters
    if body := operation.get("requestBody"):
        plain["requestBody"] = {**body, "content": _content(body["content"], components)}
    plain["responses"] = {
        status: _answer(answer, components)
        for status, answer in operation["responses"].items()
        if status != _NOT_MODIFIED
    }
    plain["security"] = [{_SCHEME: []}] if operation["security"] else []
    return plain


def _answer(answer: Json, components: Json) -> Json:
    plain: Json = {"description": answer["description"]}
    headers = {
        name: _with_schema(components["headers"][header["$ref"].removeprefix(_HEADERS)], components["schemas"])
        for name, header in answer.get("headers", {}).items()
    }
    if headers:
        plain["headers"] = headers
    if "content" in answer:
        plain["content"] = _content(answer["content"], components)
    return plain


def _content(content: Json, components: Json) -> Json:
    """One media type: JSON where it is offered. A problem is JSON, and importers know no other name for it."""
    offered = {_JSON if name == _PROBLEM_JSON else name: body for name, body in content.items()}
    name = _JSON if _JSON in offered else next(iter(offered))
    return {name: _with_schema(offered[name], components["schemas"])}


def _with_schema(part: Json, schemas: Json) -> Json:
    """A parameter, header or body: its own examples stand in the 3.1 document."""
    kept = {name: value for name, value in part.items() if name not in {"examples", "example"}}
    return {**kept, "schema": _schema(part["schema"], schemas)}


def _schema(schema: Json, schemas: Json) -> Json:
    if "$ref" in schema:
        return _reference(schema, schemas)
    plain: Json = {}
    for keyword, value in schema.items():
        match keyword:
            case "type":
                plain["type"] = _type(value)
            case "const":
                plain["enum"] = [value]
            case "enum":
                plain["enum"] = [word for word in value if word is not None]
            case "examples":
                plain["example"] = value[0]
            case "items":
                plain["items"] = _schema(value, schemas)
            case "properties":
                plain["properties"] = {name: _schema(child, schemas) for name, child in value.items()}
            case "additionalProperties" if value is False:
                # The service refuses unknown members also of those who were not told.
                pass
            case _ if keyword in _KEPT:
                plain[keyword] = value
            case _:
                raise ValueError(f"{keyword}: {value!r} has no plain form")
    return plain


def _reference(schema: Json, schemas: Json) -> Json:
    """In 3.0 nothing counts beside a reference, so words with a default or a description of their own are inlined."""
    beside = {keyword: value for keyword, value in schema.items() if keyword != "$ref"}
    target = schemas[schema["$ref"].removeprefix(_SCHEMAS)]
    return _schema({**target, **beside}, schemas) if beside and "enum" in target else {"$ref": schema["$ref"]}


def _type(given: str | list[str]) -> str:
    """A member that may be null may be left out instead."""
    words = [given] if isinstance(given, str) else [word for word in given if word != "null"]
    if len(words) != 1:
        raise ValueError(f"type: {given!r} has no plain form")
    return words[0]

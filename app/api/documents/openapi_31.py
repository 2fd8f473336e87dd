"""The OpenAPI 3.1 document, made so that generated clients and importers read it well. All edits of it stand here.

Its words are the tables of `tables`. No null in an answer, integers of 32 bits, every error as a problem, every
header described, every operation with its security.
"""

from collections.abc import Iterable, Iterator

from fastapi import FastAPI
from fastapi.routing import APIRoute

from app.api.callers.authorization import SCOPES
from app.api.documents.tables import (
    ANSWER_HEADERS,
    ANY_SCHEME,
    HEADERS,
    LICENSE,
    LINKS,
    OF_KEYS_HEADERS,
    REQUEST_HEADERS,
    SECURITY_SCHEMES,
    STATUS_HEADERS,
    Json,
)
from app.api.documents.webhooks import webhooks
from app.api.http.problems import OF_ALL, OF_BODIES, OF_KEYS, problem_responses
from app.api.http.schemas import FieldError, Problem
from app.ngt.errors import FaultCode as C
from app.settings.callers.scopes import Scope


def shape_openapi(api: FastAPI, operations: Iterable[APIRoute]) -> None:
    """Have the application's document made once, in the form that is described above."""
    make = api.openapi
    described = {route.operation_id or "" for route in operations}
    assert described == SCOPES.keys(), f"SCOPES and the routes differ in {described ^ SCOPES.keys()}"

    def openapi() -> Json:
        if api.openapi_schema is None:
            api.openapi_schema = shaped(make())
        return api.openapi_schema

    api.openapi = openapi  # type: ignore[method-assign]  # FastAPI documents this way


def shaped(document: Json) -> Json:
    """FastAPI's own document, edited in place."""
    components = document["components"]
    document["info"]["license"] = LICENSE
    document["servers"] = [{"url": "/"}]
    document["webhooks"], of_webhooks = webhooks()
    schemas = {**components["schemas"], **_problem_schemas(), **of_webhooks}
    components["securitySchemes"] = SECURITY_SCHEMES
    components["headers"] = HEADERS
    for path in document["paths"].values():
        for method, operation in path.items():
            _describe(operation, takes_body=method in {"post", "put"})
            _name_answers(operation["responses"], schemas)
    described = (document["paths"], document["webhooks"])
    _inline_words_of_parameters(document["paths"], schemas)
    for part in (*described, schemas):
        _normalise(part)
    # Words that were written out where they are used may be referred to by nothing any more.
    used = used_schemas(described, schemas)
    components["schemas"] = {name: schemas[name] for name in sorted(used)}
    return document


def _problem_schemas() -> Json:
    template = "#/components/schemas/{model}"
    problem = Problem.model_json_schema(mode="serialization", ref_template=template)
    problem.pop("$defs")
    return {"Problem": problem, "FieldError": FieldError.model_json_schema(mode="serialization", ref_template=template)}


def _describe(operation: Json, *, takes_body: bool) -> None:
    name = operation["operationId"]
    scopes = SCOPES[name]
    operation["security"] = [] if scopes is None else ANY_SCHEME
    if scopes:
        needs = " and ".join(f"`{scope}`" for scope in sorted(scopes))
        operation["description"] += f"\n\nThe key needs the scope {needs}."
    if parameters := [*operation.get("parameters", []), *REQUEST_HEADERS.get(name, [])]:
        operation["parameters"] = parameters
    for parameter in parameters:
        parameter["schema"].pop("description", None)
    if body := operation.get("requestBody"):
        # Each member documents its default for a missing body.
        is_optional = "default" in body["content"]["application/json"]["schema"]
        body["required"] = not is_optional
        body["content"]["application/json"]["schema"].pop("default", None)
    _describe_answers(name, operation["responses"], [*_codes(scopes), *(OF_BODIES if takes_body else ())])
    if scopes is not None:
        for status, answer in operation["responses"].items():
            # A caller without a valid credential has no quota.
            if status != "401":
                answer["headers"].update(_references_to(OF_KEYS_HEADERS))
    operation["responses"] = dict(sorted(operation["responses"].items()))


def _codes(scopes: frozenset[Scope] | None) -> Iterator[C]:
    yield from OF_ALL
    if scopes is not None:
        yield from OF_KEYS
    if scopes:
        yield C.INSUFFICIENT_SCOPE


def _describe_answers(operation_id: str, answers: Json, codes: Iterable[C]) -> None:
    for status, problem in problem_responses(*codes).items():
        described = answers.setdefault(str(status), problem)
        if problem["description"] not in described["description"]:
            described["description"] = f"{problem['description']}; {described['description']}"
    for status, answer in answers.items():
        names = (*ANSWER_HEADERS.get((operation_id, status), ()), *STATUS_HEADERS.get(status, ()), "X-Request-ID")
        answer["headers"] = _references_to(names)
        if links := LINKS.get((operation_id, status)):
            answer["links"] = links


def _name_answers(answers: Json, schemas: Json) -> None:
    """Replaces the default description of FastAPI by that of the schema."""
    for answer in answers.values():
        if answer["description"] == "Successful Response":
            reference = answer["content"]["application/json"]["schema"]["$ref"]
            answer["description"] = schemas[reference.rpartition("/")[2]]["description"]


def _references_to(headers: Iterable[str]) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in headers}


def _inline_words_of_parameters(paths: Json, schemas: Json) -> None:
    """A filter has the words of its own operation: more of them in an answer must not change what may be asked for."""
    for operation in (operation for path in paths.values() for operation in path.values()):
        for parameter in operation.get("parameters", ()):
            for choice in (parameter["schema"], *parameter["schema"].get("anyOf", ())):
                words = schemas.get(choice.get("$ref", "").rpartition("/")[2], {})
                if "enum" in words:
                    del choice["$ref"]
                    choice.update(type=words["type"], enum=list(words["enum"]))


def _normalise(node: object, *, in_parameter: bool = False) -> None:
    if isinstance(node, dict):
        # The titles that pydantic makes of names say nothing; a property may have this name itself.
        if isinstance(node.get("title"), str):
            del node["title"]
        _normalise_null(node, in_parameter=in_parameter)
        if "const" in node:
            node["enum"] = [node.pop("const")]
        if node.get("type") in ("integer", ["integer", "null"]):
            node["format"] = "int32"
        for limit in ("minimum", "maximum"):
            if isinstance(node.get(limit), float):
                node[limit] = int(node[limit])
    for child in _children(node):
        _normalise(child, in_parameter=in_parameter or (isinstance(node, dict) and "in" in node))


def _normalise_null(schema: Json, *, in_parameter: bool) -> None:
    """`anyOf` with null becomes a type of two words; a parameter is left out rather than null.

    So are the words of a component: a reference that may be null has no form that every generator takes, and the
    service takes a null for a member that is left out.
    """
    if schema.get("anyOf", [])[1:] != [{"type": "null"}]:
        return
    schema.update({**schema.pop("anyOf")[0], **schema})
    if not in_parameter and "$ref" not in schema:
        schema["type"] = [schema["type"], "null"]


def used_schemas(nodes: Iterable[object], schemas: Json) -> set[str]:
    """The names of the schemas that the nodes lead to, directly or through others."""
    used: set[str] = set()
    found = set(_references(nodes))
    while found:
        used |= found
        found = set(_references(schemas[name] for name in found)) - used
    return used


def _references(nodes: Iterable[object]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, dict) and isinstance(reference := node.get("$ref"), str):
            kind, _, name = reference.removeprefix("#/components/").partition("/")
            if kind == "schemas":
                yield name
        yield from _references(_children(node))


def _children(node: object) -> Iterable[object]:
    match node:
        case dict():
            return [child for name, child in node.items() if name != "examples"]
        case list():
            return node
        case _:
            return ()

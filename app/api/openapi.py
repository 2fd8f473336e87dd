"""The OpenAPI 3.1 document, made so that generated clients and importers read it well. All edits of it stand here.

No null in an answer, integers of 32 bits, every error as a problem, every header described, every operation with its
security.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from app.api.auth import SCOPES
from app.api.headers import LONGEST_WAIT_S
from app.api.problems import problem_responses
from app.api.schemas import FieldError, Problem
from app.ngt.errors import FaultCode as C
from app.store.records import Scope

Json = dict[str, Any]

DESCRIPTION = """\
Renews the client certificate of Nutanix Guest Tools of one VM with one call, and proves that it did.

Start a renewal, then poll the job as `Retry-After` says until `done` is true; `outcome` says how it ended. Errors are
`application/problem+json` (RFC 9457). What is not known is absent, never null; more members and more words may be
added. Jobs of other callers are visible to every key with the scope `jobs:read` that may use their cluster.
Send an API key in one form: when `X-API-Key` is there, `Authorization` is not looked at.
"""

TAGS: list[Json] = [
    {"name": "renewals", "description": "Starting a renewal."},
    {"name": "jobs", "description": "Reading jobs, and telling them what to do."},
    {"name": "clusters", "description": "The configured clusters."},
    {"name": "health", "description": "For load balancers, monitoring and people who ask which version this is."},
]

_SECURITY_SCHEMES: Json = {
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key of this service"},
    "bearer": {"type": "http", "scheme": "bearer", "description": "The same API key as a Bearer token"},
    "basic": {"type": "http", "scheme": "basic", "description": "The API key's id, and the key"},
}
_ANY_SCHEME: list[Json] = [{name: []} for name in _SECURITY_SCHEMES]

_PATH: Json = {"type": "string", "maxLength": 255}
_HEADERS: Json = {
    "Location": {"description": "The path of the job", "schema": _PATH},
    "Retry-After": {
        "description": "Seconds after which to ask again",
        "schema": {"type": "integer", "minimum": 1, "maximum": 3600, "format": "int32"},
    },
    "ETag": {"description": "Changes with the job", "schema": {"type": "string", "maxLength": 64}},
    "Link": {"description": 'The next page, with `rel="next"`', "schema": {"type": "string", "maxLength": 8192}},
    "Idempotency-Replayed": {
        "description": "true: this is the job of an earlier request with the same Idempotency-Key",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "Preference-Applied": {"description": "The wait that was kept to", "schema": {"type": "string", "maxLength": 16}},
    "Allow": {"description": "The methods of the path", "schema": {"type": "string", "maxLength": 255}},
    "WWW-Authenticate": {"description": "How to log in", "schema": {"type": "string", "maxLength": 1024}},
    "X-Request-ID": {
        "description": "The request's own id when it sent one, else a new one; the log has it",
        "schema": {"type": "string", "maxLength": 128},
    },
}
_JOB_HEADERS = ("ETag", "Retry-After")
# The headers of single answers, by operation and status.
_ANSWER_HEADERS: dict[tuple[str, str], tuple[str, ...]] = {
    ("renewVmNgtCertificate", "200"): ("Location", "ETag", "Idempotency-Replayed", "Preference-Applied"),
    ("renewVmNgtCertificate", "202"): ("Location", *_JOB_HEADERS, "Idempotency-Replayed", "Preference-Applied"),
    ("renewVmNgtCertificate", "409"): ("Location",),
    ("listJobs", "200"): ("Link",),
    ("getJob", "200"): _JOB_HEADERS,
    ("getJob", "304"): _JOB_HEADERS,
    ("getJobResult", "200"): ("ETag",),
    ("getJobResult", "202"): _JOB_HEADERS,
    ("cancelJob", "202"): ("ETag",),
    ("retryJob", "202"): _JOB_HEADERS,
    ("retryJob", "409"): ("Location",),
    ("reportAgentRestarted", "202"): _JOB_HEADERS,
}
_STATUS_HEADERS = {"401": ("WWW-Authenticate",), "429": ("Retry-After",), "503": ("Retry-After",)}

_IDEMPOTENCY_KEY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Of your own making, new for each renewal: repeat a request with it and no second job is started",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!#-~]+$"},
}
_PREFER: Json = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": f"`wait=N`: seconds to wait for the end of the job, at most {LONGEST_WAIT_S}",
    "schema": {"type": "string"},
}
_IF_NONE_MATCH: Json = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "The ETag of what you have: an unchanged job is answered with 304",
    "schema": {"type": "string"},
}
_REQUEST_HEADERS: dict[str, list[Json]] = {
    "renewVmNgtCertificate": [_IDEMPOTENCY_KEY, _PREFER],
    "getJob": [_IF_NONE_MATCH],
}

_TO_THE_JOB: Json = {"job_id": "$response.body#/id"}
_LINKS: dict[tuple[str, str], Json] = {
    ("renewVmNgtCertificate", "202"): {
        name: {"operationId": name, "parameters": _TO_THE_JOB} for name in ("getJob", "getJobResult", "cancelJob")
    },
}

# The problems of many operations; those of one stand at its route.
_OF_ALL = (C.VALIDATION_FAILED, C.INTERNAL_ERROR)
_OF_KEYS = (C.UNAUTHENTICATED, C.TOKEN_EXPIRED, C.TOKEN_REVOKED, C.DATABASE_UNAVAILABLE)
_OF_BODIES = (C.MALFORMED_JSON, C.BODY_TOO_LARGE, C.UNSUPPORTED_MEDIA_TYPE)


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
    components["schemas"] = dict(sorted({**components["schemas"], **_problem_schemas()}.items()))
    components["securitySchemes"] = _SECURITY_SCHEMES
    components["headers"] = _HEADERS
    document["servers"] = [{"url": "/"}]
    for path in document["paths"].values():
        for method, operation in path.items():
            _describe(operation, takes_body=method == "post")
    for part in (document["paths"], components["schemas"]):
        _inline_nullable_words(part, components["schemas"])
        _mend(part)
    return document


def _problem_schemas() -> Json:
    template = "#/components/schemas/{model}"
    problem = Problem.model_json_schema(mode="serialization", ref_template=template)
    problem.pop("$defs")
    return {"Problem": problem, "FieldError": FieldError.model_json_schema(mode="serialization", ref_template=template)}


def _describe(operation: Json, *, takes_body: bool) -> None:
    name = operation["operationId"]
    scopes = SCOPES[name]
    operation["security"] = [] if scopes is None else _ANY_SCHEME
    if scopes:
        needs = " and ".join(f"`{scope}`" for scope in sorted(scopes))
        operation["description"] += f"\n\nThe key needs the scope {needs}."
    if parameters := [*operation.get("parameters", []), *_REQUEST_HEADERS.get(name, [])]:
        operation["parameters"] = parameters
    for parameter in parameters:
        parameter["schema"].pop("description", None)
    if body := operation.get("requestBody"):
        body["required"] = False
        # What no body means stands at each member.
        body["content"]["application/json"]["schema"].pop("default")
    _describe_answers(name, operation["responses"], [*_codes(scopes), *(_OF_BODIES if takes_body else ())])
    operation["responses"] = dict(sorted(operation["responses"].items()))


def _codes(scopes: frozenset[Scope] | None) -> Iterator[C]:
    yield from _OF_ALL
    if scopes is not None:
        yield from _OF_KEYS
    if scopes:
        yield C.INSUFFICIENT_SCOPE


def _describe_answers(operation_id: str, answers: Json, codes: Iterable[C]) -> None:
    for status, problem in problem_responses(*codes).items():
        described = answers.setdefault(str(status), problem)
        if problem["description"] not in described["description"]:
            described["description"] = f"{problem['description']}; {described['description']}"
    for status, answer in answers.items():
        names = (*_ANSWER_HEADERS.get((operation_id, status), ()), *_STATUS_HEADERS.get(status, ()), "X-Request-ID")
        answer["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
        if links := _LINKS.get((operation_id, status)):
            answer["links"] = links


def _inline_nullable_words(node: object, schemas: Json) -> None:
    """A reference that may be null has no form that every client takes, so the words stand where they are used."""
    if isinstance(node, dict):
        for choice in node.get("anyOf", []):
            words = schemas.get(choice.get("$ref", "").rpartition("/")[2], {})
            if "enum" in words:
                choice.clear()
                choice.update(type=words["type"], enum=list(words["enum"]))
    for child in _children(node):
        _inline_nullable_words(child, schemas)


def _mend(node: object, *, in_parameter: bool = False) -> None:
    if isinstance(node, dict):
        # The titles that pydantic makes of names say nothing; a property may have this name itself.
        if isinstance(node.get("title"), str):
            del node["title"]
        _mend_null(node, in_parameter=in_parameter)
        if node.get("type") in ("integer", ["integer", "null"]):
            node["format"] = "int32"
        for limit in ("minimum", "maximum"):
            if isinstance(node.get(limit), float):
                node[limit] = int(node[limit])
    for child in _children(node):
        _mend(child, in_parameter=in_parameter or (isinstance(node, dict) and "in" in node))


def _mend_null(schema: Json, *, in_parameter: bool) -> None:
    """`anyOf` with null becomes a type of two words; a parameter is left out rather than null."""
    if schema.get("anyOf", [])[1:] != [{"type": "null"}]:
        return
    schema.update({**schema.pop("anyOf")[0], **schema})
    if not in_parameter:
        schema["type"] = [schema["type"], "null"]
        if "enum" in schema:
            schema["enum"] = [*schema["enum"], None]


def _children(node: object) -> Iterable[object]:
    match node:
        case dict():
            return [child for name, child in node.items() if name != "examples"]
        case list():
            return node
        case _:
            return ()

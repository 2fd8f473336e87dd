"""What a person or an importer copies from the documents, or from openapi/examples, is right."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from openapi_schema_validator import OAS30Validator, OAS31Validator, oas30_format_checker, oas31_format_checker

from app.api.http.problems import STATUS
from app.ngt.errors import RULES, FaultCode
from tests.contract.documents import BOTH, COMPLETE, FOLDER, Json, nodes, read
from tests.docs.pages import blocks

EXAMPLES = sorted((FOLDER / "examples").glob("*/*.json"))


def faults(document: Json, schema: Json, example: object) -> list[str]:
    """Why the example is not what the schema says."""
    # The references of the schema lead into the document's components.
    whole = {**schema, "components": document["components"]}
    if document["openapi"].startswith("3.0"):
        validator = OAS30Validator(whole, format_checker=oas30_format_checker)
    else:
        validator = OAS31Validator(whole, format_checker=oas31_format_checker)
    return [f"{fault.json_path}: {fault.message}" for fault in validator.iter_errors(example)]


def examples_within(document: Json) -> Iterator[tuple[str, Json, object]]:
    """Every example of the document, with its place and its schema."""
    for place, node in nodes(document):
        schema = {name: value for name, value in node.items() if name not in {"example", "examples"}}
        if place.endswith(("/properties", "/paths")):
            continue
        if isinstance(given := node.get("examples"), list):
            yield from ((place, schema, each) for each in given)
        elif isinstance(given, dict):
            yield from ((place, node["schema"], each["value"]) for each in given.values())
        if "example" in node:
            yield place, node.get("schema", schema), node["example"]


@pytest.mark.parametrize("path", BOTH, ids=lambda path: path.stem)
def test_every_example_within_a_document_fits_its_schema(path: Path) -> None:
    document = read(path)
    found = list(examples_within(document))
    assert len(found) > 10
    for place, schema, example in found:
        assert faults(document, schema, example) == [], place


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_example_beside_the_documents_fits_the_schema_of_its_folder(path: Path) -> None:
    example = json.loads(path.read_text("utf-8"))
    for document in map(read, BOTH):
        if path.parent.name in document["components"]["schemas"] or document["openapi"].startswith("3.1"):
            assert faults(document, {"$ref": f"#/components/schemas/{path.parent.name}"}, example) == []
    members = read(COMPLETE)["components"]["schemas"][path.parent.name]["properties"]
    assert example.keys() <= members.keys(), "an example has only members that are described"


@pytest.mark.parametrize(
    "path", [path for path in EXAMPLES if path.parent.name == "Problem"], ids=lambda path: path.stem
)
def test_every_example_of_a_problem_says_what_the_service_says(path: Path) -> None:
    problem = json.loads(path.read_text("utf-8"))
    rule = RULES[FaultCode(problem["code"])]
    assert path.stem == problem["code"]
    assert problem["status"] == STATUS[FaultCode(problem["code"])]
    assert (problem["title"], problem["action"], problem["retryable"]) == (rule.title, rule.action, rule.retryable)


def test_the_problem_of_the_page_for_callers_is_the_example() -> None:
    (problem,) = blocks("api.md", "json")
    assert json.loads(problem) == json.loads(
        (FOLDER / "examples" / "Problem" / "validation-failed.json").read_text("utf-8")
    )


def test_an_example_that_does_not_fit_is_found() -> None:
    document = read(COMPLETE)
    job = json.loads((FOLDER / "examples" / "Job" / "queued.json").read_text("utf-8"))
    wrong = {**job, "id": "1", "created_at": "yesterday", "attempt": 1.5}
    assert len(faults(document, {"$ref": "#/components/schemas/Job"}, wrong)) == 3

"""The committed OpenAPI documents, and ways to walk them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Json = dict[str, Any]

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "openapi"
COMPLETE = FOLDER / "openapi.json"
PLAIN = FOLDER / "openapi-3.0.json"
RELEASED = FOLDER / "released.json"
BOTH = (COMPLETE, PLAIN)

# Names below these are a caller's or ours, and no keywords.
_NAMED = re.compile(r"/(?:properties|schemas|headers|content|paths|webhooks|responses|links)$")


def read(path: Path) -> Json:
    document: Json = json.loads(path.read_text("utf-8"))
    return document


def nodes(node: object, place: str = "") -> Iterator[tuple[str, Json]]:
    """Every object of the document with its place, but for what stands in examples."""
    if isinstance(node, dict):
        yield place, node
        for name, child in node.items():
            if _NAMED.search(place) or name not in {"example", "examples"}:
                yield from nodes(child, f"{place}/{name}")
    if isinstance(node, list):
        for number, child in enumerate(node):
            yield from nodes(child, f"{place}/{number}")


def schemas(document: Json) -> Iterator[tuple[str, Json]]:
    """Every schema of the document with its place, those of properties and items too."""
    for place, node in nodes(document):
        if place.endswith(("/schema", "/items")) or re.search(r"/(?:schemas|properties)/[^/]+$", place):
            yield place, node


def operations(document: Json) -> Iterator[Json]:
    """What can be called; not the webhooks."""
    for path in document["paths"].values():
        yield from path.values()


def answers(document: Json) -> Iterator[tuple[str, str, Json]]:
    """Every answer with its operation and status."""
    for operation in operations(document):
        for status, answer in operation["responses"].items():
            yield operation["operationId"], status, answer


def schemas_of_answers(document: Json) -> set[str]:
    """The names of the schemas that answers and webhooks lead to."""
    sent = [answer for _, _, answer in answers(document)]
    sent += [path["post"]["requestBody"] for path in document.get("webhooks", {}).values()]
    used: set[str] = set()
    found = _referred(sent)
    while found:
        used |= found
        found = _referred([document["components"]["schemas"][name] for name in found]) - used
    return used


def _referred(node: object) -> set[str]:
    return set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(node)))

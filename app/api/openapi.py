"""The OpenAPI 3.1 document, made so that generated clients and importers read it well. All edits stand here."""

from typing import Any

from fastapi import FastAPI

DESCRIPTION = ""
TAGS: list[dict[str, Any]] = []


def shape_openapi(api: FastAPI, operations: Any) -> None:
    return None

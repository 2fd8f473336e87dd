"""What all answers share: a body as JSON, and members that are absent when they are not known."""

from collections.abc import Mapping
from typing import TypeVar
from uuid import UUID

from fastapi import Response
from pydantic import MISSING, BaseModel

_JSON = "application/json"

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


def json_answer(body: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(body.model_dump_json(), status, headers, _JSON)


def from_record(model: type[M], record: object, **differences: object) -> M:
    """The model with the record's values of the same names, except for `differences`; unknown values are omitted."""
    same = model.model_fields.keys() - differences.keys()
    values = {name: getattr(record, name, None) for name in same} | differences
    return model(**{name: _text_of_id(value) for name, value in values.items() if value is not None})


def _text_of_id(value: object) -> object:
    return str(value) if isinstance(value, UUID) else value


def or_missing(value: T | None) -> T | MISSING:
    """An unknown value is omitted."""
    return MISSING if value is None else value

"""The field types of all responses and events.

Responses are flat, because low-code tools cannot follow nesting. Unknown values are omitted, and texts are cut at
their documented maximum.
"""

from datetime import datetime
from functools import partial
from typing import Annotated, Any, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

from app.ngt.sentences import shorten

_DATE_TIME = WithJsonSchema({"type": "string", "format": "date-time"})


def rfc3339(time: datetime, timespec: str = "milliseconds") -> str:
    """A time of UTC as RFC 3339 writes it."""
    return time.isoformat(timespec=timespec).removesuffix("+00:00") + "Z"


# Times of the service have milliseconds; dates of certificates have whole seconds.
Instant = Annotated[datetime, PlainSerializer(rfc3339, return_type=str), _DATE_TIME]
CertificateDate = Annotated[
    datetime, PlainSerializer(lambda time: rfc3339(time, "seconds"), return_type=str), _DATE_TIME
]


def _cut_after(longest: int) -> AfterValidator:
    """Texts of CVMs and callers have any length; clients rely on the documented maximum."""
    return AfterValidator(partial(shorten, longest=longest))


_TEXT = WithJsonSchema({"type": "string", "maxLength": 20_000})
_WORD = WithJsonSchema({"type": "string", "maxLength": 255})
Text = Annotated[str, _cut_after(20_000), _TEXT]
Word = Annotated[str, _cut_after(255), _WORD]
# With every character escaped as \uXXXX, the body of an event of such texts stays below 20 kB.
EventText = Annotated[str, _cut_after(600), _TEXT]
EventName = Annotated[str, _cut_after(100), _WORD]
Id = Annotated[str, WithJsonSchema({"type": "string", "format": "uuid"})]
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
Lines = Annotated[list[Text], Field(max_length=1000)]
DaysLeft = Annotated[int, Field(ge=-(2**31), le=2**31 - 1)]


class ResponseModel(BaseModel):
    """The base of every answer and event."""

    model_config = ConfigDict(frozen=True)


def example(shown: dict[str, Any]) -> ConfigDict:
    """The configuration of an answer that is shown in the OpenAPI document with this example."""
    return ConfigDict(frozen=True, json_schema_extra={"examples": [shown]})


M = TypeVar("M", bound=BaseModel)


def from_record(model: type[M], record: object, **differences: object) -> M:
    """The model with the record's values of the same names, except for `differences`; unknown values are omitted."""
    same = model.model_fields.keys() - differences.keys()
    values = {name: getattr(record, name, None) for name in same} | differences
    return model(**{name: _text_of_id(value) for name, value in values.items() if value is not None})


def _text_of_id(value: object) -> object:
    return str(value) if isinstance(value, UUID) else value

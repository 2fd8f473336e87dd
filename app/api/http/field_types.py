"""What all answers and events are made of. They are flat, for low-code tools read them.

What is not known is absent, never null, and a text is cut where a client was told that it ends.
"""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

_DATE_TIME = WithJsonSchema({"type": "string", "format": "date-time"})


def _to_milliseconds(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _to_seconds(time: datetime) -> str:
    return time.isoformat(timespec="seconds").removesuffix("+00:00") + "Z"


# What the service did, to the millisecond; and the dates of certificates, which have whole seconds.
Instant = Annotated[datetime, PlainSerializer(_to_milliseconds, return_type=str), _DATE_TIME]
CertificateDate = Annotated[datetime, PlainSerializer(_to_seconds, return_type=str), _DATE_TIME]


def _cut_after(longest: int) -> AfterValidator:
    """What a CVM or a caller said may be of any length; clients were told how long it is at most."""
    return AfterValidator(lambda text: text if len(text) <= longest else text[: longest - 1] + "…")


Text = Annotated[str, _cut_after(20_000), WithJsonSchema({"type": "string", "maxLength": 20_000})]
Word = Annotated[str, _cut_after(255), WithJsonSchema({"type": "string", "maxLength": 255})]
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

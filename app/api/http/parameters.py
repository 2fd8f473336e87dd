"""The texts that several operations take: their forms, and how long they may be."""

import re
from datetime import datetime
from typing import Annotated

from fastapi import Path
from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field

from app.ngt.vocabulary import parse_vm_uuid

CLUSTER_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}$"
# Free text of a caller, without control characters: it is stored and shown, and never part of a command.
NOTE_PATTERN = r"^[^\u0000-\u001f\u007f-\u009f]*$"
CHANGE_NUMBER_PATTERN = r"^[!-~]*$"

ClusterText = Annotated[str, Field(pattern=CLUSTER_PATTERN, max_length=63)]
Note = Annotated[str, Field(pattern=NOTE_PATTERN, max_length=100)]
ChangeNumber = Annotated[str, Field(pattern=CHANGE_NUMBER_PATTERN, max_length=40)]
CursorInQuery = Annotated[
    Annotated[str, Field(max_length=200)] | None, Field(description="`next_cursor` of the page before")
]
"""The cursor of a list that is ordered by time."""

_UUID = "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
MOST_IDS = 100
JOB_IDS_PATTERN = rf"^{_UUID}(?:,{_UUID}){{0,{MOST_IDS - 1}}}$"


_DATE_AND_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d")


def _require_date_and_time(time: object) -> object:
    """Rejects a bare number, which pydantic would read as seconds of Unix time."""
    if isinstance(time, datetime) or (isinstance(time, str) and _DATE_AND_TIME.match(time)):
        return time
    raise ValueError("a time is written as in 2026-11-23T01:02:03Z")


Timestamp = Annotated[AwareDatetime, BeforeValidator(_require_date_and_time), Field(strict=False)]
"""A time with its offset from UTC; a blank may separate date and time, and the seconds may be absent."""

VmUuidInPath = Annotated[
    str,
    Path(
        description="In upper or lower case",
        json_schema_extra={"format": "uuid"},
        examples=["20edafba-1b5c-4a7e-8d1f-0b6f6a9d2c11"],
    ),
    AfterValidator(parse_vm_uuid),
]

ClusterName = Annotated[
    str, Path(description="As in the configuration", pattern=CLUSTER_PATTERN, max_length=63, examples=["c1"])
]

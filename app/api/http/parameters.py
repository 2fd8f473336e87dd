"""The texts that several operations take: their forms, and how long they may be."""

from typing import Annotated

from pydantic import Field

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

"""Schemas of problems (RFC 9457)."""

from typing import Annotated

from pydantic import MISSING, Field

from app.field_types import Id, ResponseModel, Text, Word, example


class FieldError(ResponseModel):
    """One value that is refused."""

    pointer: Annotated[Word, Field(description="JSON Pointer into the request: /body/…, /query/…, /path/…, /header/…")]
    detail: Text


class Problem(ResponseModel):
    """An error, as RFC 9457 has it."""

    model_config = example(
        {
            "type": "urn:problem:ngt-renewal:job-not-found",
            "title": "No such job",
            "status": 404,
            "detail": "There is no job 0199c1f2-0000-7000-8000-000000000000.",
            "instance": "/jobs/0199c1f2-0000-7000-8000-000000000000",
            "code": "job-not-found",
            "action": "Check the id; finished jobs are kept 90 days unless configured otherwise.",
            "retryable": False,
            "request_id": "0199c1f2-7d10-7b52-a1ad-3a0f0c9a0b6e",
        }
    )

    type: Word
    title: Word
    status: Annotated[int, Field(ge=400, le=599)]
    detail: Text | MISSING = MISSING
    instance: Annotated[Text, Field(description="The path of the request")]
    code: Annotated[Word, Field(description="A stable word; more may be added")]
    action: Annotated[Text, Field(description="What to do next")]
    retryable: Annotated[bool, Field(description="Whether the same request can succeed later")]
    request_id: Word
    errors: Annotated[list[FieldError], Field(max_length=100)] | MISSING = MISSING
    job_id: Annotated[Id | MISSING, Field(description="The open job of a VM that is busy")] = MISSING

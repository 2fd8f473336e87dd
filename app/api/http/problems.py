"""From a fault to an answer of RFC 9457: the one place that knows which status a fault has over HTTP."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import MISSING
from starlette.exceptions import HTTPException

from app.api.callers.authentication import NoCredential
from app.api.callers.authorization import InsufficientScope
from app.api.callers.rate_limits import RateLimited
from app.api.http.parameters import CHANGE_NUMBER_PATTERN, CLUSTER_PATTERN, JOB_IDS_PATTERN, MOST_IDS, NOTE_PATTERN
from app.api.http.schemas import FieldError, Problem
from app.ngt.errors import RULES, Fault, FaultCode
from app.ngt.errors import FaultCode as C
from app.store.jobs.start import VmBusy

PROBLEM_JSON = "application/problem+json"
_TYPE = "urn:problem:ngt-renewal:"
_C = FaultCode

# A fault that stands nowhere here happens in jobs alone; met in a request it is a fault of this service.
STATUS: dict[FaultCode, int] = {
    _C.MALFORMED_REQUEST: 400,
    _C.MALFORMED_JSON: 400,
    _C.IDEMPOTENCY_KEY_INVALID: 400,
    _C.CALLBACK_NOT_ALLOWED: 400,
    _C.PRIVATE_KEY_REFUSED: 400,
    _C.UNAUTHENTICATED: 401,
    _C.TOKEN_EXPIRED: 401,
    _C.TOKEN_REVOKED: 401,
    _C.INSUFFICIENT_SCOPE: 403,
    _C.TARGET_NOT_ALLOWED: 403,
    _C.VM_NOT_FOUND: 404,
    _C.JOB_NOT_FOUND: 404,
    _C.SCAN_NOT_FOUND: 404,
    _C.CLUSTER_NOT_FOUND: 404,
    _C.WEBHOOK_NOT_FOUND: 404,
    _C.DELIVERY_NOT_FOUND: 404,
    _C.ROUTE_NOT_FOUND: 404,
    _C.METHOD_NOT_ALLOWED: 405,
    _C.VM_BUSY: 409,
    _C.JOB_NOT_CANCELLABLE: 409,
    _C.JOB_NOT_RETRYABLE: 409,
    _C.JOB_NOT_WAITING: 409,
    _C.DELIVERY_NOT_REPLAYABLE: 409,
    _C.BODY_TOO_LARGE: 413,
    _C.UNSUPPORTED_MEDIA_TYPE: 415,
    _C.VALIDATION_FAILED: 422,
    _C.IDEMPOTENCY_KEY_REUSED: 422,
    _C.AGENT_RESTART_NOT_POSSIBLE: 422,
    _C.NOT_VERIFIABLE: 422,
    _C.RATE_LIMITED: 429,
    _C.HEAD_TOO_LARGE: 431,
    _C.INTERNAL_ERROR: 500,
    _C.QUEUE_FULL: 503,
    _C.TOO_MANY_WAITS: 503,
    _C.ISSUER_UNAVAILABLE: 503,
    _C.DATABASE_UNAVAILABLE: 503,
    _C.DRAINING: 503,
}

# A body of a thousand unknown members is not worth a thousand sentences.
_MOST_ERRORS = 100
# Seconds after which another try makes sense.
_RETRY_AFTER_S = {429: 5, 503: 5}

# The sentence for a text that does not match its pattern.
_FORMS = {
    CLUSTER_PATTERN: "The name of a cluster has small letters, digits and hyphens",
    NOTE_PATTERN: "Control characters, such as the end of a line, are not accepted",
    CHANGE_NUMBER_PATTERN: "Only visible ASCII characters are accepted, without blanks",
    JOB_IDS_PATTERN: f"The ids of 1 to {MOST_IDS} jobs are written with commas between, and without blanks",
}

# The refusals of the framework itself.
_OF_FRAMEWORK = {
    400: (_C.MALFORMED_JSON, "The body could not be read."),
    404: (_C.ROUTE_NOT_FOUND, "There is nothing at this path."),
    405: (_C.METHOD_NOT_ALLOWED, "This path does not take this method."),
    413: (_C.BODY_TOO_LARGE, "The body is too large."),
    415: (_C.UNSUPPORTED_MEDIA_TYPE, "The media type of the body is not supported."),
}


class InvalidRequest(Fault):
    """The request is not valid, each fault with the place where it is; at least one."""

    def __init__(self, errors: Sequence[FieldError]) -> None:
        self.errors = tuple(errors)
        one = len(self.errors) == 1
        count, which = ("one value", "It is") if one else (f"{len(self.errors)} values", "The first one is")
        # Many tools show nothing but the one sentence of `detail`, so it must be enough to correct a request.
        first = f"{self.errors[0].pointer}: {self.errors[0].detail.removesuffix('.')}"
        super().__init__(
            FaultCode.VALIDATION_FAILED, f"The request has {count} that cannot be accepted. {which} {first}."
        )


def invalid(detail: str, *place: str) -> InvalidRequest:
    """One value is refused; `place` is path, query, header or body, and the names below it."""
    return InvalidRequest([FieldError(pointer=_pointer(place), detail=detail)])


def answer_fault(request: Request, fault: Fault) -> Response:
    """The answer to a request that met this fault. Of a fault that belongs to no request nothing is shown."""
    if fault.code not in STATUS:
        return answer_unknown_fault(request)
    if isinstance(fault, VmBusy) and not fault.job.visible_to(request.state.caller):
        fault = Fault(fault.code, f"VM {fault.job.vm_uuid} is being renewed by a job that your key may not see.")
    return _answer(request, fault, STATUS[fault.code], fault.errors if isinstance(fault, InvalidRequest) else ())


def answer_unknown_fault(request: Request) -> Response:
    """Something broke: the answer tells nothing but the id under which the log has it."""
    unknown = Fault(FaultCode.INTERNAL_ERROR, "The request failed through no fault of yours.")
    return _answer(request, unknown, STATUS[FaultCode.INTERNAL_ERROR])


def answer_not_ready(request: Request, faults: Mapping[str, Fault], *, verbose: bool) -> Response:
    """The service cannot work at the moment: the first of the faults, and with `verbose` all of them by their check."""
    first = next(iter(faults.values()))
    errors = [FieldError(pointer=_pointer(("checks", name)), detail=fault.message) for name, fault in faults.items()]
    return _answer(request, first, HTTPStatus.SERVICE_UNAVAILABLE, errors if verbose else ())


def fault_of_framework(raised: HTTPException | RequestValidationError) -> Fault:
    """The fault for a refusal of FastAPI or Starlette."""
    if isinstance(raised, HTTPException):
        return Fault(*_OF_FRAMEWORK.get(raised.status_code, (_C.INTERNAL_ERROR, "The request failed.")))
    return InvalidRequest([_field_error(error) for error in raised.errors()])


def problem_responses(*codes: FaultCode) -> dict[int | str, dict[str, Any]]:
    """The answers of a route that are problems, for its description."""
    titles: dict[int, list[str]] = {}
    for code in codes:
        titles.setdefault(STATUS[code], []).append(f"`{code}`: {RULES[code].title}")
    content = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": "; ".join(said), "content": content} for status, said in sorted(titles.items())}


def _answer(request: Request, fault: Fault, status: int, errors: Sequence[FieldError] = ()) -> Response:
    problem = Problem(
        type=_TYPE + fault.code,
        title=fault.rule.title,
        status=status,
        detail=MISSING if status == HTTPStatus.INTERNAL_SERVER_ERROR else fault.message,
        instance=request.state.path,
        code=fault.code,
        action=fault.rule.action,
        retryable=fault.rule.retryable,
        request_id=request.state.request_id,
        errors=list(errors[:_MOST_ERRORS]) or MISSING,
        job_id=str(fault.job.id) if isinstance(fault, VmBusy) else MISSING,
    )
    headers = _headers(fault, status)
    return Response(problem.model_dump_json(), status, headers, PROBLEM_JSON)


def _headers(fault: Fault, status: int) -> Mapping[str, str]:
    headers = {}
    if status in _RETRY_AFTER_S:
        headers["Retry-After"] = str(_RETRY_AFTER_S[status])
    if isinstance(fault, RateLimited):
        headers["Retry-After"] = str(fault.retry_after_s)
    if status == HTTPStatus.UNAUTHORIZED:
        error = "" if isinstance(fault, NoCredential) else ', error="invalid_token"'
        headers["WWW-Authenticate"] = f'Bearer realm="ngt-renewal"{error}, Basic realm="ngt-renewal", charset="UTF-8"'
    if isinstance(fault, InsufficientScope):
        scope = " ".join(sorted(fault.missing))
        headers["WWW-Authenticate"] = f'Bearer realm="ngt-renewal", error="insufficient_scope", scope="{scope}"'
    if isinstance(fault, VmBusy):
        headers["Location"] = f"/jobs/{fault.job.id}"
    return headers


def _field_error(error: Mapping[str, Any]) -> FieldError:
    # Pydantic's own words for a misspelt member, "Extra inputs are not permitted", and a pattern help nobody.
    said = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        said = "There is no such member; `/docs` lists those that there are."
    elif error["type"] == "string_pattern_mismatch":
        said = _FORMS.get(error["ctx"]["pattern"], said)
    return FieldError(pointer=_pointer(error["loc"]), detail=said)


def _pointer(place: Sequence[object]) -> str:
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in place)


# The problems of many operations; those of one stand at its route.
OF_ALL = (C.VALIDATION_FAILED, C.INTERNAL_ERROR)


OF_KEYS = (
    C.UNAUTHENTICATED,
    C.TOKEN_EXPIRED,
    C.TOKEN_REVOKED,
    C.RATE_LIMITED,
    C.ISSUER_UNAVAILABLE,
    C.DATABASE_UNAVAILABLE,
)


OF_BODIES = (C.MALFORMED_JSON, C.BODY_TOO_LARGE, C.UNSUPPORTED_MEDIA_TYPE)

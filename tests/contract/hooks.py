"""What Schemathesis has to know beyond the document; `openapi/schemathesis.toml` names this module.

Each exception is as narrow as a problem's code and the place that it points at.
"""

import json
from http import HTTPStatus
from typing import Any

import schemathesis
from schemathesis import Case, HookContext, Response
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.openapi.checks import RejectedPositiveData

_LONGEST_WAIT_S = 20
# A null is taken for a member that is left out. Documents do not say so of these: many generators would make several
# classes of each.
_MAY_BE_NULL = ("mode", "restart_agent")

# Why a request may be refused that is all that its schema asks for: by the problem's code, and where it points.
_REFUSED_FOR_A_REASON = {
    # It was used for another request before, which a schema cannot know.
    ("idempotency-key-reused", ""),
    # The configuration has no webhook target of that name, or it has no such records.
    ("callback-not-allowed", ""),
    # A text that is a certificate is more than a text of some length.
    ("validation-failed", "/body/certificate_pem"),
    # A cursor is what the service itself has given out.
    ("validation-failed", "/query/cursor"),
    # A pause ends in the future, at most a year from now.
    ("validation-failed", "/body/until"),
}


@schemathesis.hook
def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:
    """Have no request wait long: a thousand of them would take hours. A wait that must be refused is sent as it is."""
    wait = str((case.query or {}).get("wait", ""))
    if wait.isdecimal() and 1 < int(wait) <= _LONGEST_WAIT_S:
        case.query["wait"] = 1


@schemathesis.hook
def filter_failure(context: HookContext, failure: Exception, case: Case[Any], response: Response) -> bool:
    """Whether it is a failure: a valid request that is refused may be refused for a reason that no schema has.

    And a null instead of a body is taken for a body that is left out, since clients generated for Go and Java send it;
    `?verbose` without a value for true, since Kubernetes' own `/readyz` takes it so. And what is too large was not
    accepted: Schemathesis does not count 413 among the refusals.
    """
    if isinstance(failure, AcceptedNegativeData):
        is_too_large = response.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        return not (is_too_large or _says_null(response.request.body) or _says_verbose_alone(case))
    if not isinstance(failure, RejectedPositiveData):
        return True
    problem = response.json()
    places = [error["pointer"] for error in problem.get("errors", ())] or [""]
    return not all((problem["code"], place) in _REFUSED_FOR_A_REASON for place in places)


def _says_null(sent: object) -> bool:
    try:
        body = json.loads(sent) if isinstance(sent, bytes | str) else {}
    except ValueError:
        return False
    return body is None or (isinstance(body, dict) and any(body.get(name, "") is None for name in _MAY_BE_NULL))


def _says_verbose_alone(case: Case[Any]) -> bool:
    return (case.operation.label, dict(case.query or {})) == ("GET /readyz", {"verbose": ""})

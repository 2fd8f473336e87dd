"""Who may call what. A credential is looked at before anything else of a request, its body above all."""

import base64
from typing import Annotated, cast

from fastapi import Depends, Request

from app.ngt.errors import Fault, FaultCode
from app.store.keys import Keys
from app.store.records import Caller, Scope

ANY_KEY: frozenset[Scope] = frozenset()
"""Any usable key may call the operation."""

# What a key needs for each operation, by operationId: all of these scopes. None: no key is needed at all.
SCOPES: dict[str, frozenset[Scope] | None] = {
    "renewVmNgtCertificate": frozenset({Scope.RENEW}),
    "listJobs": frozenset({Scope.JOBS_READ}),
    "getJob": frozenset({Scope.JOBS_READ}),
    "getJobResult": frozenset({Scope.JOBS_READ}),
    "getJobLog": frozenset({Scope.JOBS_READ}),
    "cancelJob": frozenset({Scope.JOBS_CANCEL}),
    "retryJob": frozenset({Scope.RENEW}),
    "reportAgentRestarted": frozenset({Scope.RENEW}),
    "listClusters": ANY_KEY,
    "pauseCluster": frozenset({Scope.ADMIN}),
    "resumeCluster": frozenset({Scope.ADMIN}),
    "pauseService": frozenset({Scope.ADMIN}),
    "resumeService": frozenset({Scope.ADMIN}),
    "getLiveness": None,
    "getReadiness": None,
    "getMetrics": ANY_KEY,
    "getMeta": ANY_KEY,
}


class InsufficientScope(Fault):
    """The key lacks `missing`."""

    def __init__(self, missing: frozenset[Scope]) -> None:
        self.missing = missing
        names = ", ".join(sorted(missing))
        super().__init__(FaultCode.INSUFFICIENT_SCOPE, f"The API key lacks the scope {names}.")


async def authorise(request: Request, operation_id: str, keys: Keys) -> None:
    """Let the request through to its operation, or raise a Fault of 401 or 403.

    The caller is kept with the request for `CallerOf`.
    """
    needed = SCOPES[operation_id]
    if needed is None:
        return
    caller = await authenticate(request, keys)
    if missing := needed - caller.scopes:
        raise InsufficientScope(missing)
    request.state.caller = caller


async def authenticate(request: Request, keys: Keys) -> Caller:
    """Who sends the request: by `X-API-Key`, else `Authorization: Bearer`, else HTTP Basic with the key's id.

    Raises Fault `unauthenticated`, `token-expired` and `token-revoked`.
    """
    if (key := request.headers.get("x-api-key")) is not None:
        return await keys.verify(key.strip())
    scheme, _, credential = request.headers.get("authorization", "").strip().partition(" ")
    match scheme.lower():
        case "bearer":
            return await keys.verify(credential.strip())
        case "basic":
            return await keys.verify_basic(*_user_and_password(credential.strip()))
        case "":
            raise Fault(FaultCode.UNAUTHENTICATED, "The request has no credential.")
        case _:
            raise Fault(FaultCode.UNAUTHENTICATED, "The scheme of `Authorization` is neither Bearer nor Basic.")


def _user_and_password(credential: str) -> tuple[str, str]:
    try:
        decoded = base64.b64decode(credential, validate=True).decode()
    except ValueError:
        decoded = ""
    user, colon, password = decoded.partition(":")
    if not colon:
        raise Fault(FaultCode.UNAUTHENTICATED, "The Basic credential is not `id:secret` in base64.")
    return user, password


def _caller_of(request: Request) -> Caller:
    return cast("Caller", request.state.caller)


CallerOf = Annotated[Caller, Depends(_caller_of)]

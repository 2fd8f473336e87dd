"""The scopes of each operation. A credential is checked before anything else of a request."""

from typing import Annotated, cast

from fastapi import Depends, Request

from app.api.callers.authentication import Authenticator
from app.ngt.errors import Fault, FaultCode
from app.settings.callers.scopes import Scope
from app.store.records.callers import Caller

ANY_KEY: frozenset[Scope] = frozenset()
"""Any usable key may call the operation."""

# The scopes that a key needs for each operation, by operationId: all of them. None: no key is needed.
SCOPES: dict[str, frozenset[Scope] | None] = {
    "renewVmNgtCertificate": frozenset({Scope.RENEW}),
    "listJobs": frozenset({Scope.JOBS_READ}),
    "getJob": frozenset({Scope.JOBS_READ}),
    "getJobResult": frozenset({Scope.JOBS_READ}),
    "listJobEvents": frozenset({Scope.JOBS_READ}),
    "getJobLog": frozenset({Scope.JOBS_READ}),
    "cancelJob": frozenset({Scope.JOBS_CANCEL}),
    "retryJob": frozenset({Scope.RENEW}),
    "reportAgentRestarted": frozenset({Scope.RENEW}),
    "listVms": frozenset({Scope.VMS_READ}),
    "getVm": frozenset({Scope.VMS_READ}),
    "getVmNgt": frozenset({Scope.VMS_READ}),
    "putVmNgtCertificate": frozenset({Scope.CERTIFICATES_WRITE}),
    "getForecast": frozenset({Scope.VMS_READ}),
    "diagnoseVmNgt": frozenset({Scope.VMS_READ}),
    "listClusters": ANY_KEY,
    "getClusterHealth": ANY_KEY,
    "scanCluster": frozenset({Scope.CLUSTERS_SCAN}),
    "listScans": frozenset({Scope.VMS_READ}),
    "getScan": frozenset({Scope.VMS_READ}),
    "pauseCluster": frozenset({Scope.ADMIN}),
    "resumeCluster": frozenset({Scope.ADMIN}),
    "getAutoRenewPlan": frozenset({Scope.VMS_READ}),
    "resumeAutoRenew": frozenset({Scope.ADMIN}),
    "pauseService": frozenset({Scope.ADMIN}),
    "resumeService": frozenset({Scope.ADMIN}),
    "listWebhooks": frozenset({Scope.JOBS_READ}),
    "listDeliveries": frozenset({Scope.JOBS_READ}),
    "testWebhook": frozenset({Scope.ADMIN}),
    "replayDelivery": frozenset({Scope.ADMIN}),
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
        super().__init__(FaultCode.INSUFFICIENT_SCOPE, f"The API key or token lacks the scope {names}.")


async def authorise(request: Request, operation_id: str, logins: Authenticator) -> None:
    """Let the request through to its operation, or raise a Fault of 401, 403, 429 or 503.

    The caller is kept with the request for `CallerDep`.
    """
    needed = SCOPES[operation_id]
    if needed is None:
        return
    caller = await logins.authenticate(request)
    if missing := needed - caller.scopes:
        raise InsufficientScope(missing)


def _caller_of(request: Request) -> Caller:
    return cast("Caller", request.state.caller)


CallerDep = Annotated[Caller, Depends(_caller_of)]

"""Around every request: its id, its line in the log, and an answer even when something broke."""

import re
import time
from urllib.parse import quote
from uuid import uuid4

import structlog
from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.http.dependencies import services_of
from app.api.http.problems import answer_unknown_fault

_access = structlog.get_logger("app.access")
_log = structlog.get_logger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@~-]{1,128}")
# RFC 3986's `pchar` and the slash; all else of a path is written in percents, so that a log line stays one line.
_IN_PATH = "/:@!$&'()*+,;="
# Nobody should read these once a second; a probe that fails is still worth a line.
_QUIET_PATHS = frozenset({"/livez", "/readyz", "/metrics"})
# Those that a metric names; all others are one, as OpenTelemetry has it.
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_FIRST_ERROR_STATUS = 400
# The status that nginx logs for a client that went away; it is never sent.
_CLIENT_WENT_AWAY = 499


class RequestContext:
    """Outermost, so that whatever a request meets has its id. HEAD is answered as GET; the server drops the body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        inner = {**scope, "state": dict(scope.get("state", {}))}
        if scope["method"] == "HEAD":
            inner["method"] = "GET"
        request = Request(inner)
        request.state.head_only = scope["method"] == "HEAD"
        request.state.request_id = _request_id(request)
        request.state.path = quote(scope["path"], safe=_IN_PATH)
        with structlog.contextvars.bound_contextvars(request_id=request.state.request_id):
            await self._answer(request, receive, send)

    async def _answer(self, request: Request, receive: Receive, send: Send) -> None:
        status = 0
        began = time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request.state.request_id
                headers["X-Content-Type-Options"] = "nosniff"
                if (quota := getattr(request.state, "quota", None)) is not None:
                    headers.update(quota.headers())
                headers.setdefault("Cache-Control", "no-cache")
            await send(message)

        try:
            await self._app(request.scope, receive, send_with_id)
        except ClientDisconnect:
            status = _CLIENT_WENT_AWAY
        except Exception:
            _log.exception("a request failed")
            if status:
                raise
            await answer_unknown_fault(request)(request.scope, receive, send_with_id)
        finally:
            duration_s = time.perf_counter() - began
            _observe(request, status, duration_s)
            _write_access_line(request, status, duration_s)


def _request_id(request: Request) -> str:
    """The caller's own id when it is one that may stand in a log and in a header, else a new one."""
    given = request.headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else str(uuid4())


def _observe(request: Request, status: int, duration_s: float) -> None:
    """Observes by the template of the route, never by the path: invented paths add nothing to the metrics."""
    route = request.scope.get("route")
    services_of(request).metrics.request_seconds.labels(
        http_route=getattr(route, "path", ""),
        http_request_method=request.method if request.method in _METHODS else "_OTHER",
        http_response_status_code=str(int(status)),
    ).observe(duration_s)


def _write_access_line(request: Request, status: int, duration_s: float) -> None:
    path = request.state.path
    if path in _QUIET_PATHS and status < _FIRST_ERROR_STATUS:
        return
    caller = getattr(request.state, "caller", None)
    _access.info(
        "request",
        method=request.method,
        path=path,
        status=int(status),
        duration_ms=round(duration_s * 1000, 1),
        caller=caller.id if caller is not None else None,
    )

"""The checks of every request before its route: the credential, the scope, the query, the headers, the body."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel

from app.api.callers.authorization import authorise
from app.api.http.dependencies import services_of
from app.api.http.problems import invalid
from app.api.http.request_body import with_checked_body
from app.api.http.request_headers import check_headers

_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


class GuardedRoute(APIRoute):
    """A route behind the guard. Its operationId says what a key needs (`app.api.callers.authorization.SCOPES`)."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]  # any awaitable will do
        answer = super().get_route_handler()
        operation_id = self.operation_id
        assert operation_id is not None, f"{self.path} has no operationId"
        known = frozenset(_query_names(self.dependant))
        takes_body = self.body_field is not None

        async def guarded(request: Request) -> Response:
            services = services_of(request)
            await authorise(request, operation_id, services.logins)
            _check_query(request, known)
            check_headers(request)
            if request.method in _WITH_BODY:
                request = await with_checked_body(request, services.settings.max_body_bytes, takes_body=takes_body)
            return await answer(request)

        return guarded


def _query_names(dependant: Dependant) -> Iterator[str]:
    for parameter in dependant.query_params:
        annotation = parameter.field_info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from annotation.model_fields
        else:
            yield parameter.alias
    for needed in dependant.dependencies:
        yield from _query_names(needed)


def _check_query(request: Request, known: frozenset[str]) -> None:
    """A parameter that is misspelt, or given twice, must not be ignored in silence."""
    for name, times in Counter(name for name, _ in request.query_params.multi_items()).items():
        if name not in known:
            raise invalid("There is no such parameter.", "query", name)
        if times > 1:
            raise invalid(f"The parameter is given {times} times.", "query", name)

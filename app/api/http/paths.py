"""A path that ends with a slash: taken where it can only mean the path without it, else explained."""

from collections.abc import Iterable

from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send


class TrailingSlash:
    """Drops the last slash of a path, except where an id may be missing behind it: `/jobs/` is not the list of jobs."""

    def __init__(self, app: ASGIApp, routes: Iterable[APIRoute]) -> None:
        self._app = app
        self._routes = tuple(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].endswith("/"):
            bare = {**scope, "path": scope["path"][:-1]}
            if (route := self._route_of(bare)) is not None and not self._takes_id(route):
                scope = bare
        await self._app(scope, receive, send)

    def _route_of(self, scope: Scope) -> APIRoute | None:
        return next((route for route in self._routes if route.matches(scope)[0] is not Match.NONE), None)

    def _takes_id(self, route: APIRoute) -> bool:
        return any(other.path.startswith(f"{route.path}/{{") for other in self._routes)


def explain_not_found(path: str) -> str:
    """The sentence for a path at which there is nothing, with the likely mistake."""
    if "//" in path:
        return "There is nothing at this path. It has two slashes in a row: a part between them is empty."
    if path.endswith("/"):
        return "There is nothing at this path. It ends with a slash: the id after it is missing."
    return "There is nothing at this path."

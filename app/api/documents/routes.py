"""Both OpenAPI documents over HTTP, and the page that shows them. Anybody may read these, so each is written once."""

import base64
import hashlib
import json
from functools import lru_cache

from fastapi import FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from starlette.routing import Route

from app.api.documents.openapi_30 import plain_document
from app.api.http.dependencies import services_of
from app.api.http.responses import public_path

_JSON = "application/json"
# The page loads nothing from elsewhere, runs nothing but its own script, and is in no other page.
_PAGE_POLICY = (
    "default-src 'none'; connect-src 'self'; font-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def document_routes(api: FastAPI, static_url: str) -> list[Route]:
    """The routes `/openapi.json`, `/openapi-3.0.json` and `/docs`; below `static_url` are the files of the page."""

    # A process has few addresses, and one prefix.
    @lru_cache(maxsize=16)
    def complete(prefix: str) -> bytes:
        return json.dumps({**api.openapi(), "servers": [{"url": prefix or "/"}]}, ensure_ascii=False).encode()

    @lru_cache(maxsize=16)
    def plain(url: str) -> bytes:
        return json.dumps(plain_document(api.openapi(), url), ensure_ascii=False).encode()

    async def answer_complete(_request: Request) -> Response:
        return Response(complete(public_path("")), media_type=_JSON)

    async def answer_plain(request: Request) -> Response:
        """The one server of the document is `public_url`, else the address at which this process was reached.

        The header `Host` does not count: importers keep the address, and anybody can write any host into a request.
        """
        return Response(plain(services_of(request).settings.public_url or _own_address(request)), media_type=_JSON)

    async def answer_page(_request: Request) -> Response:
        static = public_path(static_url)
        page = get_swagger_ui_html(
            openapi_url=public_path("/openapi.json"),
            title=api.title,
            swagger_js_url=f"{static}/swagger-ui-bundle.js",
            swagger_css_url=f"{static}/swagger-ui.css",
            swagger_favicon_url=f"{static}/favicon.png",
            swagger_ui_parameters={"validatorUrl": None},
        )
        _, _, after = bytes(page.body).rpartition(b"<script>")
        script, _, _ = after.partition(b"</script>")
        digest = base64.b64encode(hashlib.sha256(script).digest()).decode()
        return HTMLResponse(page.body, headers={"Content-Security-Policy": _PAGE_POLICY.format(digest=digest)})

    return [
        Route("/openapi.json", answer_complete, include_in_schema=False),
        Route("/openapi-3.0.json", answer_plain, include_in_schema=False),
        Route("/docs", answer_page, include_in_schema=False),
    ]


def _own_address(request: Request) -> str:
    host, port = request.scope["server"]
    named = f"[{host}]" if ":" in host else host
    return f"{request.url.scheme}://{named}" if port is None else f"{request.url.scheme}://{named}:{port}"

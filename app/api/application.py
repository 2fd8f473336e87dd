"""The FastAPI application: its routes, what is around them, and its answers to whatever goes wrong."""

from collections.abc import Sequence
from http import HTTPStatus
from importlib.metadata import version

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Lifespan

from app.api.auto_renew import routes as auto_renew
from app.api.clusters import health as cluster_health
from app.api.clusters import routes as clusters
from app.api.clusters import service_pause
from app.api.diagnosis import routes as diagnosis
from app.api.documents.openapi_30 import plain_document
from app.api.documents.openapi_31 import shape_openapi
from app.api.documents.tables import DESCRIPTION, TAGS
from app.api.http.dependencies import services_of
from app.api.http.middleware import RequestContext
from app.api.http.problems import answer_fault, fault_of_framework
from app.api.inventory import certificates, forecast
from app.api.inventory import routes as inventory
from app.api.jobs import events as job_events
from app.api.jobs import routes as jobs
from app.api.monitoring import health, metrics
from app.api.renewal import routes as renewal
from app.api.scans import routes as scans
from app.api.webhooks import routes as webhooks
from app.ngt.errors import Fault

_ROUTERS = (
    renewal.router,
    jobs.router,
    job_events.router,
    inventory.router,
    certificates.router,
    forecast.router,
    diagnosis.router,
    clusters.router,
    auto_renew.router,
    cluster_health.router,
    scans.router,
    webhooks.router,
    service_pause.router,
    health.router,
    metrics.router,
)


def create_api(lifespan: Lifespan[FastAPI] | None = None) -> FastAPI:
    """The application without its services: the process that serves it sets `app.state.services`."""
    api = FastAPIOffline(
        docs_url="/docs",
        redoc_url=None,
        title="NGT renewal",
        version=version("ngt-renewal"),
        description=DESCRIPTION,
        openapi_tags=TAGS,
        swagger_ui_parameters={"validatorUrl": None},
        swagger_ui_oauth2_redirect_url="/docs/oauth2-redirect",
        redirect_slashes=False,
        separate_input_output_schemas=False,
        lifespan=lifespan,
    )
    for router in _ROUTERS:
        api.include_router(router)
    api.add_middleware(RequestContext)
    api.add_exception_handler(Fault, _on_fault)
    api.add_exception_handler(HTTPException, _on_refusal)
    api.add_exception_handler(RequestValidationError, _on_refusal)
    shape_openapi(api, operations())
    api.add_route("/openapi-3.0.json", _plain_document, include_in_schema=False)
    return api


def operations() -> Sequence[APIRoute]:
    """The routes of the API, without those of its documents."""
    return [route for router in _ROUTERS for route in router.routes if isinstance(route, APIRoute)]


async def _plain_document(request: Request) -> Response:
    """The one server of the document is `public_url`, else the address that this request came to."""
    url = services_of(request).settings.public_url or str(request.base_url)
    return JSONResponse(plain_document(request.app.openapi(), url))


async def _on_fault(request: Request, raised: Exception) -> Response:
    assert isinstance(raised, Fault)
    return answer_fault(request, raised)


async def _on_refusal(request: Request, raised: Exception) -> Response:
    assert isinstance(raised, HTTPException | RequestValidationError)
    answer = answer_fault(request, fault_of_framework(raised))
    if answer.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        answer.headers["Allow"] = ", ".join(sorted(_methods(request)))
    return answer


def _methods(request: Request) -> set[str]:
    """Every method of the path: the framework names only those of the first route that has it."""
    routes: Sequence[BaseRoute] = [*operations(), *request.app.routes]
    fitting = [
        route for route in routes if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE
    ]
    methods = {method for route in fitting for method in route.methods or ()}
    return methods | {"HEAD"} if "GET" in methods else methods

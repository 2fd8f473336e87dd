"""The composition root: builds the objects of the service, and the application on top of them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any

from fastapi import FastAPI

from app.api.application import create_api
from app.api.callers.authentication import Authenticator
from app.api.callers.oidc import Issuer
from app.api.callers.rate_limits import CallLimits
from app.api.documents.openapi_30 import SOMEWHERE, plain_document
from app.api.http.dependencies import Services
from app.api.http.wait_slots import WaitSlots
from app.settings import Settings
from app.store.store import Store
from app.telemetry.metrics import Metrics


def build_app(settings: Settings, database_url: str) -> FastAPI:
    """The HTTP API without a worker. It connects at start to a database that has this version's tables."""

    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[None]:
        async with open_services(settings, database_url) as services:
            api.state.services = services
            yield
            services.draining.set()

    return create_api(lifespan)


def openapi_document() -> dict[str, Any]:
    return create_api().openapi()


def plain_openapi_document(server_url: str = SOMEWHERE) -> dict[str, Any]:
    """The OpenAPI 3.0.3 document for importers; `server_url` is absolute."""
    return plain_document(openapi_document(), server_url)


@asynccontextmanager
async def open_services(settings: Settings, database_url: str) -> AsyncIterator[Services]:
    """The services of one process, connected to its database."""
    store = Store(settings, database_url)
    metrics = Metrics()
    issuer = None if settings.oidc is None else Issuer(settings.oidc)
    logins = Authenticator(store.keys, issuer, CallLimits(settings.callers), metrics)
    async with store.connected(settings.clusters), issuer or nullcontext():
        yield Services(settings, store, logins, WaitSlots(settings.callers), metrics)

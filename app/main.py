"""The composition root: builds the objects of the service, and the application on top of them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import procrastinate
from fastapi import FastAPI

from app.api.application import create_api
from app.api.callers.authentication import Authenticator
from app.api.callers.oidc import Issuer
from app.api.callers.rate_limits import CallLimits
from app.api.documents.openapi_30 import SOMEWHERE, plain_document
from app.api.http.dependencies import Services
from app.api.http.wait_slots import WaitSlots
from app.ngt.renewal.holds import SlotRules
from app.settings import Settings
from app.store.auto_renew import AutoRenewals
from app.store.callers.api_keys import Keys
from app.store.change_feed import ChangeFeed
from app.store.clusters.state import Clusters
from app.store.diagnosis import DiagnosisFacts
from app.store.inventory.pushed_certificates import PushedCertificates
from app.store.inventory.vms import Vms
from app.store.jobs.commands import Jobs
from app.store.jobs.events import JobEvents
from app.store.jobs.service_pause import Pauses
from app.store.postgres.database import Database
from app.store.postgres.queue import WakeUps, queue_app
from app.store.scans.queries import Scans
from app.store.webhooks.deliveries import Deliveries
from app.store.webhooks.outbox import Outbox
from app.telemetry.metrics import Metrics


def build_app(settings: Settings, database_url: str) -> FastAPI:
    """The HTTP API without a worker. It connects at start to a database that has this version's tables."""

    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[None]:
        async with open_services(settings, database_url) as (services, _):
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
async def open_services(settings: Settings, database_url: str) -> AsyncIterator[tuple[Services, procrastinate.App]]:
    """The connected services, and the queue of the worker."""
    database = Database(database_url)
    queue = queue_app(database_url)
    wakeups = WakeUps(queue)
    jobs = Jobs(database, wakeups, Outbox(settings.webhooks))
    changes = ChangeFeed(database_url, jobs)
    keys = Keys(database)
    metrics = Metrics()
    issuer = None if settings.oidc is None else Issuer(settings.oidc)
    services = Services(
        settings=settings,
        database=database,
        wakeups=wakeups,
        jobs=jobs,
        job_events=JobEvents(database),
        keys=keys,
        logins=Authenticator(keys, issuer, CallLimits(settings.callers), metrics),
        clusters=Clusters(database),
        auto_renewals=AutoRenewals(database),
        pauses=Pauses(database, wakeups, _slots_of(settings)),
        deliveries=Deliveries(database),
        vms=Vms(database),
        scans=Scans(database, wakeups, changes),
        pushed_certificates=PushedCertificates(database, wakeups),
        diagnosis_facts=DiagnosisFacts(database),
        changes=changes,
        waiters=WaitSlots(settings.callers),
        metrics=metrics,
    )
    try:
        async with queue.open_async(), services.changes, issuer or nullcontext():
            await services.clusters.ensure(settings.clusters)
            yield services, queue
    finally:
        await database.close()


def _slots_of(settings: Settings) -> dict[str, SlotRules]:
    return {
        name: SlotRules(cluster.max_running, cluster.one_until_proved) for name, cluster in settings.clusters.items()
    }

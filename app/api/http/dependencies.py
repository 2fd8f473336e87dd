"""The services that routes depend on. `app.main` builds them; a route takes them with `ServicesDep`."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Request

from app.api.callers.authentication import Authenticator
from app.api.http.wait_slots import WaitSlots
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
from app.store.postgres.queue import WakeUps
from app.store.scans.queries import Scans
from app.store.webhooks.deliveries import Deliveries
from app.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Services:
    """`draining` is set while the service stops. `worker_alive`: always true in a process without a worker."""

    settings: Settings
    database: Database
    wakeups: WakeUps
    jobs: Jobs
    job_events: JobEvents
    keys: Keys
    logins: Authenticator
    clusters: Clusters
    auto_renewals: AutoRenewals
    pauses: Pauses
    deliveries: Deliveries
    vms: Vms
    scans: Scans
    pushed_certificates: PushedCertificates
    diagnosis_facts: DiagnosisFacts
    changes: ChangeFeed
    waiters: WaitSlots
    metrics: Metrics
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    worker_alive: Callable[[], bool] = lambda: True


def services_of(request: Request) -> Services:
    return cast("Services", request.app.state.services)


ServicesDep = Annotated[Services, Depends(services_of)]

"""What the routes work with. `app.main` builds it; a route asks for it with `PartsOf`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Request

from app.api.inventory_metrics import InventoryMetrics
from app.api.logins import Logins
from app.api.waiters import Waiters
from app.settings import Settings
from app.store.auto_renewal import AutoRenewals
from app.store.changes import Changes
from app.store.clusters import Clusters
from app.store.database import Database
from app.store.deliveries import Deliveries
from app.store.diagnosis_facts import DiagnosisFacts
from app.store.job_events import JobEvents
from app.store.jobs import Jobs
from app.store.keys import Keys
from app.store.pause import Pauses
from app.store.pushed_certificates import PushedCertificates
from app.store.queue import WakeUps
from app.store.scans import Scans
from app.store.vms import Vms
from app.telemetry import Metrics


class Draining:
    """Whether the service is stopping: from then on it says that it is not ready."""

    def __init__(self) -> None:
        self.begun = False

    def begin(self) -> None:
        self.begun = True


def no_worker_here() -> bool:
    """A process that serves the API alone is ready without a worker."""
    return True


@dataclass(frozen=True, slots=True)
class Parts:
    """`worker_alive` says whether this process's worker still runs; a process without one is always fine."""

    settings: Settings
    database: Database
    wakeups: WakeUps
    jobs: Jobs
    job_events: JobEvents
    keys: Keys
    logins: Logins
    clusters: Clusters
    auto_renewals: AutoRenewals
    pauses: Pauses
    deliveries: Deliveries
    vms: Vms
    scans: Scans
    pushed_certificates: PushedCertificates
    diagnosis_facts: DiagnosisFacts
    changes: Changes
    waiters: Waiters
    metrics: Metrics
    inventory: InventoryMetrics
    draining: Draining = field(default_factory=Draining)
    worker_alive: Callable[[], bool] = no_worker_here


def parts_of(request: Request) -> Parts:
    return cast("Parts", request.app.state.parts)


PartsOf = Annotated[Parts, Depends(parts_of)]

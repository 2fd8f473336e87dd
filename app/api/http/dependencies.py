"""The services that routes depend on. `app.main` builds them; a route takes them with `ServicesDep`."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Request

from app.api.callers.authentication import Authenticator
from app.api.http.wait_slots import WaitSlots
from app.settings import Settings
from app.store.store import Store
from app.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Services:
    """`draining` is set while the service stops. `worker_alive`: always true in a process without a worker."""

    settings: Settings
    store: Store
    logins: Authenticator
    waiters: WaitSlots
    metrics: Metrics
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    worker_alive: Callable[[], bool] = lambda: True


def services_of(request: Request) -> Services:
    return cast("Services", request.app.state.services)


ServicesDep = Annotated[Services, Depends(services_of)]

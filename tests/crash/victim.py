"""A nursery of worker processes that are there to be killed: it imports the service once and forks one for each order.

An order is a line of JSON on stdin, and the answer is the new process's id on stdout. A victim is made of the service's
real parts; at its one ordered point it ends, freezes, or stands still until somebody kills it.
"""

import asyncio
import json
import os
import signal
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any
from uuid import UUID

import uvloop

from app.ngt.renewal.steps import LookAtEntity
from app.serve import work_until_stopped
from app.settings import Settings, load_settings
from app.store.store import Store
from app.telemetry.logs import configure_logging
from app.telemetry.metrics import Metrics
from app.work.worker import Worker


class Point(StrEnum):
    """Where in a step a victim meets its end."""

    BEFORE_INTENT = "before the intent"
    AFTER_INTENT = "after the intent"
    AFTER_EFFECT = "after the effect"
    BEFORE_ANSWER = "before the answer is stored"


class End(StrEnum):
    """How it meets it. STAND_STILL: it goes no further, and is killed from outside."""

    KILL = "kill"
    FREEZE = "freeze"
    STAND_STILL = "stand still"


@dataclass(frozen=True, slots=True)
class Order:
    """What a victim is made for: to run one job until (`step`, `point`), the `occurrence`th time; or to be a worker."""

    settings: str
    url: str
    log: str
    job: str | None = None
    step: str = ""
    point: str = ""
    end: str = End.KILL
    occurrence: int = 1


class _Fate:
    """Counts how often the victim passes its point."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._left = order.occurrence

    async def pass_by(self, step: str, point: Point) -> None:
        """Goes no further where it is the ordered point."""
        if (step, point) != (self._order.step, self._order.point):
            return
        self._left -= 1
        if self._left == 0:
            await self._meet()

    async def _meet(self) -> None:
        match End(self._order.end):
            case End.KILL:
                os.kill(os.getpid(), signal.SIGKILL)
            case End.FREEZE:
                os.kill(os.getpid(), signal.SIGSTOP)
            case End.STAND_STILL:
                await asyncio.Event().wait()


def _arm(worker: Worker, fate: _Fate) -> None:
    """Lets the victim pass by its fate around the intent and the action of every step."""
    running, actions = worker._job_claims, worker._renewals._actions
    record_intent, perform = running.record_intent, actions.perform

    async def record_intent_of_victim(claim: Any, state: Any, begun: Any, **more: Any) -> Any:
        await fate.pass_by(begun.name, Point.BEFORE_INTENT)
        begun_id = await record_intent(claim, state, begun, **more)
        await fate.pass_by(begun.name, Point.AFTER_INTENT)
        return begun_id

    async def perform_of_victim(progress: Any, action: Any, *more: Any) -> Any:
        performed = await perform(progress, action, *more)
        if not isinstance(action, LookAtEntity):
            await fate.pass_by(action.step, Point.AFTER_EFFECT)
            await fate.pass_by(action.step, Point.BEFORE_ANSWER)
        return performed

    vars(running)["record_intent"] = record_intent_of_victim
    vars(actions)["perform"] = perform_of_victim


async def _run_job(order: Order, settings: Settings) -> None:
    """Drives one job as wake-ups would, without taking those of other victims."""
    async with Store(settings, order.url).connected(settings.clusters) as store:
        worker = Worker(settings, store, Metrics())
        _arm(worker, _Fate(order))
        job_id = UUID(order.job)
        while (job := await store.jobs.find(job_id)) is not None and not job.done:
            await worker._renewals.run(job_id)
            await asyncio.sleep(0.02)
        await worker._guest_pool.close()
        await worker._cvm_pool.close()


def _live(order: Order) -> None:
    log = os.open(order.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    configure_logging("debug", "text")
    settings = load_settings(Path(order.settings), {})
    uvloop.run(work_until_stopped(settings, order.url) if order.job is None else _run_job(order, settings))


def main() -> None:
    """Forks a victim for each order, until stdin ends."""
    # The system reaps the victims.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        order = Order(**json.loads(line))
        pid = os.fork()
        if pid == 0:
            try:
                _live(order)
            finally:
                sys.stdout.flush()
                os._exit(0 if sys.exc_info()[0] is None else 1)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

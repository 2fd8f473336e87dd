"""The worker of one process: takes wake-ups, renews its leases, sweeps for forgotten jobs, and polls for pickups.

It stops in the opposite order: it takes no new wake-up, finishes running changes, and then closes its connections.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from uuid import UUID, uuid4

import structlog
from procrastinate.jobs import DeleteJobCondition

from app.ngt.errors import Fault
from app.settings import Limits, Settings
from app.settings.scans import OFF
from app.ssh.host import GUEST_LIMITS, PoolLimits
from app.ssh.pool import Pool
from app.store.postgres.database import read_clock
from app.store.postgres.queue import CLUSTER_SCAN_QUEUE, LOOK_AT_JOB, LOOK_AT_SCAN, QUEUE, START_DUE_SCANS
from app.store.postgres.retention import KeptDays, Removed, prune
from app.store.store import Store
from app.telemetry.metrics import Metrics
from app.work.auto_renew import AutoRenewal
from app.work.clusters.client import ClusterClient
from app.work.clusters.cvm_metrics import CvmMetrics
from app.work.clusters.database_clock import DatabaseClock
from app.work.renewal.actions import Actions
from app.work.renewal.pickup_poller import PickupPoller
from app.work.renewal.run import Renewals
from app.work.scans.run import Scanner
from app.work.scans.schedule import ScanSchedule
from app.work.warnings import CertificateWarner
from app.work.webhooks.deliverer import Deliverer
from app.work.webhooks.sender import Sender

log = structlog.get_logger(__name__)

_LEASE_RENEWALS = 3
_FETCH_INTERVAL_S = 2.0
_RESTART_S = 1.0


class Worker:
    """Runs the renewals of one process."""

    def __init__(self, settings: Settings, store: Store, metrics: Metrics) -> None:
        limits = settings.limits
        self._settings = settings
        self._store = store
        self._metrics = metrics
        self._cvm_pool = Pool(_pool_limits(limits))
        self._guest_pool = Pool(GUEST_LIMITS)
        self.clusters = {
            name: ClusterClient(name, cluster, limits, self._cvm_pool, self._observe)
            for name, cluster in settings.clusters.items()
        }
        self.runner = f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"
        self._job_claims = store.job_claims(self.runner)
        actions = Actions(store.vms, self.clusters, self._guest_pool, limits)
        self._renewals = Renewals(self._job_claims, self.clusters, actions, limits, metrics)
        self._pickup_poller = PickupPoller(store.pickup_polls, self.clusters, limits)
        self._warner = CertificateWarner(store.warnings, settings.clusters)
        self._auto_renewal = AutoRenewal(
            store.auto_renewals,
            store.jobs,
            settings.clusters,
            max_queued=settings.callers.max_queued_jobs,
            renewed_recently_s=limits.renewed_recently_s,
        )
        sender = Sender(settings.public_url)
        self._deliverer = Deliverer(store.deliveries, settings.webhooks, sender, limits.webhook_retry_delays_s, metrics)
        self._scan_claims = store.scan_claims(self.runner)
        self._scanner = Scanner(
            self._scan_claims, store.inventory, store.cvms, self.clusters, self._guest_pool, settings.scan
        )
        self._schedule = ScanSchedule(store.database, store.wakeups, self.clusters, settings.scan)
        self._taking: tuple[asyncio.Task[None], ...] = ()
        metrics.registry.register(CvmMetrics(self.clusters, self._cvm_pool))

    def is_alive(self) -> bool:
        """True while wake-ups are taken."""
        # While the service stops, idle tasks end before the others.
        return any(not task.done() for task in self._taking)

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator["Worker"]:
        """Works until the context is left; then finishes running changes, within `drain_timeout_s`."""
        # Another replica sends the events of the last jobs: they are in the outbox.
        async with self._deliverer.running(), self._renewing():
            yield self

    @asynccontextmanager
    async def _renewing(self) -> AsyncIterator[None]:
        self._register_tasks()
        limits = self._settings.limits
        concurrency = {
            QUEUE: self._settings.worker_concurrency,
            CLUSTER_SCAN_QUEUE: self._settings.scan.clusters_at_once,
        }
        self._taking = taking = tuple(
            asyncio.create_task(self._take_wake_ups(queue, at_once), name=f"wake-ups of {queue}")
            for queue, at_once in concurrency.items()
        )
        others = [asyncio.create_task(_every(every_s, act), name=name) for name, every_s, act in self._rounds()]
        leases = asyncio.create_task(_every(limits.lease_s / _LEASE_RENEWALS, self._renew_leases), name="leases")
        try:
            yield
        finally:
            self._renewals.drain()
            self._scanner.drain()
            for task in (*others, *taking):
                task.cancel()
            # Leases are kept until the last running job has ended.
            for task in (*others, *taking, leases):
                if task is leases:
                    leases.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            await self._guest_pool.close()
            await self._cvm_pool.close()

    def _rounds(self) -> tuple[tuple[str, float, Callable[[], Awaitable[object]]], ...]:
        """The background work: its name, its interval in seconds, and one round of it."""
        return (
            ("pickup polls", self._pickup_poller.tick_s, self._pickup_poller.poll),
            ("sweep", self._settings.limits.sweep_interval_s, self._sweep),
            ("webhook deliveries", 0.5, self._deliverer.send_due),
            ("undeliverable webhooks", 5, self._deliverer.expire_undeliverable),
            ("CVM states", 15, self._store_cvm_states),
            ("automatic renewal", 30, self._auto_renewal.start_due),
            ("certificate warnings", 60, self._warner.warn),
            ("retention", 3600, self._prune),
        )

    def _register_tasks(self) -> None:
        self._store.queue.task(name=LOOK_AT_JOB, queue=QUEUE)(self._look_at_job)
        self._store.queue.task(name=LOOK_AT_SCAN, queue=QUEUE)(self._look_at_scan)
        if self._settings.scan.schedule != OFF:
            # One replica takes it each minute, and starts the scans that are due.
            due = self._store.queue.task(name=START_DUE_SCANS, queue=QUEUE, queueing_lock=START_DUE_SCANS)
            self._store.queue.periodic(cron="* * * * *")(due(self._start_due_scans))

    async def _take_wake_ups(self, queue: str, at_once: int) -> None:
        """Runs until it is cancelled, and starts procrastinate's worker again after a restart of the database."""
        while True:
            try:
                await self._store.queue.run_worker_async(
                    queues=[queue],
                    name=self.runner,
                    concurrency=at_once,
                    install_signal_handlers=False,
                    fetch_job_polling_interval=min(_FETCH_INTERVAL_S, self._settings.limits.retry_first_s / 2),
                    shutdown_graceful_timeout=self._settings.drain_timeout_s,
                    delete_jobs=DeleteJobCondition.ALWAYS,
                )
            except Exception as gone:  # noqa: BLE001 - jobs run only while this one runs
                log.warning("the queue's worker ended; it is started again", error=repr(gone))
            await asyncio.sleep(_RESTART_S)

    async def _look_at_job(self, job_id: str) -> None:
        try:
            await self._renewals.run(UUID(job_id))
        except Fault as fault:
            # Without the database the lease expires, and the sweep of any replica finds the job again.
            log.warning("a job was left to the sweep", job_id=job_id, error_code=fault.code, error=fault.message)

    async def _look_at_scan(self, scan_id: str) -> None:
        try:
            await self._scanner.run(UUID(scan_id))
        except Fault as fault:
            log.warning("a scan was left to the sweep", scan_id=scan_id, error_code=fault.code, error=fault.message)

    async def _start_due_scans(self, timestamp: int) -> None:
        try:
            await self._schedule.start_due()
        except Fault as fault:
            log.warning("no scan was started", error_code=fault.code, error=fault.message)

    async def _renew_leases(self) -> None:
        await self._job_claims.renew_leases()
        await self._scan_claims.renew_leases()

    async def _store_cvm_states(self) -> None:
        clock = DatabaseClock(await read_clock(self._store.database))
        for name, cluster in self.clusters.items():
            await self._store.cvms.store(name, cluster.ssh.states(clock.at))

    async def _prune(self) -> None:
        kept = self._settings.retention
        removed = await prune(
            self._store.database,
            KeptDays(kept.jobs_days, kept.idempotency_days, kept.deliveries_days, kept.scans_days),
        )
        if removed != Removed():
            log.info("old rows were removed", **asdict(removed))

    async def _sweep(self) -> None:
        if await self._store.pauses.end_if_over():
            log.info("the pause of the service is over")
        woken = await self._job_claims.sweep(self._store.slots)
        if woken:
            log.info("the sweep found due jobs", jobs=woken)
        if scans := await self._scan_claims.sweep():
            log.info("the sweep found due scans", scans=scans)

    def _observe(self, cvm: str, command: str, result: str, seconds: float) -> None:
        self._metrics.commands_total.labels(command=command, result=result).inc()
        self._metrics.command_seconds.labels(command=command).observe(seconds)
        log.debug("command", cvm=cvm, command=command, result=result, seconds=round(seconds, 3))


async def _every(seconds: float, act: Callable[[], Awaitable[object]]) -> None:
    """Runs until it is cancelled; a round that fails is followed by the next one."""
    while True:
        try:
            await act()
        except Fault as fault:
            log.warning("background work failed", error_code=fault.code, error=fault.message)
        except Exception:
            # Leases, sweep and polls must outlive any failure of one round.
            log.exception("background work failed")
        await asyncio.sleep(seconds)


def _pool_limits(limits: Limits) -> PoolLimits:
    return PoolLimits(
        connect_timeout_s=limits.connect_timeout_s,
        login_timeout_s=limits.login_timeout_s,
        keepalive_interval_s=limits.keepalive_interval_s,
        idle_close_s=limits.idle_close_s,
        hold_down_first_s=min(5.0, limits.retry_first_s),
        hold_down_most_s=min(60.0, limits.retry_last_s),
    )

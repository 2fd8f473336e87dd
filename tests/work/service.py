"""The service without its HTTP: a simulated site, a configuration with limits of seconds, the store, and one worker.

Whatever a test does to it, at its end nobody has asked for a private key, and no VM was ever changed by two texts at
once.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from app.ngt.renewal.request import RenewalRequest
from app.ngt.vocabulary import VmUuid
from app.settings import Settings, load_settings
from app.settings.callers.scopes import Scope
from app.simulator.model import SimulatedVm
from app.simulator.site import Site
from app.simulator.spec import SiteSpec
from app.store.change_feed import ChangeFeed
from app.store.clusters.pause import Clusters
from app.store.jobs.commands import Jobs
from app.store.jobs.progress_json import dump_request
from app.store.postgres.database import Database
from app.store.postgres.queue import WakeUps
from app.store.records.callers import Caller
from app.store.records.jobs import JobRecord, NewRenewal, StepRecord
from app.store.records.scans import ScanOrigin, ScanRecord
from app.store.scans.queries import Scans
from app.store.store import Store
from app.telemetry.metrics import Metrics
from app.work.worker import Worker
from tests.limits import LIMIT_S

LIMITS: dict[str, Any] = {
    "lease_s": 2,
    "sweep_interval_s": 0.3,
    "start_window_s": 1,
    "change_margin_s": 1,
    "settle_s": 0.3,
    "delete_timeout_s": 2,
    "create_timeout_s": 2,
    "mount_timeout_s": 2,
    "refresh_timeout_s": 2,
    "look_timeout_s": 3,
    "listing_timeout_s": 3,
    "listing_max_age_s": 2,
    "guest_timeout_s": 3,
    "restart_timeout_s": 3,
    "watch_first_interval_s": 0.3,
    "watch_last_interval_s": 0.6,
    "guest_read_delays_s": [0.1, 0.3, 0.5],
    "retry_first_s": 0.1,
    "retry_last_s": 0.5,
    "verify_timeout_ssh_s": 20,
    "verify_timeout_manual_s": 20,
    "connect_timeout_s": 2,
    "login_timeout_s": 3,
}
"""The limits of a test, where it names no others."""

OPERATOR = Caller("test", "a test", frozenset(Scope), None)


@dataclass(slots=True)
class Service:
    """What a test asks of the service, and of the site below it."""

    site: Site
    settings: Settings
    store: Store
    worker: Worker = field(init=False)
    metrics: Metrics = field(init=False)

    @property
    def database(self) -> Database:
        return self.store.database

    @property
    def wakeups(self) -> WakeUps:
        return self.store.wakeups

    @property
    def jobs(self) -> Jobs:
        return self.store.jobs

    @property
    def clusters(self) -> Clusters:
        return self.store.clusters

    @property
    def scans(self) -> Scans:
        return self.store.scans

    @property
    def changes(self) -> ChangeFeed:
        return self.store.changes

    async def renew(self, vm: str | SimulatedVm, *, search: tuple[str, ...] = (), **request: Any) -> JobRecord:
        """Starts a renewal of the VM of that name; `request` holds fields of RenewalRequest."""
        vm_uuid = VmUuid((self.site.vm_named(vm) if isinstance(vm, str) else vm).uuid)
        clusters = search or tuple(self.settings.clusters)
        wanted = RenewalRequest(clusters=clusters, **request)
        return await self.start(vm_uuid, wanted, clusters[0] if len(clusters) == 1 else None)

    async def start(self, vm_uuid: VmUuid, wanted: RenewalRequest, cluster: str | None) -> JobRecord:
        new = NewRenewal(
            vm_uuid=vm_uuid,
            cluster=cluster,
            request=dump_request(wanted),
            asked={},
            validate_only=wanted.validate_only,
            fail_on_conflict=True,
            caller=OPERATOR,
        )
        return (await self.jobs.start_renewal(new)).job

    async def renewed(self, vm: str | SimulatedVm, **request: Any) -> JobRecord:
        """The job of a renewal, when it is done."""
        return await self.done(await self.renew(vm, **request))

    async def done(self, job: JobRecord, limit_s: float = LIMIT_S) -> JobRecord:
        return await self.wait_until(job, lambda now: now.done, limit_s)

    async def waits(self, job: JobRecord, wait_reason: str, limit_s: float = LIMIT_S) -> JobRecord:
        """The job as soon as it waits for that."""
        return await self.wait_until(job, lambda now: now.wait_reason == wait_reason or now.done, limit_s)

    async def wait_until(
        self, job: JobRecord, condition: Callable[[JobRecord], bool], limit_s: float = LIMIT_S
    ) -> JobRecord:
        """The job as soon as the condition holds for it; fails after `limit_s`."""
        with self.changes.watch(job.id) as watch:
            now = await watch.until(await self.find(job.id), condition, limit_s)
        assert condition(now), f"after {limit_s} s the job is {shown(now)}"
        return now

    async def find(self, job_id: UUID) -> JobRecord:
        job = await self.jobs.find(job_id)
        assert job is not None
        return job

    async def scan(self, cluster: str = "c1", vm: str | SimulatedVm | None = None) -> ScanRecord:
        """Starts a scan of the cluster, or of one VM on it."""
        vm_uuid = None if vm is None else VmUuid(self.uuid_of(vm))
        started = await self.scans.start(cluster, vm_uuid=vm_uuid, origin=ScanOrigin.REQUESTED, caller=OPERATOR)
        return started.scan

    async def scanned(self, cluster: str = "c1", vm: str | SimulatedVm | None = None) -> ScanRecord:
        """A scan when it is done."""
        done = await self.scan_ended((await self.scan(cluster, vm)).id)
        assert done.done, f"after {LIMIT_S} s the scan is {done}"
        return done

    async def scan_ended(self, scan_id: UUID, limit_s: float = LIMIT_S) -> ScanRecord:
        """The scan as soon as it has ended, else as it is after `limit_s`."""
        with self.scans.watch(scan_id) as watch:
            scan = await self.scans.find(scan_id)
            assert scan is not None
            return await watch.until(scan, lambda now: now.done, limit_s)

    def state_of(self, vm: str | SimulatedVm) -> dict[str, object]:
        return self.site.state_of(self.uuid_of(vm))

    def is_renewed(self, vm: str | SimulatedVm) -> bool:
        """Whether the guest really has the last certificate of its entity."""
        return self.state_of(vm)["renewed"] is True

    def uuid_of(self, vm: str | SimulatedVm) -> str:
        return (self.site.vm_named(vm) if isinstance(vm, str) else vm).uuid

    def effects_on(self, vm: str | SimulatedVm) -> list[str]:
        return self.site.journal.effects(self.uuid_of(vm))

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator["Service"]:
        """With a worker, as every service has one."""
        self.metrics = Metrics()
        self.worker = Worker(self.settings, self.store, self.metrics)
        async with self.worker.at_work():
            yield self


def _clock() -> float:
    return asyncio.get_running_loop().time()


def shown(job: JobRecord) -> str:
    """What a failing test tells of a job."""
    steps = ", ".join(f"{step.name}: {step.status} ({step.message})" for step in job.steps)
    said = f"{job.error_code}: {job.error_message}" if job.error_code else job.message
    return f"{job.status} ({job.wait_reason or job.outcome}) {said!r}; {steps}"


def steps_of(job: JobRecord) -> dict[str, StepRecord]:
    """The last record of each step, by its name."""
    return {step.name: step for step in job.steps}


def write_configuration(
    site: Site, path: Path, limits: Mapping[str, Any], *, scan: Mapping[str, Any] | None = None, **clusters: Any
) -> Path:
    """The configuration of a site with these limits; `clusters` is for `Site.settings_toml`.

    Unless `scan` says otherwise nothing is scanned that was not asked for.
    """
    lines = ["[limits]", *_lines({**LIMITS, **limits}), "[scan]", *_lines({"schedule": "off", **(scan or {})})]
    path.write_text("\n".join([*lines, "", site.settings_toml(**clusters)]))
    return path


def _lines(table: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {json.dumps(value)}" for key, value in table.items()]


@asynccontextmanager
async def opened(settings: Settings, database_url: str, site: Site) -> AsyncIterator[Service]:
    """The service on a database that has its tables, before any worker."""
    async with Store(settings, database_url).connected(settings.clusters) as store:
        yield Service(site, settings, store)


@asynccontextmanager
async def running_service(
    directory: Path, database_url: str, spec: SiteSpec, *, limits: Mapping[str, Any] | None = None, **clusters: Any
) -> AsyncIterator[Service]:
    """A site and the service that renews there, with its worker."""
    async with Site.running(spec, directory) as site:
        configuration = write_configuration(site, directory / "ngt-renewal.toml", limits or {}, **clusters)
        async with (
            opened(load_settings(configuration, {}), database_url, site) as service,
            service.at_work(),
        ):
            yield service
        assert_nothing_forbidden(site)


def assert_nothing_forbidden(site: Site) -> None:
    """What must hold at the end of every test, whatever it was about."""
    assert site.journal.violations() == []
    assert site.journal.overlapping_changes() == []

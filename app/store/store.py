"""All that is stored: one object for each noun, over one database and its queue."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from app.ngt.renewal.holds import SlotRules
from app.settings import Settings
from app.store.auto_renew import AutoRenewals
from app.store.callers.api_keys import Keys
from app.store.change_feed import ChangeFeed
from app.store.clusters.cvms import Cvms
from app.store.clusters.pause import Clusters
from app.store.diagnosis import DiagnosisFacts
from app.store.inventory.counts import CertificateCounts
from app.store.inventory.pushed_certificates import PushedCertificates
from app.store.inventory.scan_results import Inventory
from app.store.inventory.vms import Vms
from app.store.jobs.claims import JobClaims
from app.store.jobs.commands import Jobs
from app.store.jobs.events import JobEvents
from app.store.jobs.pickup_polls import PickupPolls
from app.store.jobs.service_pause import Pauses
from app.store.postgres.database import Database
from app.store.postgres.queue import WakeUps, queue_app
from app.store.scans.claims import ScanClaims
from app.store.scans.queries import Scans
from app.store.warnings import CertificateWarnings
from app.store.webhooks.deliveries import Deliveries
from app.store.webhooks.outbox import Outbox


class Store:
    """The database of one process. Its objects keep no state, except for `changes`, which listens once it is open."""

    def __init__(self, settings: Settings, database_url: str) -> None:
        clusters = settings.clusters.items()
        self._lease_s = settings.limits.lease_s
        self.slots = {name: SlotRules(cluster.max_running, cluster.one_until_proved) for name, cluster in clusters}
        self.database = Database(database_url)
        self.queue = queue_app(database_url)
        self.wakeups = WakeUps(self.queue)
        self.outbox = Outbox(settings.webhooks)
        self.jobs = Jobs(self.database, self.wakeups, self.outbox)
        self.job_events = JobEvents(self.database)
        self.pickup_polls = PickupPolls(self.database, self.wakeups)
        self.pauses = Pauses(self.database, self.wakeups, self.slots)
        self.changes = ChangeFeed(database_url, self.jobs)
        self.scans = Scans(self.database, self.wakeups, self.changes)
        self.inventory = Inventory(self.database)
        self.vms = Vms(self.database)
        self.pushed_certificates = PushedCertificates(self.database, self.wakeups)
        self.certificate_counts = CertificateCounts(self.database)
        self.clusters = Clusters(self.database)
        self.cvms = Cvms(self.database)
        self.keys = Keys(self.database)
        self.auto_renewals = AutoRenewals(self.database)
        self.warnings = CertificateWarnings(self.database, self.outbox, settings.warnings)
        self.deliveries = Deliveries(self.database)
        self.diagnosis_facts = DiagnosisFacts(self.database)

    @asynccontextmanager
    async def connected(self, clusters: Iterable[str]) -> AsyncIterator["Store"]:
        """Open, with a row for each of the clusters, until the context is left."""
        try:
            async with self.queue.open_async(), self.changes:
                await self.clusters.ensure(clusters)
                yield self
        finally:
            await self.database.close()

    def job_claims(self, runner: str) -> JobClaims:
        """The claims of one worker process, which `runner` names."""
        return JobClaims(self.database, self.wakeups, runner=runner, lease_s=self._lease_s, outbox=self.outbox)

    def scan_claims(self, runner: str) -> ScanClaims:
        return ScanClaims(self.database, self.wakeups, runner=runner, lease_s=self._lease_s)

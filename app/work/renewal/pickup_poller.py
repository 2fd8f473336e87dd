"""One poll per cluster for all its waiting jobs: an ncli listing and a CLI query, however many jobs wait."""

import asyncio

import structlog

from app.ngt.errors import Fault
from app.ngt.renewal.progress import Sighting
from app.ngt.vocabulary import PowerState, VmUuid
from app.settings import Limits
from app.store.jobs.pickup_polls import PickupPolls
from app.work.clusters.client import ClusterClient
from app.work.clusters.database_clock import DatabaseClock

log = structlog.get_logger(__name__)

_LONGEST_TICK_S = 5.0


class PickupPoller:
    """Polls the configured clusters, in turn with the other replicas."""

    def __init__(self, polls: PickupPolls, clusters: dict[str, ClusterClient], limits: Limits) -> None:
        self._polls = polls
        self._clusters = clusters
        self._limits = limits
        self.tick_s = min(limits.watch_first_interval_s / 3, _LONGEST_TICK_S)
        self._running: set[asyncio.Task[None]] = set()

    async def poll(self) -> None:
        """Start a poll of each cluster that is due. To be called every `tick_s`."""
        due = await self._polls.begin(
            list(self._clusters),
            first_s=self._limits.watch_first_interval_s,
            last_s=self._limits.watch_last_interval_s,
        )
        for name, now in due.items():
            task = asyncio.create_task(self._poll_cluster(self._clusters[name], DatabaseClock(now)))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _poll_cluster(self, cluster: ClusterClient, clock: DatabaseClock) -> None:
        try:
            sightings = await self._sightings(cluster, clock)
            woken = await self._polls.store(cluster.name, sightings)
        except Fault as fault:
            # The jobs go on waiting; the next interval asks again.
            log.warning("a pickup poll failed", cluster=cluster.name, error_code=fault.code, error=fault.message)
            return
        log.info("polled", cluster=cluster.name, waiting=len(sightings), changed=woken)

    async def _sightings(self, cluster: ClusterClient, clock: DatabaseClock) -> dict[VmUuid, Sighting]:
        waiting = await self._polls.waiting_vms(cluster.name)
        listing, query = await asyncio.gather(cluster.listing(max_age_s=0.0), cluster.query(waiting))
        at = clock.at(query.read_s)
        sightings: dict[VmUuid, Sighting] = {}
        for vm_uuid in waiting:
            record = listing.vms.get(vm_uuid)
            power = record.power if record is not None else PowerState.UNKNOWN
            # An empty query proves nothing about this VM; only its own look decides.
            if query.entities or query.other_count:
                sightings[vm_uuid] = Sighting(at, query.entities.get(vm_uuid), power)
        return sightings

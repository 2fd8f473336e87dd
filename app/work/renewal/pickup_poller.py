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
    """Watches the clusters of this configuration, in turn with the other replicas."""

    def __init__(self, watching: PickupPolls, clusters: dict[str, ClusterClient], limits: Limits) -> None:
        self._watching = watching
        self._clusters = clusters
        self._limits = limits
        self.tick_s = min(limits.watch_first_interval_s / 3, _LONGEST_TICK_S)
        self._at_work: set[asyncio.Task[None]] = set()

    async def look(self) -> None:
        """Begin to look at each cluster whose turn it is. To be called every `tick_s`."""
        due = await self._watching.begin(
            list(self._clusters),
            first_s=self._limits.watch_first_interval_s,
            last_s=self._limits.watch_last_interval_s,
        )
        for name, now in due.items():
            task = asyncio.create_task(self._look_at(self._clusters[name], DatabaseClock(now)))
            self._at_work.add(task)
            task.add_done_callback(self._at_work.discard)

    async def _look_at(self, cluster: ClusterClient, clock: DatabaseClock) -> None:
        try:
            sightings = await self._sightings(cluster, clock)
            woken = await self._watching.store(cluster.name, sightings)
        except Fault as fault:
            # The jobs go on waiting; the next interval asks again.
            log.warning("the watch got no answer", cluster=cluster.name, error_code=fault.code, error=fault.message)
            return
        log.info("watched", cluster=cluster.name, waiting=len(sightings), changed=woken)

    async def _sightings(self, cluster: ClusterClient, clock: DatabaseClock) -> dict[VmUuid, Sighting]:
        waiting = await self._watching.waiting_vms(cluster.name)
        listing, query = await asyncio.gather(cluster.listing(max_age_s=0.0), cluster.query(waiting))
        at = clock.at(query.read_s)
        sightings: dict[VmUuid, Sighting] = {}
        for vm_uuid in waiting:
            record = listing.vms.get(vm_uuid)
            power = record.power if record is not None else PowerState.UNKNOWN
            # A query that lists nobody says nothing about this VM; only a look of its own decides that.
            if query.entities or query.other_count:
                sightings[vm_uuid] = Sighting(at, query.entities.get(vm_uuid), power)
        return sightings

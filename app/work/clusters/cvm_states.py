"""The CVMs as this process sees them: for the database, which all replicas read, and for metrics."""

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.ssh.pool import Pool, Reachable
from app.store.clusters.cvms import FoundCvm
from app.work.clusters.client import ClusterClient
from app.work.clusters.database_clock import DatabaseClock


def found_cvms(clusters: Iterable[ClusterClient], clock: DatabaseClock) -> list[FoundCvm]:
    """The CVMs of which this process knows whether they are up."""
    return [
        FoundCvm(
            cluster=cluster.name,
            address=state.cvm,
            is_up=state.is_up,
            checked_at=clock.at(state.checked_s),
            fault_code=None if state.fault is None else state.fault.code,
            fault=None if state.fault is None else state.fault.message,
        )
        for cluster in clusters
        for state in cluster.ssh.states()
    ]


class CvmStates(Collector):
    """Metrics of the CVMs; one that was never asked has no value yet."""

    def __init__(self, clusters: Mapping[str, ClusterClient], pool: Pool) -> None:
        self._clusters = clusters
        self._pool = pool

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("ngt_cvm_up", "1 while a connection to the CVM stands.", labels=["cluster", "cvm"])
        connections = GaugeMetricFamily("ngt_cvm_ssh_connections", "SSH connections.", labels=["cluster", "cvm"])
        keys = CounterMetricFamily(
            "ngt_cvm_host_key_changes",
            "Times that a CVM showed another host key than the known one.",
            labels=["cluster", "cvm"],
        )
        states = {state.host: state for state in self._pool.state()}
        for name, cluster in self._clusters.items():
            for cvm, host in cluster.ssh.hosts.items():
                state = states.get(host)
                if state is not None and state.reachable is not Reachable.UNKNOWN:
                    up.add_metric([name, cvm], float(state.reachable is Reachable.UP))
                connections.add_metric([name, cvm], state.connections if state is not None else 0)
                keys.add_metric([name, cvm], state.host_key_mismatches if state is not None else 0)
        yield up
        yield connections
        yield keys

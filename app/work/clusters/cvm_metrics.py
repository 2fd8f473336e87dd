"""Metrics of the CVMs."""

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.ssh.pool import Pool, Reachable
from app.work.clusters.client import ClusterClient


class CvmMetrics(Collector):
    """One value for each CVM; a CVM that was never asked has no `ngt_cvm_up`."""

    def __init__(self, clusters: Mapping[str, ClusterClient], pool: Pool) -> None:
        self._clusters = clusters
        self._pool = pool

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("ngt_cvm_up", "1 while the service is connected to the CVM.", labels=["cluster", "cvm"])
        connections = GaugeMetricFamily("ngt_cvm_ssh_connections", "SSH connections.", labels=["cluster", "cvm"])
        keys = CounterMetricFamily(
            "ngt_cvm_host_key_changes",
            "Times that the CVM showed another host key than the known one.",
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

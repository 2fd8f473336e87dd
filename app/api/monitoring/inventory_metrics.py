"""The metrics of VMs, certificates, scans and keys: written by one at a time, and shared for some seconds.

A large site has a hundred thousand samples. They are written in small pieces, between which others have their turn (a
thread would take the interpreter's lock from them for longer), and kept compressed; each answer adds its own end.
"""

import asyncio
import time
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime

from prometheus_client import generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.store.inventory.counts import BUCKETS, CertificateCounts, ClusterCounts, Counted, VmTimes

_SHARED_S = 5.0
_CLUSTER = ("cluster",)
_VM = ("cluster", "vm_uuid", "vm_name")
_VMS_AT_ONCE = 500
_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
# The first level: a higher one takes three times as long and saves a tenth.
_LEVEL = 1
GZIP_BITS = zlib.MAX_WBITS | 16
"""How zlib calls the format of gzip."""

_TIMES: tuple[tuple[str, str, Callable[[ClusterCounts], datetime | None]], ...] = (
    (
        "ngt_client_cert_earliest_not_after_timestamp_seconds",
        "When the first of the cluster's certificates expires; absent without a date.",
        lambda counts: counts.earliest_not_after,
    ),
    (
        "ngt_client_cert_oldest_observed_timestamp_seconds",
        "When the certificate was seen that was not seen for the longest time.",
        lambda counts: counts.oldest_observed_at,
    ),
    (
        "ngt_vms_oldest_awaiting_pickup_timestamp_seconds",
        "Since when the VM waits that has waited longest for its new certificate; absent without one.",
        lambda counts: counts.oldest_awaiting_pickup_at,
    ),
    (
        "ngt_scan_last_success_timestamp_seconds",
        "The last scan of the whole cluster; absent before the first.",
        lambda counts: counts.scanned_at,
    ),
    (
        "ngt_scan_last_failure_timestamp_seconds",
        "When the cluster's last scan failed or was not whole; absent when it was whole.",
        lambda counts: counts.scan_failed_at,
    ),
    (
        "ngt_renew_last_success_timestamp_seconds",
        "When a renewal was last proved on the cluster; absent before the first.",
        lambda counts: counts.last_renewed_at,
    ),
)
_NUMBERS: tuple[tuple[str, str, Callable[[ClusterCounts], float]], ...] = (
    ("ngt_vms", "VMs that are known and have not vanished.", lambda counts: counts.vms),
    ("ngt_cluster_paused", "1 while no renewal begins on the cluster.", lambda counts: counts.paused),
    (
        "ngt_auto_renew_stopped",
        "1 while automatic renewal is stopped on the cluster because renewals failed.",
        lambda counts: counts.auto_renew_stopped,
    ),
)
# The name of each series of a VM, its meaning, and its place in `VmTimes`.
_OF_VMS = (
    ("ngt_client_cert_not_before_timestamp_seconds", "When the VM's certificate begins to be valid.", 3),
    ("ngt_client_cert_not_after_timestamp_seconds", "When the VM's certificate expires.", 4),
    (
        "ngt_client_cert_observed_timestamp_seconds",
        "When the VM's certificate was last seen; absent for a computed date.",
        5,
    ),
    ("ngt_link_active", "1 when the agent's link to the cluster was active at the last look.", 6),
)


class CompressedBeginning:
    """A text that is kept as the beginning of a gzip stream, to which any end can be added."""

    def __init__(self) -> None:
        self._squeeze = zlib.compressobj(_LEVEL, wbits=GZIP_BITS)
        self._begun: list[bytes] = []

    def add(self, piece: bytes) -> None:
        """Have it go on with the piece."""
        self._begun.append(self._squeeze.compress(piece))

    def with_end(self, end: bytes) -> bytes:
        """The whole stream; nothing may be added while others read it."""
        rest = self._squeeze.copy()
        return b"".join((*self._begun, rest.compress(end), rest.flush()))


class InventoryMetrics:
    """The text of the `clusters`. With `per_vm` each VM has its own series.

    `now_s` is a clock that never goes back; an answer is shared for as long as it has moved less than `shared_s`.
    """

    def __init__(
        self,
        counts: CertificateCounts,
        clusters: Collection[str],
        *,
        per_vm: bool,
        shared_s: float = _SHARED_S,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._counts = counts
        self._clusters = clusters
        self._per_vm = per_vm
        self._shared_s = shared_s
        self._now_s = now_s
        self._written: tuple[float, CompressedBeginning] | None = None
        self._writing: asyncio.Task[CompressedBeginning] | None = None

    async def text(self) -> CompressedBeginning:
        """The newest text; who asks while one is written waits for that one. Raises Fault `database-unavailable`."""
        if self._written is not None and self._now_s() - self._written[0] < self._shared_s:
            return self._written[1]
        if self._writing is None:
            self._writing = asyncio.create_task(self._write(), name="metrics")
            self._writing.add_done_callback(self._end_writing)
        return await asyncio.shield(self._writing)

    async def _write(self) -> CompressedBeginning:
        counted = await self._counts.read(self._clusters, per_vm=self._per_vm)
        read_s = self._now_s()
        text = CompressedBeginning()
        for piece in _pieces(counted):
            text.add(piece)
            await asyncio.sleep(0)
        self._written = (read_s, text)
        return text

    def _end_writing(self, done: asyncio.Task[CompressedBeginning]) -> None:
        self._writing = None
        if not done.cancelled():
            # Those who waited have it, or went away.
            done.exception()


class _Alone(Collector):
    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterator[Metric]:
        yield self._family


def _pieces(counted: Counted) -> Iterator[bytes]:
    """The text, family by family; each stands there once, also without samples: who asks for it finds its meaning."""
    for family in (*_of_clusters(counted.clusters), _of_keys(counted)):
        yield generate_latest(_Alone(family))
    for name, meaning, place in _OF_VMS:
        yield generate_latest(_Alone(GaugeMetricFamily(name, meaning, labels=_VM)))
        for first in range(0, len(counted.vms), _VMS_AT_ONCE):
            yield _samples(name, place, counted.vms[first : first + _VMS_AT_ONCE])


def _samples(name: str, place: int, vms: Sequence[VmTimes]) -> bytes:
    """The lines of these VMs as the client would write them, in a sixth of the time and without an object for each."""
    lines = [
        f'{name}{{cluster="{vm.cluster.translate(_ESCAPES)}",vm_uuid="{vm.vm_uuid}",'
        f'vm_name="{vm.vm_name.translate(_ESCAPES)}"}} {vm[place]!r}\n'
        for vm in vms
        if vm[place] is not None
    ]
    return "".join(lines).encode()


def _of_keys(counted: Counted) -> Metric:
    family = GaugeMetricFamily(
        "ngt_api_token_expiry_timestamp_seconds", "When each API key that can be used expires.", labels=["token_id"]
    )
    for key_id, expires_at in counted.keys_expire_at.items():
        family.add_metric([key_id], expires_at.timestamp())
    return family


def _of_clusters(clusters: tuple[ClusterCounts, ...]) -> Iterator[Metric]:
    certificates = GaugeMetricFamily(
        "ngt_client_certs", "VMs by the time that their certificates have left.", labels=["cluster", "bucket"]
    )
    for counts in clusters:
        for bucket in BUCKETS:
            certificates.add_metric([counts.cluster, bucket], counts.certificates[bucket])
    yield certificates
    for name, meaning, number in _NUMBERS:
        family = GaugeMetricFamily(name, meaning, labels=_CLUSTER)
        for counts in clusters:
            family.add_metric([counts.cluster], float(number(counts)))
        yield family
    for name, meaning, time_of in _TIMES:
        family = GaugeMetricFamily(name, meaning, labels=_CLUSTER)
        for counts in clusters:
            if (at := time_of(counts)) is not None:
                family.add_metric([counts.cluster], at.timestamp())
        yield family

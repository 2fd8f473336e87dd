"""Warns of certificates that expire soon, cluster by cluster. Every replica does, one at a time for a cluster."""

from collections.abc import Iterable
from dataclasses import asdict

import structlog

from app.store.warnings import CertificateWarnings, Told
from app.work.clusters.rounds import for_each_cluster

log = structlog.get_logger(__name__)


class CertificateWarner:
    """Writes the due warnings and digests of the configured clusters."""

    def __init__(self, warnings: CertificateWarnings, clusters: Iterable[str]) -> None:
        self._warnings = warnings
        self._clusters = tuple(clusters)

    async def warn(self) -> None:
        """One round. The warnings of a cluster that fails stay due."""
        await for_each_cluster(self._clusters, self._warn, "the certificate warnings of a cluster failed")

    async def _warn(self, cluster: str) -> None:
        told = await self._warnings.tell(cluster)
        if told != Told():
            log.info("certificate warnings were written", cluster=cluster, **asdict(told))

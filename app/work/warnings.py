"""Tells people that certificates end, cluster by cluster; every replica does, and one at a time for a cluster."""

from collections.abc import Iterable
from dataclasses import asdict

import structlog

from app.store.warnings import CertificateWarnings, Told

log = structlog.get_logger(__name__)

TELL_EVERY_S = 60.0
"""How often it is looked for what is to be told: so late at most an event or a digest is written."""


class CertificateWarner:
    """Tells of the certificates of the configured clusters."""

    def __init__(self, warnings: CertificateWarnings, clusters: Iterable[str]) -> None:
        self._warnings = warnings
        self._clusters = tuple(clusters)

    async def tell(self) -> None:
        """To be called every `TELL_EVERY_S`."""
        for cluster in self._clusters:
            told = await self._warnings.tell(cluster)
            if told != Told():
                log.info("certificates were told of", cluster=cluster, **asdict(told))

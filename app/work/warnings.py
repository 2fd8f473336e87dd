"""Tells people that certificates end, cluster by cluster; every replica does, and one at a time for a cluster."""

from collections.abc import Iterable
from dataclasses import asdict

import structlog

from app.ngt.errors import Fault
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
        """To be called every `TELL_EVERY_S`. Raises Fault `database-unavailable`."""
        for cluster in self._clusters:
            try:
                told = await self._warnings.tell(cluster)
            except Fault:
                # Without the database there is no other cluster to tell of either.
                raise
            except Exception:
                # Nothing of it is stored; the other clusters' warnings must not wait until its cause is mended.
                log.exception("the certificates of a cluster could not be told of", cluster=cluster)
                continue
            if told != Told():
                log.info("certificates were told of", cluster=cluster, **asdict(told))

"""One round of background work over the clusters: the trouble of one cluster delays no other one."""

from collections.abc import Awaitable, Callable, Iterable

import structlog

from app.ngt.errors import Fault

log = structlog.get_logger(__name__)


async def for_each_cluster(clusters: Iterable[str], act: Callable[[str], Awaitable[None]], failure: str) -> None:
    """Calls `act` for one cluster after the other, and logs `failure` for those where it raises."""
    for cluster in clusters:
        try:
            await act(cluster)
        except Fault as fault:
            log.warning(failure, cluster=cluster, error_code=fault.code, error=fault.message)
        except Exception:
            log.exception(failure, cluster=cluster)

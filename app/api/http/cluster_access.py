"""On which clusters a VM may be looked for, and whether a renewal there could end well: from what is known already."""

from collections.abc import Collection

from app.ngt.errors import Fault, FaultCode
from app.ngt.renewal.request import RestartAgent
from app.settings import ClusterSettings, Settings
from app.store.records.callers import Caller


def get_cluster(settings: Settings, caller: Caller, name: str) -> ClusterSettings:
    """Raises Fault `cluster-not-found`, and `target-not-allowed`.

    The second comes first: a key of some clusters does not learn which others there are.
    """
    if not caller.may_use(name):
        raise Fault(FaultCode.TARGET_NOT_ALLOWED, f"The API key may not use the cluster {name!r}.")
    return settings.cluster(name)


def allowed_clusters(settings: Settings, caller: Caller) -> tuple[str, ...]:
    """The configured clusters that the caller may use, by name."""
    return tuple(name for name in sorted(settings.clusters) if caller.may_use(name))


def candidate_clusters(
    settings: Settings, caller: Caller, named: str | None, seen_on: Collection[str]
) -> tuple[str, ...]:
    """The clusters to search: the one that the request names, else those where the VM was seen, else all.

    Raises Fault `cluster-not-found` and `target-not-allowed`.
    """
    if named is not None:
        get_cluster(settings, caller, named)
        return (named,)
    allowed = allowed_clusters(settings, caller)
    if not allowed and caller.clusters is None:
        raise Fault(FaultCode.CLUSTER_NOT_FOUND, "No cluster is configured.")
    if not allowed:
        raise Fault(FaultCode.TARGET_NOT_ALLOWED, "The API key may use none of the configured clusters.")
    return tuple(name for name in allowed if name in seen_on) or allowed


def check_restart_possible(settings: Settings, candidates: Collection[str], restart_agent: RestartAgent | None) -> None:
    """Raises Fault `agent-restart-not-possible` when nobody could restart the agent on any of the clusters."""
    if any(_can_restart(settings.cluster(name), restart_agent) for name in candidates):
        return
    names = ", ".join(candidates)
    raise Fault(
        FaultCode.AGENT_RESTART_NOT_POSSIBLE,
        f"This service has no SSH access to guests of {names}, so it could not restart the agent. Nothing was started.",
    )


def _can_restart(cluster: ClusterSettings, asked: RestartAgent | None) -> bool:
    how = asked or cluster.restart_agent
    return how is RestartAgent.MANUAL or bool(cluster.guests)

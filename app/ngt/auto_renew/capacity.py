"""The number of automatic renewals that may start on a cluster now. They never queue behind other jobs."""

from collections.abc import Iterator
from dataclasses import dataclass

from app.ngt.auto_renew.plan import AutoRules


@dataclass(frozen=True, slots=True)
class AutoRenewState:
    """The state of a cluster now.

    `automatic` counts its open automatic jobs that do not wait for a person, `taking_slot` all its jobs that have not
    finished their changes, `open_jobs` all its open ones. `one_at_a_time`: no renewal was proved there yet.
    """

    enabled: bool
    max_running: int
    one_at_a_time: bool
    service_paused: bool = False
    paused: bool = False
    stopped_because: str | None = None
    stranded: int = 0
    automatic: int = 0
    taking_slot: int = 0
    open_jobs: int = 0


def capacity(rules: AutoRules, standing: AutoRenewState) -> int:
    """The number of renewals that may start now."""
    if any(blockers(standing)):
        return 0
    if standing.one_at_a_time:
        return 0 if standing.open_jobs else 1
    return max(0, min(rules.at_most_at_once - standing.automatic, standing.max_running - standing.taking_slot))


def blockers(standing: AutoRenewState) -> Iterator[str]:
    """Everything that lets none begin, whatever the hour, a sentence each."""
    if not standing.enabled:
        yield "Automatic renewal is off: nothing of this is done before `enabled = true` is set."
    if standing.stopped_because is not None:
        yield f"Automatic renewal was stopped: {standing.stopped_because}."
    if standing.service_paused:
        yield "The service is paused: nothing begins before it is resumed."
    if standing.paused:
        yield "The cluster is paused: nothing begins before it is resumed."
    if standing.stranded:
        yield "A VM of the cluster has no tools entity at the moment: nothing begins before it has one again."

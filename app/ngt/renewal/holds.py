"""Reasons to hold a job that is due, and the sentence that the job shows for each."""

from dataclasses import dataclass
from datetime import UTC, datetime

from app.ngt.renewal.progress import WaitReason

_SENTENCES = {
    WaitReason.CLUSTER_BUSY: "as many renewals as allowed run on the cluster; this one starts when one of them ends",
    WaitReason.CLUSTER_PAUSED: "the cluster is paused; the renewal starts when it is resumed",
    WaitReason.CLUSTER_NOT_PROVEN: "no renewal was proved on this cluster yet, so they run one at a time until one is",
    WaitReason.CLUSTER_HAS_STRANDED_VM: "another VM of the cluster has no tools entity at the moment; "
    "nothing else is deleted there before it has one",
}
# A job that is held for one of these has no due time; the end of the reason wakes it.
HOLD_REASONS = (WaitReason.SERVICE_PAUSED, *_SENTENCES)


@dataclass(frozen=True, slots=True)
class JobHold:
    """The reason why a job must not go on now."""

    reason: WaitReason
    message: str


@dataclass(frozen=True, slots=True)
class SlotRules:
    """The number of renewals that may run on a cluster; `prove_first`: one at a time until one was proved."""

    max_running: int
    prove_first: bool


@dataclass(frozen=True, slots=True)
class ClusterLoad:
    """The state of the service and of a cluster at the moment in which a job asks for a slot."""

    service_paused: bool
    pause_reason: str | None
    pause_until: datetime | None
    changing: bool
    paused: bool
    stranded_others: int
    running_others: int
    changing_others: int
    proven: bool


def hold_before_start(load: ClusterLoad, rules: SlotRules) -> JobHold | None:
    """A job that has begun to change is held by the number of slots alone."""
    busy = hold_of_cluster(WaitReason.CLUSTER_BUSY) if load.running_others >= rules.max_running else None
    if load.changing:
        return busy
    if load.service_paused:
        return hold_of_pause(load.pause_reason, load.pause_until)
    if load.paused:
        return hold_of_cluster(WaitReason.CLUSTER_PAUSED)
    if load.stranded_others:
        return hold_of_cluster(WaitReason.CLUSTER_HAS_STRANDED_VM)
    if rules.prove_first and not load.proven and (load.changing_others or load.running_others):
        return hold_of_cluster(WaitReason.CLUSTER_NOT_PROVEN)
    return busy


def hold_before_change(load: ClusterLoad) -> JobHold | None:
    """The reason why a running job must not issue a new certificate now."""
    if load.service_paused and not load.changing:
        return hold_of_pause(load.pause_reason, load.pause_until)
    if load.paused and not load.changing:
        return hold_of_cluster(WaitReason.CLUSTER_PAUSED)
    return hold_of_cluster(WaitReason.CLUSTER_HAS_STRANDED_VM) if load.stranded_others else None


def hold_of_cluster(reason: WaitReason) -> JobHold:
    return JobHold(reason, _SENTENCES[reason])


def hold_of_pause(reason: str | None, until: datetime | None) -> JobHold:
    ends = "" if until is None else f" until {until.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    because = "" if reason is None else f": {reason}"
    starts = "then" if until is not None else "when it is resumed"
    return JobHold(WaitReason.SERVICE_PAUSED, f"the service is paused{ends}{because}; the renewal starts {starts}")

"""What holds a job back that is due, and the words that its row has for it: one place for all who hold or release."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.ngt.renewal.progress import WaitReason

# A job that is held for one of these has no due time; what held it wakes it.
HOLD_REASONS = (
    WaitReason.SERVICE_PAUSED,
    WaitReason.CLUSTER_BUSY,
    WaitReason.CLUSTER_PAUSED,
    WaitReason.CLUSTER_NOT_PROVEN,
    WaitReason.CLUSTER_HAS_STRANDED_VM,
)
_HELD_BECAUSE = {
    WaitReason.CLUSTER_BUSY: "as many renewals as allowed run on the cluster; this one starts when one of them ends",
    WaitReason.CLUSTER_PAUSED: "the cluster is paused; the renewal starts when it is resumed",
    WaitReason.CLUSTER_NOT_PROVEN: "no renewal was proved on this cluster yet, so they run one at a time until one is",
    WaitReason.CLUSTER_HAS_STRANDED_VM: "another VM of the cluster has no tools entity at the moment; "
    "nothing else is deleted there before it has one",
}


@dataclass(frozen=True, slots=True)
class JobHold:
    """Why a job must not go on now."""

    reason: WaitReason
    message: str


# A pause whose time is over holds nobody, although its row may stand a moment longer.
PAUSE_STANDS = "(pause.until IS NULL OR pause.until > clock_timestamp())"
_FIND_PAUSE = text(f"SELECT reason, until FROM pause WHERE {PAUSE_STANDS}")  # noqa: S608 - a constant


async def find_hold(connection: AsyncConnection) -> JobHold | None:
    """What a new job says while the whole service is paused."""
    row = (await connection.execute(_FIND_PAUSE)).one_or_none()
    return None if row is None else hold_of_pause(row.reason, row.until)


def hold_of_cluster(reason: WaitReason) -> JobHold:
    return JobHold(reason, _HELD_BECAUSE[reason])


def hold_of_pause(reason: str | None, until: datetime | None) -> JobHold:
    """What a job says that the pause of the whole service holds."""
    ends = "" if until is None else f" until {until.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    because = "" if reason is None else f": {reason}"
    starts = "then" if until is not None else "when it is resumed"
    return JobHold(WaitReason.SERVICE_PAUSED, f"the service is paused{ends}{because}; the renewal starts {starts}")

"""The slots of a cluster, counted in rows under an advisory lock of the cluster.

A stranded VM goes before everything; while a cluster has one, nothing that deletes starts there.
"""

from collections.abc import Mapping
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.ngt.renewal.holds import (
    HOLD_REASONS,
    ClusterLoad,
    JobHold,
    SlotRules,
    hold_before_change,
    hold_before_start,
    hold_of_cluster,
)
from app.ngt.renewal.progress import WaitReason
from app.store.jobs.holds import PAUSE_STANDS
from app.store.jobs.updates import JOB_CHANNEL
from app.store.postgres.advisory_locks import CLUSTER_SLOTS, SERVICE_PAUSE
from app.store.postgres.queue import WakeUps

_NO_JOB = UUID(int=0)


_LOCK = text("SELECT pg_advisory_xact_lock_shared(:pause_lock), pg_advisory_xact_lock(:lock, hashtext(:cluster))")
_GATE = text(f"""
SELECT gate.*, pause.single IS NOT NULL AS service_paused, pause.reason AS pause_reason, pause.until AS pause_until
FROM (SELECT
  coalesce((SELECT changing_since IS NOT NULL FROM job WHERE id = :id), false) AS changing,
  coalesce((SELECT paused_at IS NOT NULL FROM cluster WHERE name = :cluster), false) AS paused,
  coalesce((SELECT proven_at IS NOT NULL FROM cluster WHERE name = :cluster), false) AS proven,
  count(*) FILTER (WHERE stranded_since IS NOT NULL) AS stranded_others,
  count(*) FILTER (WHERE takes_slot AND (lease_until >= clock_timestamp() OR remote_until_at IS NOT NULL
                                         OR stranded_since IS NOT NULL)) AS running_others,
  count(*) FILTER (WHERE changing_since IS NOT NULL) AS changing_others
FROM job WHERE cluster = :cluster AND NOT done AND id <> :id) AS gate LEFT JOIN pause ON {PAUSE_STANDS}
""")  # noqa: S608 - the only part put in is a constant
_MINE = text("""
SELECT stranded_since IS NOT NULL OR remote_until_at IS NOT NULL AS holds_slot
FROM job WHERE id = :id AND NOT done AND due_at <= clock_timestamp()
  AND (lease_until IS NULL OR lease_until < clock_timestamp())
""")
_HOLD = text("""
UPDATE job SET due_at = NULL, wait_reason = :reason, message = :message, version = version + 1, updated_at = now(),
  status = CASE WHEN started_at IS NULL THEN 'queued' ELSE 'waiting' END, lease_until = NULL
WHERE id = :id
""")
_WAKE_NEXT = text("""
UPDATE job SET due_at = clock_timestamp() WHERE id IN (
  SELECT id FROM job WHERE cluster = :cluster AND NOT done AND due_at IS NULL AND wait_reason = ANY(:held)
  ORDER BY changing_since NULLS LAST, created_at, id
  LIMIT greatest(0, :free)
  FOR UPDATE SKIP LOCKED)
RETURNING id
""")


# A job that no worker has looked at yet is due all the same, and only said that the service was paused.
_FORGET_PAUSE = text("""
UPDATE job SET wait_reason = NULL, message = 'queued', version = version + 1, updated_at = now()
WHERE id IN (
  SELECT id FROM job WHERE NOT done AND due_at IS NOT NULL AND wait_reason = 'service_paused'
  ORDER BY id FOR UPDATE SKIP LOCKED)
RETURNING pg_notify(:channel, CAST(id AS text))
""")
_HOLD_OTHERWISE = text("""
UPDATE job SET wait_reason = :reason, message = :message, version = version + 1, updated_at = now()
WHERE id IN (
  SELECT id FROM job WHERE cluster = :cluster AND NOT done AND due_at IS NULL AND wait_reason = 'service_paused'
  ORDER BY id FOR UPDATE SKIP LOCKED)
RETURNING pg_notify(:channel, CAST(id AS text))
""")
_WITHOUT_CLUSTER = text("""
UPDATE job SET due_at = clock_timestamp()
WHERE NOT done AND due_at IS NULL AND wait_reason = ANY(:held) AND NOT cluster = ANY(:clusters)
RETURNING id
""")


async def release_orphans(connection: AsyncConnection, clusters: list[str]) -> list[UUID]:
    """Makes held jobs due whose cluster is not configured any more: nothing else would ever wake them."""
    rows = await connection.execute(_WITHOUT_CLUSTER, {"held": list(HOLD_REASONS), "clusters": clusters})
    return [job_id for (job_id,) in rows.all()]


async def acquire_slot(connection: AsyncConnection, job_id: UUID, cluster: str, rules: SlotRules) -> bool:
    """True when the job has, or now gets, one of the cluster's slots until this transaction ends.

    Otherwise the job is held: it loses its due time, and its message gives the reason.
    """
    await _lock(connection, cluster)
    mine = (await connection.execute(_MINE, {"id": job_id})).one_or_none()
    if mine is None:
        return False
    if mine.holds_slot:
        return True
    held = hold_before_start(await _gate_of(connection, job_id, cluster), rules)
    if held is None:
        return True
    await connection.execute(_HOLD, {"id": job_id, "reason": held.reason, "message": held.message})
    return False


async def find_hold_before_change(connection: AsyncConnection, job_id: UUID, cluster: str) -> JobHold | None:
    """The hold that forbids to issue a certificate now; it is true until this transaction ends."""
    await _lock(connection, cluster)
    return hold_before_change(await _gate_of(connection, job_id, cluster))


async def wake_held(connection: AsyncConnection, wakeups: WakeUps, cluster: str, slots: SlotRules) -> None:
    """Wakes as many held jobs of the cluster as it has free slots."""
    gate = await _gate_of(connection, _NO_JOB, cluster)
    most = 1 if slots.prove_first and not gate.proven else slots.max_running
    held = list(HOLD_REASONS)
    if gate.service_paused or gate.paused or gate.stranded_others:
        # A job that was held after it had begun may go on; those that have not begun would only be held again.
        held = [WaitReason.CLUSTER_BUSY]
    values = {"cluster": cluster, "held": held, "free": most - gate.running_others}
    for (job_id,) in (await connection.execute(_WAKE_NEXT, values)).all():
        await wakeups.wake(connection, job_id)


async def release_paused(connection: AsyncConnection, wakeups: WakeUps, slots: Mapping[str, SlotRules]) -> None:
    """Moves jobs from the hold of the service to those of their clusters, and wakes jobs with a free slot."""
    await connection.execute(_FORGET_PAUSE, {"channel": JOB_CHANNEL})
    for cluster, rules in slots.items():
        gate = await _gate_of(connection, _NO_JOB, cluster)
        hold = hold_before_start(gate, rules) or hold_of_cluster(WaitReason.CLUSTER_BUSY)
        values = {"cluster": cluster, "reason": hold.reason, "message": hold.message, "channel": JOB_CHANNEL}
        await connection.execute(_HOLD_OTHERWISE, values)
        await wake_held(connection, wakeups, cluster, rules)


async def _lock(connection: AsyncConnection, cluster: str) -> None:
    await connection.execute(_LOCK, {"pause_lock": SERVICE_PAUSE, "lock": CLUSTER_SLOTS, "cluster": cluster})


async def _gate_of(connection: AsyncConnection, job_id: UUID, cluster: str) -> ClusterLoad:
    row = (await connection.execute(_GATE, {"id": job_id, "cluster": cluster})).one()
    return ClusterLoad(**row._mapping)  # noqa: SLF001 - SQLAlchemy's public name

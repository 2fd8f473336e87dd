"""The effects of the end of a renewal on its VM and its cluster."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.store.observations import store_renewed
from app.store.records.claims import AutoStop, Claim, Outcome

_PICKED_UP = text("""
INSERT INTO vm (vm_uuid, cluster, last_job_id) VALUES (:vm_uuid, :cluster, :id)
ON CONFLICT (vm_uuid, cluster) DO UPDATE SET awaiting_pickup_since = NULL, last_job_id = :id
""")
_RENEWED = text("UPDATE vm SET renewed_at = clock_timestamp() WHERE vm_uuid = :vm_uuid AND cluster = :cluster")
_COUNT_FOR_CLUSTER = text("""
INSERT INTO cluster AS c (name, proven_at, unproven_in_a_row)
VALUES (:cluster, CASE WHEN :proven THEN clock_timestamp() END, CASE WHEN :proven THEN 0 ELSE 1 END)
ON CONFLICT (name) DO UPDATE SET
  proven_at = CASE WHEN :proven THEN coalesce(c.proven_at, clock_timestamp()) ELSE c.proven_at END,
  unproven_in_a_row = CASE WHEN :proven THEN 0 ELSE c.unproven_in_a_row + 1 END
""")
_PAUSE = text("""
UPDATE cluster SET paused_at = clock_timestamp(), paused_by = 'this service', pause_reason = :reason
WHERE name = :cluster AND paused_at IS NULL AND unproven_in_a_row >= :most
""")
# A certificate that was renewed ends the row of failures. A skipped, cancelled or unproved one predicts
# nothing about the next one, and leaves the row as it is.
_COUNT_AUTOMATIC = text("""
INSERT INTO cluster AS c (name, auto_failures_in_a_row)
SELECT :cluster, CASE WHEN :renewed THEN 0 ELSE 1 END FROM job WHERE id = :id AND automatic_rule IS NOT NULL
ON CONFLICT (name) DO UPDATE
SET auto_failures_in_a_row = CASE WHEN :renewed THEN 0 ELSE c.auto_failures_in_a_row + 1 END
RETURNING (SELECT vm_name FROM job WHERE id = :id) AS vm_name
""")
_STOP_AUTOMATIC = text("""
UPDATE cluster SET auto_stopped_at = clock_timestamp(), auto_stopped_reason = :reason
WHERE name = :cluster AND auto_stopped_at IS NULL AND auto_failures_in_a_row >= :most
RETURNING auto_failures_in_a_row, auto_stopped_at
""")


async def record_outcome(connection: AsyncConnection, claim: Claim, ended: Outcome) -> AutoStop | None:
    """Writes down what was renewed, and pauses a cluster on which too many in a row were not proved.

    Answers whether too many automatic renewals in a row failed, so that the cluster has no more of them.
    """
    ids = {"vm_uuid": claim.vm_uuid, "cluster": claim.cluster, "id": claim.job_id}
    if ended.picked_up:
        await connection.execute(_PICKED_UP, ids)
    if ended.proven is True:
        await connection.execute(_RENEWED, ids)
    if ended.certificate is not None and claim.cluster is not None:
        await store_renewed(connection, claim.cluster, ended.certificate)
    if ended.proven is not None:
        await connection.execute(_COUNT_FOR_CLUSTER, {"cluster": claim.cluster, "proven": ended.proven})
    if ended.proven is False:
        most = ended.pause_after_unproven
        reason = f"{most} renewals in a row were not proved; find out why before the next is started"
        await connection.execute(_PAUSE, {"cluster": claim.cluster, "most": most, "reason": reason})
    return await _count_automatic(connection, claim, ended)


async def _count_automatic(connection: AsyncConnection, claim: Claim, ended: Outcome) -> AutoStop | None:
    if ended.outcome not in {"renewed", "failed"}:
        return None
    ids = {"cluster": claim.cluster, "id": claim.job_id}
    is_renewed = ended.outcome == "renewed"
    counted = (await connection.execute(_COUNT_AUTOMATIC, {**ids, "renewed": is_renewed})).one_or_none()
    if counted is None or is_renewed or claim.cluster is None:
        return None
    most = ended.stop_after_failures
    which = claim.vm_uuid if counted.vm_name is None else f"{counted.vm_name} ({claim.vm_uuid})"
    many = f"{most} automatic renewals in a row" if most > 1 else "an automatic renewal"
    reason = f"{many} failed, the last one for VM {which}: {(ended.error_message or ended.message).rstrip('.')}"
    stopped = await connection.execute(_STOP_AUTOMATIC, {"cluster": claim.cluster, "most": most, "reason": reason})
    row = stopped.one_or_none()
    return None if row is None else AutoStop(claim.cluster, row.auto_failures_in_a_row, row.auto_stopped_at, reason)

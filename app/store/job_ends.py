"""What the end of a renewal leaves behind with its VM and its cluster."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.store.observations import store_renewed
from app.store.run_records import Claim, Ended

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


async def remember_end(connection: AsyncConnection, claim: Claim, ended: Ended) -> None:
    """Writes down what was renewed, and pauses a cluster on which too many in a row were not proved."""
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

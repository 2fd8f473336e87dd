"""Entities that a job deleted and did not create before its end, as the VM was gone: a promise outlives its job."""

import json
from collections.abc import Collection
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.ngt.vocabulary import VmUuid
from app.store.jobs.progress_json import dump_progress, load_progress
from app.store.jobs.updates import update_job
from app.store.postgres.tables import ENTITY_OWED, JOB
from app.store.records.jobs import JobStatus

# A job that has touched no entity does not know what became of it.
_TOUCHED = "NOT validate_only AND progress->>'entity' <> 'untouched'"
_IS_OWED = text(f"""
SELECT {ENTITY_OWED} FROM job WHERE vm_uuid = :vm_uuid AND done AND {_TOUCHED}
ORDER BY created_at DESC, id DESC LIMIT 1
""")  # noqa: S608 - constants of the store
_FIND = text(f"""
SELECT id FROM (
  SELECT DISTINCT ON (vm_uuid) * FROM job WHERE vm_uuid = ANY(:vms) AND {_TOUCHED}
  ORDER BY vm_uuid, created_at DESC, id DESC) AS newest
WHERE done AND {ENTITY_OWED}
  AND (cluster = :cluster OR progress->'request'->'clusters' @> CAST(:clusters AS jsonb))
""")  # noqa: S608 - as above
# Somebody else has created it: nothing is owed any more, also when the entity is deleted again.
_SETTLE = text(f"""
UPDATE job SET progress = jsonb_set(progress, '{{delete_begun}}', 'false')
WHERE vm_uuid = ANY(:vms) AND done AND {ENTITY_OWED}
""")  # noqa: S608 - as above
_WAKE = text("""
UPDATE job SET due_at = clock_timestamp()
WHERE vm_uuid = ANY(:vms) AND NOT done AND status = 'waiting' AND wait_reason = 'vm_vanished'
""")


async def is_owed(connection: AsyncConnection, vm_uuid: VmUuid) -> bool:
    """The last job that has ended owes the VM its entity."""
    return bool(await connection.scalar(_IS_OWED, {"vm_uuid": vm_uuid}))


async def go_on(
    connection: AsyncConnection, cluster: str, *, without_entity: Collection[VmUuid], with_entity: Collection[VmUuid]
) -> list[UUID]:
    """Takes up the jobs that owe an entity to a VM which was seen on the cluster without one; the sweep wakes them."""
    vms = sorted(without_entity)
    await connection.execute(_SETTLE, {"vms": sorted(with_entity)})
    await connection.execute(_WAKE, {"vms": vms})
    found = await connection.scalars(_FIND, {"vms": vms, "cluster": cluster, "clusters": json.dumps([cluster])})
    return [job_id for job_id in found.all() if await _reopen(connection, job_id)]


async def _reopen(connection: AsyncConnection, job_id: UUID) -> bool:
    """False where another job of the VM was opened meanwhile: it finds what is owed."""
    job = (await connection.execute(select(JOB).where(JOB.c.id == job_id).with_for_update())).mappings().one()
    progress = load_progress(job["progress"]).begin_retry()
    reopened = update_job(
        job_id,
        status=JobStatus.QUEUED,
        outcome=None,
        done=False,
        message="the VM is back without its tools entity, which this job deleted: it is created now",
        wait_reason=None,
        error_code=None,
        error_message=None,
        remaining_action=None,
        attempt=job["attempt"] + 1,
        fence=job["fence"] + 1,
        progress=dump_progress(progress),
        takes_slot=progress.takes_slot,
        stranded_since=func.clock_timestamp(),
        due_at=func.clock_timestamp(),
        finished_at=None,
    )
    try:
        async with connection.begin_nested():
            await connection.execute(reopened)
    except IntegrityError:
        return False
    return True

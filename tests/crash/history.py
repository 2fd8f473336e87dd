"""The history of a site and of the jobs that renewed there: all that must hold, whatever went wrong meanwhile.

The site's own journal tells what was done to each VM, in order; the jobs tell what the service says of it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

from app.simulator.journal import Effect
from app.store.records.jobs import JobRecord
from tests.work.service import Service, shown

_ENDS = ("succeeded", "failed", "skipped", "canceled")


def broken_promises(service: Service, jobs: Iterable[JobRecord]) -> list[str]:
    """What the history breaks, one sentence each; to be asked when nothing is at work any more."""
    jobs = list(jobs)
    journal = service.site.journal
    found = [
        f"{one.host} and {other.host} changed the VM {', '.join(set(one.vm_uuids) & set(other.vm_uuids))} together"
        for one, other in journal.overlapping_changes()
    ]
    found += [f"the VM {vm_uuid} has no entity" for vm_uuid in sorted(journal.without_entity())]
    for vm_uuid, count in sorted(Counter(job.vm_uuid for job in jobs).items()):
        found += _of_effects(journal.effects(vm_uuid), vm_uuid, count)
    for job in jobs:
        found += _of_job(service, job)
    return found


def _of_effects(effects: list[str], vm_uuid: str, jobs: int) -> Iterator[str]:
    """An entity is deleted at most once for each job, and nothing is done to one that is missing."""
    missing = False
    for effect in effects:
        if effect == Effect.DELETED and missing:
            yield f"the VM {vm_uuid} was deleted twice without a create between"
        if effect == Effect.CREATED and not missing:
            yield f"the VM {vm_uuid} got a second entity"
        if effect in {Effect.DELETED, Effect.CREATED}:
            missing = effect == Effect.DELETED
    if (deleted := effects.count(Effect.DELETED)) > jobs:
        yield f"the VM {vm_uuid} was deleted {deleted} times by {jobs} jobs"


def _of_job(service: Service, job: JobRecord) -> Iterator[str]:
    if not job.done or job.status not in _ENDS:
        yield f"the job {job.id} did not end: {shown(job)}"
    if job.outcome == "renewed" and not service.is_renewed(service.site.vm(job.vm_uuid)):
        yield f"the job {job.id} said renewed, and its VM is not: {service.state_of(service.site.vm(job.vm_uuid))}"
    succeeded = Counter((step.attempt, step.name) for step in job.steps if step.status == "succeeded")
    for (_, name), times in succeeded.items():
        if times > 1 and name in {"recreate_entity", "refresh_entity", "mount_iso"}:
            yield f"the job {job.id} completed {name} {times} times: {shown(job)}"

"""The scenario with the client that openapi-python-client makes."""

import json
import os
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
from ngt_renewal_client import AuthenticatedClient
from ngt_renewal_client.api.jobs import get_job, get_job_log, list_job_events, list_jobs
from ngt_renewal_client.api.renewals import renew_vm_ngt_certificate
from ngt_renewal_client.models import Job, JobEventList, JobList, ListJobsStatus, OnConflict, Problem, RenewRequest

LONGEST_WAIT_S = 20


def say(step: str, **seen: Any) -> None:
    print(json.dumps({"step": step, **seen}), flush=True)


def main() -> None:
    url, key = os.environ["NGT_URL"], os.environ["NGT_KEY"]
    # A key is a Bearer token too. The limit is longer than a long poll.
    with AuthenticatedClient(url, key, timeout=httpx.Timeout(60)) as client:
        tell(client)


def tell(client: AuthenticatedClient) -> None:
    wanted = RenewRequest(correlation_id=os.environ["CORRELATION_ID"])
    vm_uuid, key = UUID(os.environ["VM"]), os.environ["IDEMPOTENCY_KEY"]
    started = renew_vm_ngt_certificate.sync_detailed(vm_uuid, client=client, body=wanted, idempotency_key=key)
    assert isinstance(started.parsed, Job)
    location = started.headers["Location"]
    say(
        "start",
        status=int(started.status_code),
        job_id=str(started.parsed.id),
        location=location,
        told_when_to_ask=int(started.headers["Retry-After"]) >= 1,
    )

    again = renew_vm_ngt_certificate.sync_detailed(vm_uuid, client=client, body=wanted, idempotency_key=key)
    assert isinstance(again.parsed, Job)
    say("repeat", job_id=str(again.parsed.id), replayed=again.headers.get("Idempotency-Replayed"))

    job_id = UUID(location.rpartition("/")[2])
    job = get_job.sync(job_id, client=client, wait=LONGEST_WAIT_S)
    while not job.done:
        job = get_job.sync(job_id, client=client, wait=LONGEST_WAIT_S)
    assert isinstance(job, Job)
    say(
        "wait",
        job_id=str(job.id),
        done=job.done,
        outcome=job.outcome,
        steps=[step.name for step in job.steps],
        new_not_after_s=int(job.new_not_after.timestamp()),
    )

    filters = {"done": True, "status": ListJobsStatus.SUCCEEDED, "vm_uuid": vm_uuid, "cluster": job.cluster}
    minute = timedelta(minutes=1)
    found = list_jobs.sync(
        client=client, **filters, limit=10, created_after=job.created_at, created_before=job.created_at + minute
    )
    earlier = list_jobs.sync(client=client, **filters, created_before=job.created_at - minute)
    assert isinstance(found, JobList)
    assert isinstance(earlier, JobList)
    say("list", job_ids=[str(item.id) for item in found.items], earlier=len(earlier.items))

    log = get_job_log.sync(job_id, client=client)
    assert isinstance(log, str)
    say("log", has_the_command="create_vm_tools_entity" in log)

    events = list_job_events.sync(job_id, client=client)
    assert isinstance(events, JobEventList)
    say("events", versions=[event.version for event in events.items], outcome=events.items[-1].outcome)

    missing = get_job.sync_detailed(UUID(os.environ["UNKNOWN_JOB"]), client=client)
    assert isinstance(missing.parsed, Problem)
    say(
        "missing",
        status=int(missing.status_code),
        code=missing.parsed.code,
        retryable=missing.parsed.retryable,
    )

    busy_vm = UUID(os.environ["BUSY_VM"])
    open_job = renew_vm_ngt_certificate.sync(busy_vm, client=client)
    assert isinstance(open_job, Job)
    refused = renew_vm_ngt_certificate.sync_detailed(
        busy_vm, client=client, body=RenewRequest(on_conflict=OnConflict.FAIL)
    )
    assert isinstance(refused.parsed, Problem)
    assert refused.parsed.job_id == open_job.id
    say("busy", status=int(refused.status_code), code=refused.parsed.code, job_id=str(refused.parsed.job_id))


if __name__ == "__main__":
    main()

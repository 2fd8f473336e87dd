"""The scenario with the client that openapi-generator makes for Python."""

import json
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from openapi_client import ApiClient, Configuration, JobsApi, Problem, RenewalsApi, RenewRequest
from openapi_client.exceptions import ApiException

LONGEST_WAIT_S = 20


def say(step: str, **seen: Any) -> None:
    print(json.dumps({"step": step, **seen}), flush=True)


def main() -> None:
    configuration = Configuration(host=os.environ["NGT_URL"], api_key={"apiKey": os.environ["NGT_KEY"]})
    with ApiClient(configuration) as client:
        tell(RenewalsApi(client), JobsApi(client))


def tell(renewals: RenewalsApi, jobs: JobsApi) -> None:
    wanted = RenewRequest(correlation_id=os.environ["CORRELATION_ID"])
    vm_uuid, key = os.environ["VM"], os.environ["IDEMPOTENCY_KEY"]
    started = renewals.renew_vm_ngt_certificate_with_http_info(vm_uuid, idempotency_key=key, renew_request=wanted)
    location = started.headers["location"]
    say(
        "start",
        status=started.status_code,
        job_id=str(started.data.id),
        location=location,
        told_when_to_ask=int(started.headers["retry-after"]) >= 1,
    )

    again = renewals.renew_vm_ngt_certificate_with_http_info(vm_uuid, idempotency_key=key, renew_request=wanted)
    say("repeat", job_id=str(again.data.id), replayed=again.headers.get("idempotency-replayed"))

    job_id = location.rpartition("/")[2]
    job = jobs.get_job(job_id, wait=LONGEST_WAIT_S)
    while not job.done:
        job = jobs.get_job(job_id, wait=LONGEST_WAIT_S)
    assert job.new_not_after is not None
    say(
        "wait",
        job_id=str(job.id),
        done=job.done,
        outcome=job.outcome,
        steps=[step.name for step in job.steps],
        new_not_after_s=int(job.new_not_after.timestamp()),
    )

    filters = {"done": True, "status": "succeeded", "vm_uuid": vm_uuid, "cluster": job.cluster, "limit": 10}
    minute = timedelta(minutes=1)
    found = jobs.list_jobs(**filters, created_after=job.created_at, created_before=job.created_at + minute)
    earlier = jobs.list_jobs(**filters, created_before=job.created_at - minute)
    say("list", job_ids=[str(item.id) for item in found.items], earlier=len(earlier.items))

    say("log", has_the_command="create_vm_tools_entity" in jobs.get_job_log(job_id))

    events = jobs.list_job_events(job_id).items
    say("events", versions=[event.version for event in events], outcome=events[-1].outcome)

    missing = refusal(lambda: jobs.get_job(os.environ["UNKNOWN_JOB"]))
    say("missing", status=missing.status, code=missing.data.code, retryable=missing.data.retryable)

    busy_vm, failing = os.environ["BUSY_VM"], RenewRequest(on_conflict="fail")
    open_job = renewals.renew_vm_ngt_certificate(busy_vm)
    busy = refusal(lambda: renewals.renew_vm_ngt_certificate(busy_vm, renew_request=failing))
    assert busy.data.job_id == open_job.id
    say("busy", status=busy.status, code=busy.data.code, job_id=str(busy.data.job_id))


def refusal(call: Callable[[], object]) -> ApiException:
    """What was thrown; `data` is its problem, typed."""
    try:
        call()
    except ApiException as refused:
        if isinstance(refused.data, Problem):
            return refused
        raise
    raise AssertionError("it was not refused")


if __name__ == "__main__":
    main()

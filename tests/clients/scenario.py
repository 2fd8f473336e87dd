"""What every generated client does with the running service, described once.

A program per client does the steps with the generated code and prints a line of JSON for each, with what it read from
typed objects; what it must have read is taken from the service's own JSON.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

Json = dict[str, Any]

UNKNOWN_JOB = "00000000-0000-7000-8000-000000000000"


@dataclass(frozen=True, slots=True)
class Step:
    """One step: its name in the lines, the operation that it calls, and what the page says of it."""

    name: str
    operation: str
    shown: str


STEPS = (
    Step(
        "start", "renewVmNgtCertificate", "starts a job with an idempotency key; reads 202, `Location`, `Retry-After`"
    ),
    Step("repeat", "renewVmNgtCertificate", "sends the same key again; reads the same job and `Idempotency-Replayed`"),
    Step(
        "wait", "getJob", "follows `Location` and long polls with `wait` until `done`; reads a date of the certificate"
    ),
    Step("list", "listJobs", "finds the job by filters, two datetimes among them; finds nothing before its time"),
    Step("log", "getJobLog", "reads plain text"),
    Step("events", "listJobEvents", "reads the events as JSON, where a stream could come too"),
    Step("missing", "getJob", "reads the problem of a 404"),
    Step("busy", "renewVmNgtCertificate", "reads the problem of a 409, and which job is open"),
)


def expected(job: Json, events: list[Json], open_job_id: str) -> list[Json]:
    """The lines of a program: `job` renewed the VM, the busy VM had the job `open_job_id`."""
    seen: dict[str, Json] = {
        "start": {"status": 202, "job_id": job["id"], "location": f"/jobs/{job['id']}", "told_when_to_ask": True},
        "repeat": {"job_id": job["id"], "replayed": "true"},
        "wait": {
            "job_id": job["id"],
            "done": True,
            "outcome": "renewed",
            "steps": [step["name"] for step in job["steps"]],
            "new_not_after_s": int(datetime.fromisoformat(job["new_not_after"]).timestamp()),
        },
        "list": {"job_ids": [job["id"]], "earlier": 0},
        "log": {"has_the_command": True},
        "events": {"versions": [event["version"] for event in events], "outcome": "renewed"},
        "missing": {"status": 404, "code": "job-not-found", "retryable": False},
        "busy": {"status": 409, "code": "vm-busy", "job_id": open_job_id},
    }
    return [{"step": step.name, **seen[step.name]} for step in STEPS]

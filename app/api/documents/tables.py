"""The words of the OpenAPI document that no route can say of itself: tables that a new operation adds its rows to."""

from typing import Any

from app.api.documents.webhooks import EVENT_TAG
from app.api.http.request_headers import LONGEST_HEADER, LONGEST_WAIT_S

Json = dict[str, Any]

DESCRIPTION = """\
Renews the client certificate of Nutanix Guest Tools of one VM with one call, and proves that it did.

Start a renewal, then poll the job as `Retry-After` says until `done` is true; `outcome` says how it ended. Errors are
`application/problem+json` (RFC 9457). What is not known is absent, never null; more members and more words may be
added. Jobs of other callers are visible to every key with the scope `jobs:read` that may use their cluster.
Send an API key in one of three forms, or a JWT of the configured issuer as a Bearer token: when `X-API-Key` is there,
`Authorization` is not looked at.
"""

TAGS: list[Json] = [
    {"name": "renewals", "description": "Starting a renewal."},
    {"name": "jobs", "description": "Reading jobs, and telling them what to do."},
    {"name": "vms", "description": "What is known of the VMs, and until when their certificates are good."},
    {"name": "clusters", "description": "The configured clusters."},
    {"name": "scans", "description": "Looking at all VMs of a cluster, and at their certificates."},
    {"name": "admin", "description": "Holding the whole service."},
    {"name": "health", "description": "For load balancers, monitoring and people who ask which version this is."},
    {"name": "webhooks", "description": "What was sent to the configured targets, and sending it again."},
    EVENT_TAG,
]

LICENSE: Json = {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"}

SECURITY_SCHEMES: Json = {
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key of this service"},
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "The same API key as a Bearer token, or a JWT of the configured issuer",
    },
    "basic": {"type": "http", "scheme": "basic", "description": "The API key's id, and the key"},
}
ANY_SCHEME: list[Json] = [{name: []} for name in SECURITY_SCHEMES]

_PATH: Json = {"type": "string", "maxLength": 255}
HEADERS: Json = {
    "Location": {"description": "The path of the job, or of the scan", "schema": _PATH},
    "Retry-After": {
        "description": "Seconds after which to ask again",
        "schema": {"type": "integer", "minimum": 1, "maximum": 3600, "format": "int32"},
    },
    "ETag": {"description": "Changes with the job, or the scan", "schema": {"type": "string", "maxLength": 64}},
    "Link": {"description": 'The next page, with `rel="next"`', "schema": {"type": "string", "maxLength": 8192}},
    "Idempotency-Replayed": {
        "description": "true: this is the job of an earlier request with the same Idempotency-Key",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "Preference-Applied": {"description": "The wait that was kept to", "schema": {"type": "string", "maxLength": 16}},
    "WWW-Authenticate": {"description": "How to log in", "schema": {"type": "string", "maxLength": 1024}},
    "RateLimit": {
        "description": "What is left to the caller: r requests, more in t seconds; absent without a limit",
        "schema": {"type": "string", "maxLength": 128},
    },
    "RateLimit-Policy": {
        "description": "The caller's limit: q requests in w seconds",
        "schema": {"type": "string", "maxLength": 128},
    },
    "X-Request-ID": {
        "description": "The request's own id when it sent one, else a new one; the log has it",
        "schema": {"type": "string", "maxLength": 128},
    },
}
_JOB_HEADERS = ("ETag", "Retry-After")
# The headers of single answers, by operation and status.
ANSWER_HEADERS: dict[tuple[str, str], tuple[str, ...]] = {
    ("renewVmNgtCertificate", "200"): ("Location", "ETag", "Idempotency-Replayed", "Preference-Applied"),
    ("renewVmNgtCertificate", "202"): ("Location", *_JOB_HEADERS, "Idempotency-Replayed", "Preference-Applied"),
    ("renewVmNgtCertificate", "409"): ("Location",),
    ("listJobs", "200"): ("Link",),
    ("listDeliveries", "200"): ("Link",),
    ("listScans", "200"): ("Link",),
    ("scanCluster", "202"): ("Location", *_JOB_HEADERS),
    ("getScan", "200"): (*_JOB_HEADERS, "Preference-Applied"),
    ("getScan", "304"): (*_JOB_HEADERS, "Preference-Applied"),
    ("listVms", "200"): ("Link",),
    ("getVmNgt", "200"): ("Location", "Retry-After", "Preference-Applied"),
    ("getJob", "200"): (*_JOB_HEADERS, "Preference-Applied"),
    ("getJob", "304"): (*_JOB_HEADERS, "Preference-Applied"),
    ("getJobResult", "200"): ("ETag", "Preference-Applied"),
    ("getJobResult", "202"): (*_JOB_HEADERS, "Preference-Applied"),
    ("getJobResult", "304"): (*_JOB_HEADERS, "Preference-Applied"),
    ("diagnoseVmNgt", "200"): ("Preference-Applied",),
    ("cancelJob", "202"): ("ETag",),
    ("retryJob", "202"): _JOB_HEADERS,
    ("retryJob", "409"): ("Location",),
    ("reportAgentRestarted", "202"): _JOB_HEADERS,
}
OF_KEYS_HEADERS = ("RateLimit", "RateLimit-Policy")
STATUS_HEADERS = {"401": ("WWW-Authenticate",), "429": ("Retry-After",), "503": ("Retry-After",)}

_IDEMPOTENCY_KEY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Of your own making, new for each renewal: repeat a request with it and no second job is started",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!#-~]+$"},
}
_PREFER: Json = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": f"`wait=N`: seconds to wait, as the parameter `wait` has it, at most {LONGEST_WAIT_S}",
    "schema": {"type": "string", "maxLength": LONGEST_HEADER},
}
_IF_NONE_MATCH: Json = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "The ETag of what you have: what has not changed is answered with 304",
    "schema": {"type": "string", "maxLength": LONGEST_HEADER},
}
_LAST_EVENT_ID: Json = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "Of a stream: the `id` of the last event that was seen; it counts instead of `after`",
    "schema": {"type": "string", "maxLength": 10, "pattern": "^[0-9]{0,10}$"},
}
REQUEST_HEADERS: dict[str, list[Json]] = {
    "renewVmNgtCertificate": [_IDEMPOTENCY_KEY, _PREFER],
    "getJob": [_IF_NONE_MATCH, _PREFER],
    "getJobResult": [_IF_NONE_MATCH, _PREFER],
    "listJobEvents": [_LAST_EVENT_ID],
    "getVmNgt": [_PREFER],
    "getScan": [_IF_NONE_MATCH, _PREFER],
    "diagnoseVmNgt": [_PREFER],
}

_TO_THE_JOB: Json = {"job_id": "$response.body#/id"}
LINKS: dict[tuple[str, str], Json] = {
    ("renewVmNgtCertificate", "202"): {
        name: {"operationId": name, "parameters": _TO_THE_JOB} for name in ("getJob", "getJobResult", "cancelJob")
    },
}

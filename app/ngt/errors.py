"""The faults of the service: the stable code of each, the actor who can fix it, and the help of a retry.

The codes are part of the public contract. `app.api.http.problems` maps them to HTTP statuses.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import partial


class Actor(StrEnum):
    """The party that can fix a fault."""

    CALLER = "caller"
    CLUSTER_OPERATOR = "operator of the cluster"
    SERVICE_OPERATOR = "operator of this service"


@dataclass(frozen=True, slots=True)
class FaultRule:
    """The facts that all faults of one code share. `action` is a sentence with its full stop."""

    actor: Actor
    title: str
    action: str
    retryable: bool = False

    def addressed_action(self) -> str:
        """The text of `error_action`."""
        return f"For the {self.actor}: {self.action}"


class FaultCode(StrEnum):
    """The stable code of a fault, shown as `error_code` of a job and as `code` of a problem."""

    # Faults of a job.
    VM_NOT_FOUND = "vm-not-found"
    VM_FOUND_TWICE = "vm-found-twice"
    CONTROLLER_VM = "controller-vm"
    NGT_NOT_ENABLED = "ngt-not-enabled"
    VM_POWERED_OFF = "vm-powered-off"
    CVM_UNREACHABLE = "cvm-unreachable"
    SSH_HOST_KEY_MISMATCH = "ssh-host-key-mismatch"
    SSH_AUTH_FAILED = "ssh-auth-failed"
    CVM_SHELL_DISABLED = "cvm-shell-disabled"
    CVM_TOOLS_MISSING = "cvm-tools-missing"
    COMMAND_TIMEOUT = "command-timeout"
    OUTPUT_TOO_LARGE = "output-too-large"
    ANSWER_LOST = "answer-lost"
    GATEWAY_DOWN = "gateway-down"
    ENTITY_DELETE_FAILED = "entity-delete-failed"
    ENTITY_CREATE_FAILED = "entity-create-failed"
    ENTITY_REFRESH_FAILED = "entity-refresh-failed"
    UNEXPECTED_OUTPUT = "unexpected-output"
    ISO_MOUNT_FAILED = "iso-mount-failed"
    NO_FREE_CDROM = "no-free-cdrom"
    AGENT_RESTART_FAILED = "agent-restart-failed"
    GUEST_NOT_REACHED = "guest-not-reached"
    GUEST_CERTIFICATE_MISSING = "guest-certificate-missing"
    GUEST_NAMES_ANOTHER_ENTITY = "guest-names-another-entity"
    LINK_NOT_ACTIVE = "link-not-active"
    CERTIFICATE_NOT_RENEWED = "certificate-not-renewed"
    CANCELLED = "cancelled"
    # Faults of a request, some of which a job can have too.
    MALFORMED_REQUEST = "malformed-request"
    MALFORMED_JSON = "malformed-json"
    IDEMPOTENCY_KEY_INVALID = "idempotency-key-invalid"
    IDEMPOTENCY_KEY_REUSED = "idempotency-key-reused"
    UNAUTHENTICATED = "unauthenticated"
    TOKEN_EXPIRED = "token-expired"
    TOKEN_REVOKED = "token-revoked"
    INSUFFICIENT_SCOPE = "insufficient-scope"
    TARGET_NOT_ALLOWED = "target-not-allowed"
    CALLBACK_NOT_ALLOWED = "callback-not-allowed"
    PRIVATE_KEY_REFUSED = "private-key-refused"
    JOB_NOT_FOUND = "job-not-found"
    SCAN_NOT_FOUND = "scan-not-found"
    CLUSTER_NOT_FOUND = "cluster-not-found"
    WEBHOOK_NOT_FOUND = "webhook-not-found"
    DELIVERY_NOT_FOUND = "delivery-not-found"
    ROUTE_NOT_FOUND = "route-not-found"
    METHOD_NOT_ALLOWED = "method-not-allowed"
    VM_BUSY = "vm-busy"
    JOB_NOT_CANCELLABLE = "job-not-cancellable"
    JOB_NOT_RETRYABLE = "job-not-retryable"
    JOB_NOT_WAITING = "job-not-waiting"
    DELIVERY_NOT_REPLAYABLE = "delivery-not-replayable"
    HEAD_TOO_LARGE = "head-too-large"
    BODY_TOO_LARGE = "body-too-large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported-media-type"
    VALIDATION_FAILED = "validation-failed"
    AGENT_RESTART_NOT_POSSIBLE = "agent-restart-not-possible"
    NOT_VERIFIABLE = "not-verifiable"
    RATE_LIMITED = "rate-limited"
    QUEUE_FULL = "queue-full"
    TOO_MANY_WAITS = "too-many-waits"
    ISSUER_UNAVAILABLE = "issuer-unavailable"
    DATABASE_UNAVAILABLE = "database-unavailable"
    DRAINING = "draining"
    INTERNAL_ERROR = "internal-error"
    # A fault of the start.
    NO_KEY_YET = "no-key-yet"


_caller = partial(FaultRule, Actor.CALLER)
_cluster = partial(FaultRule, Actor.CLUSTER_OPERATOR)
_service = partial(FaultRule, Actor.SERVICE_OPERATOR)
_C = FaultCode

RULES: dict[FaultCode, FaultRule] = {
    _C.VM_NOT_FOUND: _caller(
        "No such VM",
        "Check the UUID, and that your key may use the VM's cluster; a new VM is known after a scan "
        "(`POST /clusters/{cluster}/scan`).",
    ),
    _C.VM_FOUND_TWICE: _caller("The VM is on two clusters", "Name the cluster in the request's `cluster`."),
    _C.CONTROLLER_VM: _caller(
        "A controller VM has no NGT certificate", "Choose a guest VM; controller VMs are never touched."
    ),
    _C.NGT_NOT_ENABLED: _caller(
        "NGT is not enabled for the VM",
        "Enable NGT for the VM, or send `create_if_absent: true` to enable it with this renewal.",
    ),
    _C.VM_POWERED_OFF: _caller(
        "The VM is powered off",
        "Start the VM and try again, or send `when_powered_off: proceed` to renew now for a pickup at boot.",
        retryable=True,
    ),
    _C.CVM_UNREACHABLE: _cluster(
        "No controller VM of the cluster answers",
        "Check that this service reaches a CVM of the cluster on its SSH port (`ngt-renewal doctor`), then retry.",
        retryable=True,
    ),
    _C.SSH_HOST_KEY_MISMATCH: _service(
        "The host key is not the pinned one",
        "Find out why the host key differs; if the change is right, pin the new one with `ngt-renewal hosts trust`.",
    ),
    _C.SSH_AUTH_FAILED: _service(
        "The SSH login was refused",
        "Add this service's public key to the cluster (Prism: Cluster Lockdown), or correct `username` and `key_file`.",
    ),
    _C.CVM_SHELL_DISABLED: _cluster(
        "Bash access is disabled on this CVM", "Allow a bash shell for this service's user on the CVMs; see KB-19114."
    ),
    _C.CVM_TOOLS_MISSING: _service(
        "The Nutanix tools were not found on the CVM",
        "Give their full paths in `[clusters.<name>.commands]`; `ngt-renewal doctor` shows the paths that were tried.",
    ),
    _C.COMMAND_TIMEOUT: _cluster(
        "A command did not answer in time", "Check the cluster's health, then retry the job.", retryable=True
    ),
    _C.OUTPUT_TOO_LARGE: _service(
        "A command printed more than the limit",
        "Raise `max_output_bytes` of the cluster if its listing is really so large.",
    ),
    _C.ANSWER_LOST: _cluster(
        "The connection was cut before the answer came",
        "None is needed: the service looks at the cluster and continues.",
        retryable=True,
    ),
    _C.GATEWAY_DOWN: _cluster(
        "ncli could not connect to the Nutanix gateway",
        "Check the Prism service on the cluster (`genesis status`), then retry the job.",
        retryable=True,
    ),
    _C.ENTITY_DELETE_FAILED: _cluster(
        "The VM tools entity could not be deleted",
        "Nothing was changed. Look up the result word, fix the cause on the cluster, then retry the job.",
        retryable=True,
    ),
    _C.ENTITY_CREATE_FAILED: _cluster(
        "The VM tools entity could not be created",
        "Look up the result word and fix the cause on the cluster; the service retries automatically.",
        retryable=True,
    ),
    _C.ENTITY_REFRESH_FAILED: _cluster(
        "The VM tools entity could not be refreshed",
        "Look up the result word; where this cluster cannot refresh, send `mode: recreate`.",
        retryable=True,
    ),
    _C.UNEXPECTED_OUTPUT: _service(
        "The output of a command could not be parsed",
        "Read the job's log, or after a scan the output of `ngt-renewal doctor`, and report it; until then adapt "
        "the command in `[clusters.<name>.commands]`.",
    ),
    _C.ISO_MOUNT_FAILED: _cluster(
        "The NGT ISO could not be mounted",
        "The new certificate is issued. Fix the cause on the cluster, then retry: the job goes on with the mount.",
        retryable=True,
    ),
    _C.NO_FREE_CDROM: _caller(
        "The VM has no free CD-ROM slot",
        "The new certificate is issued. Free the VM's CD-ROM: an open job goes on, a failed one can be retried.",
        retryable=True,
    ),
    _C.AGENT_RESTART_FAILED: _caller(
        "The agent could not be restarted",
        "The new certificate is mounted. Restart the Nutanix Guest Tools Agent in the VM, then retry the job.",
        retryable=True,
    ),
    _C.GUEST_NOT_REACHED: _caller(
        "The guest could not be reached over SSH",
        "Check the guest's address, SSH server and pinned host key, then retry the job.",
        retryable=True,
    ),
    _C.GUEST_CERTIFICATE_MISSING: _caller(
        "The guest has no client certificate",
        "Install NGT in the VM, or correct `read_certificate` of its `guests` table; then scan the VM again.",
        retryable=True,
    ),
    _C.GUEST_NAMES_ANOTHER_ENTITY: _caller(
        "The guest's certificate is not this VM's",
        "The VM may be a clone, or its address another VM's: renew the VM's certificate, or correct its addresses.",
        retryable=True,
    ),
    _C.LINK_NOT_ACTIVE: _caller(
        "The agent has not connected with a new certificate",
        "Restart the Nutanix Guest Tools Agent in the VM, then retry the job.",
        retryable=True,
    ),
    _C.CERTIFICATE_NOT_RENEWED: _caller(
        "No new certificate was seen in the VM",
        "Restart the Nutanix Guest Tools Agent in the VM so that it picks the certificate up, then retry the job.",
        retryable=True,
    ),
    _C.CANCELLED: _caller("The job was cancelled", "Start a new renewal if you want one.", retryable=True),
    _C.MALFORMED_REQUEST: _caller(
        "The request is not valid HTTP", "Send a valid HTTP/1.1 request with a percent-encoded path."
    ),
    _C.MALFORMED_JSON: _caller("The body is not JSON", "Send a JSON object, or no body at all."),
    _C.IDEMPOTENCY_KEY_INVALID: _caller("The Idempotency-Key is not usable", "Send 1 to 255 visible ASCII characters."),
    _C.IDEMPOTENCY_KEY_REUSED: _caller(
        "The Idempotency-Key was used for another request", "Send a new key for a new request."
    ),
    _C.UNAUTHENTICATED: _caller(
        "No valid credential",
        "Send an API key in `X-API-Key`, `Authorization: Bearer` or Basic, or a token of the issuer.",
    ),
    _C.TOKEN_EXPIRED: _caller(
        "The API key or token has expired", "Get a new token of the issuer, or ask the operator for a new key."
    ),
    _C.TOKEN_REVOKED: _caller("The API key was revoked", "Ask the operator of this service for a new key."),
    _C.INSUFFICIENT_SCOPE: _caller(
        "The API key or token lacks the scope", "Ask the operator for a key or role with the scope."
    ),
    _C.TARGET_NOT_ALLOWED: _caller(
        "The API key or token may not use this cluster", "Ask the operator for a key that may use the cluster."
    ),
    _C.CALLBACK_NOT_ALLOWED: _caller(
        "The callback is not allowed", "`GET /webhooks` lists the targets, and which of them take or need a record."
    ),
    _C.PRIVATE_KEY_REFUSED: _caller(
        "The request holds a private key",
        "Send `client-cert.pem` alone, never `client-key.pem`; and renew the VM's certificate, since its key was sent.",
    ),
    _C.JOB_NOT_FOUND: _caller(
        "No such job", "Check the id; finished jobs are kept 90 days unless configured otherwise."
    ),
    _C.SCAN_NOT_FOUND: _caller(
        "No such scan", "Check the id; finished scans are kept 14 days unless configured otherwise."
    ),
    _C.CLUSTER_NOT_FOUND: _caller("No such cluster", "`GET /clusters` lists the clusters that your key may use."),
    _C.WEBHOOK_NOT_FOUND: _caller("No such webhook target", "`GET /webhooks` lists the configured targets."),
    _C.DELIVERY_NOT_FOUND: _caller(
        "No such delivery", "Check the id; `GET /webhooks/{name}/deliveries` lists those that are kept."
    ),
    _C.ROUTE_NOT_FOUND: _caller("No such path", "`/docs` lists all paths."),
    _C.METHOD_NOT_ALLOWED: _caller(
        "The path does not take this method", "The `Allow` header lists the methods it takes."
    ),
    _C.VM_BUSY: _caller(
        "The VM has another open job", "Wait for that job, or send the same request to join it.", retryable=True
    ),
    _C.JOB_NOT_CANCELLABLE: _caller(
        "The job cannot be cancelled now", "Look at the job: its `status` and `message` show its state."
    ),
    _C.JOB_NOT_RETRYABLE: _caller(
        "The job cannot be retried", "Look at the job: only one that failed or was cancelled can be."
    ),
    _C.JOB_NOT_WAITING: _caller(
        "The job does not wait for an agent", "Look at the job: its `message` shows its state."
    ),
    _C.DELIVERY_NOT_REPLAYABLE: _caller(
        "The delivery cannot be replayed now", "Look at the delivery: its `status` shows its state."
    ),
    _C.HEAD_TOO_LARGE: _caller("The request headers are too large", "Send shorter headers and a shorter query."),
    _C.BODY_TOO_LARGE: _caller(
        "The body is too large", "Send less: a renewal needs a few hundred bytes, a certificate a few thousand."
    ),
    _C.UNSUPPORTED_MEDIA_TYPE: _caller(
        "The body's media type is not supported", "Send `Content-Type: application/json`."
    ),
    _C.VALIDATION_FAILED: _caller("The request is not valid", "Correct the fields named in `errors`."),
    _C.AGENT_RESTART_NOT_POSSIBLE: _caller(
        "The agent cannot be restarted",
        "Send `restart_agent: manual` and restart it yourself, or have guest access configured for this VM.",
    ),
    _C.NOT_VERIFIABLE: _caller(
        "The renewal could not be proved",
        "Have guest access configured for this VM, hand its certificate in now and again when it is renewed "
        "(`PUT /vms/{vm_uuid}/ngt/certificate`), or send `accept_unverified: true` and check the guest yourself.",
    ),
    _C.RATE_LIMITED: _caller("Too many requests", "Wait for the time in `Retry-After`.", retryable=True),
    _C.QUEUE_FULL: _caller(
        "Too many jobs are waiting", "Retry after the time in `Retry-After`; nothing was started.", retryable=True
    ),
    _C.TOO_MANY_WAITS: _caller(
        "Too many requests are waiting",
        "Ask without `wait`, or poll at the interval in `Retry-After`.",
        retryable=True,
    ),
    _C.ISSUER_UNAVAILABLE: _service(
        "The issuer of the token cannot be asked",
        "Retry after the time in `Retry-After`, or use an API key; the log of this service has the reason.",
        retryable=True,
    ),
    _C.DATABASE_UNAVAILABLE: _service(
        "The database does not answer", "Retry after the time in `Retry-After`; nothing was started.", retryable=True
    ),
    _C.DRAINING: _caller("The service is stopping", "Retry after the time in `Retry-After`.", retryable=True),
    _C.NO_KEY_YET: _service(
        "No API key exists yet", "Create one with `ngt-renewal keys create --scopes …`, then start."
    ),
    _C.INTERNAL_ERROR: _service(
        "Something went wrong in this service", "Report the `request_id`; the log has its cause.", retryable=True
    ),
}


class Fault(Exception):
    """A fault that a caller or an operator has to know, with one sentence for this case.

    `message` tells the event and its meaning for the VM; the rule of the code tells the next action.
    """

    def __init__(self, code: FaultCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def rule(self) -> FaultRule:
        return RULES[self.code]

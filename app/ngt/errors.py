"""Every fault of the service, each once: its stable code, who must act, and whether a retry can help.

This module knows no HTTP; `app.api.http.problems` maps codes to statuses. The codes are part of the public contract.
"""

from dataclasses import dataclass
from enum import StrEnum


class Actor(StrEnum):
    """Who can mend a fault."""

    CALLER = "caller"
    CLUSTER_OPERATOR = "operator of the cluster"
    SERVICE_OPERATOR = "operator of this service"


@dataclass(frozen=True, slots=True)
class FaultRule:
    """What is true of every fault of one code.

    `action` says what to do next, as a sentence that ends with a full stop.
    """

    actor: Actor
    retryable: bool
    title: str
    action: str

    def told(self) -> str:
        """Who has to do what, as it stands in `error_action`."""
        return f"For the {self.actor}: {self.action}"


class FaultCode(StrEnum):
    """The stable word of a fault, as it stands in `error_code` and in `code` of a problem."""

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


_CALLER, _CLUSTER, _SERVICE = Actor.CALLER, Actor.CLUSTER_OPERATOR, Actor.SERVICE_OPERATOR
_C = FaultCode

RULES: dict[FaultCode, FaultRule] = {
    _C.VM_NOT_FOUND: FaultRule(
        _CALLER,
        False,
        "No such VM",
        "Check the UUID, and that your key may use the VM's cluster; a VM that is new there is known after a scan "
        "(`POST /clusters/{cluster}/scan`).",
    ),
    _C.VM_FOUND_TWICE: FaultRule(
        _CALLER, False, "The VM is on two clusters", "Name the cluster in the request's `cluster`."
    ),
    _C.CONTROLLER_VM: FaultRule(
        _CALLER, False, "A controller VM has no NGT certificate", "Name a guest VM; controller VMs are never touched."
    ),
    _C.NGT_NOT_ENABLED: FaultRule(
        _CALLER,
        False,
        "NGT is not enabled for the VM",
        "Enable NGT for the VM, or send `create_if_absent: true` to have it enabled by this renewal.",
    ),
    _C.VM_POWERED_OFF: FaultRule(
        _CALLER,
        True,
        "The VM is powered off",
        "Start the VM and try again, or send `when_powered_off: proceed` to renew now and have it picked up at boot.",
    ),
    _C.CVM_UNREACHABLE: FaultRule(
        _CLUSTER,
        True,
        "No controller VM of the cluster answers",
        "Check that this service reaches a CVM of the cluster on its SSH port (`ngt-renewal doctor`), then retry.",
    ),
    _C.SSH_HOST_KEY_MISMATCH: FaultRule(
        _SERVICE,
        False,
        "The host key is not the pinned one",
        "Find out why the host key differs; if the change is right, pin the new one with `ngt-renewal hosts trust`.",
    ),
    _C.SSH_AUTH_FAILED: FaultRule(
        _SERVICE,
        False,
        "The SSH login was refused",
        "Add this service's public key to the cluster (Prism: Cluster Lockdown), or correct `username` and `key_file`.",
    ),
    _C.CVM_SHELL_DISABLED: FaultRule(
        _CLUSTER,
        False,
        "Bash access is disabled on this CVM",
        "Allow a bash shell for this service's user on the CVMs; see KB-19114.",
    ),
    _C.CVM_TOOLS_MISSING: FaultRule(
        _SERVICE,
        False,
        "The Nutanix tools were not found on the CVM",
        "Give their full paths in `[clusters.<name>.commands]`; `ngt-renewal doctor` shows what was looked for.",
    ),
    _C.COMMAND_TIMEOUT: FaultRule(
        _CLUSTER, True, "A command did not answer in time", "Look at the cluster's health, then retry the job."
    ),
    _C.OUTPUT_TOO_LARGE: FaultRule(
        _SERVICE,
        False,
        "A command printed more than the limit",
        "Raise `max_output_bytes` of the cluster if its listing is really so large.",
    ),
    _C.ANSWER_LOST: FaultRule(
        _CLUSTER, True, "The connection was cut before the answer came", "Nothing: the service looks and goes on."
    ),
    _C.GATEWAY_DOWN: FaultRule(
        _CLUSTER,
        True,
        "ncli could not connect to the Nutanix gateway",
        "Check the Prism service on the cluster (`genesis status`), then retry the job.",
    ),
    _C.ENTITY_DELETE_FAILED: FaultRule(
        _CLUSTER,
        True,
        "The VM tools entity could not be deleted",
        "Nothing was changed. Look up the result word, mend the cause on the cluster, then retry the job.",
    ),
    _C.ENTITY_CREATE_FAILED: FaultRule(
        _CLUSTER,
        True,
        "The VM tools entity could not be created",
        "Look up the result word and mend the cause on the cluster; the service keeps trying by itself.",
    ),
    _C.ENTITY_REFRESH_FAILED: FaultRule(
        _CLUSTER,
        True,
        "The VM tools entity could not be refreshed",
        "Look up the result word; where this cluster cannot refresh, send `mode: recreate`.",
    ),
    _C.UNEXPECTED_OUTPUT: FaultRule(
        _SERVICE,
        False,
        "A command printed something that is not understood",
        "Read the job's log, or after a scan what `ngt-renewal doctor` says, and report the output; until then adapt "
        "the command in `[clusters.<name>.commands]`.",
    ),
    _C.ISO_MOUNT_FAILED: FaultRule(
        _CLUSTER,
        True,
        "The NGT ISO could not be mounted",
        "The new certificate is issued. Mend the cause on the cluster, then retry: the job goes on with the mount.",
    ),
    _C.NO_FREE_CDROM: FaultRule(
        _CALLER,
        True,
        "The VM has no free CD-ROM slot",
        "The new certificate is issued. Free the VM's CD-ROM: an open job goes on, a failed one can be retried.",
    ),
    _C.AGENT_RESTART_FAILED: FaultRule(
        _CALLER,
        True,
        "The agent could not be restarted",
        "The new certificate is mounted. Restart the Nutanix Guest Tools Agent in the VM, then retry the job.",
    ),
    _C.GUEST_NOT_REACHED: FaultRule(
        _CALLER,
        True,
        "The guest could not be reached over SSH",
        "Check the guest's address, SSH server and pinned host key, then retry the job.",
    ),
    _C.GUEST_CERTIFICATE_MISSING: FaultRule(
        _CALLER,
        True,
        "The guest has no client certificate",
        "Install NGT in the VM, or correct `read_certificate` of its `guests` table; then scan the VM again.",
    ),
    _C.GUEST_NAMES_ANOTHER_ENTITY: FaultRule(
        _CALLER,
        True,
        "The guest's certificate is not this VM's",
        "The VM may be a clone, or its address another VM's: renew the VM's certificate, or correct its addresses.",
    ),
    _C.LINK_NOT_ACTIVE: FaultRule(
        _CALLER,
        True,
        "The agent has not connected with a new certificate",
        "Restart the Nutanix Guest Tools Agent in the VM, then retry the job.",
    ),
    _C.CERTIFICATE_NOT_RENEWED: FaultRule(
        _CALLER,
        True,
        "No new certificate was seen in the VM",
        "Restart the Nutanix Guest Tools Agent in the VM so that it picks the certificate up, then retry the job.",
    ),
    _C.CANCELLED: FaultRule(_CALLER, True, "The job was cancelled", "Start a new renewal when it is wanted."),
    _C.MALFORMED_REQUEST: FaultRule(
        _CALLER, False, "The request is not HTTP", "Send an HTTP/1.1 request whose path is written in percents."
    ),
    _C.MALFORMED_JSON: FaultRule(_CALLER, False, "The body is not JSON", "Send a JSON object, or no body at all."),
    _C.IDEMPOTENCY_KEY_INVALID: FaultRule(
        _CALLER, False, "The Idempotency-Key is not usable", "Send 1 to 255 visible ASCII characters."
    ),
    _C.IDEMPOTENCY_KEY_REUSED: FaultRule(
        _CALLER, False, "The Idempotency-Key was used for another request", "Send a new key for a new request."
    ),
    _C.UNAUTHENTICATED: FaultRule(
        _CALLER,
        False,
        "No valid credential",
        "Send an API key in `X-API-Key`, `Authorization: Bearer` or Basic, or a token of the issuer.",
    ),
    _C.TOKEN_EXPIRED: FaultRule(
        _CALLER,
        False,
        "The API key or token has expired",
        "Get a new token of the issuer, or ask the operator for a new key.",
    ),
    _C.TOKEN_REVOKED: FaultRule(
        _CALLER, False, "The API key was revoked", "Ask the operator of this service for a new key."
    ),
    _C.INSUFFICIENT_SCOPE: FaultRule(
        _CALLER, False, "The API key or token lacks the scope", "Ask the operator for a key or role with the scope."
    ),
    _C.TARGET_NOT_ALLOWED: FaultRule(
        _CALLER,
        False,
        "The API key or token may not use this cluster",
        "Ask the operator for one that may use the cluster.",
    ),
    _C.CALLBACK_NOT_ALLOWED: FaultRule(
        _CALLER,
        False,
        "The callback is not allowed",
        "`GET /webhooks` lists the targets, and which of them take or need a record.",
    ),
    _C.PRIVATE_KEY_REFUSED: FaultRule(
        _CALLER,
        False,
        "The request holds a private key",
        "Send `client-cert.pem` alone, never `client-key.pem`; and renew the VM's certificate, since its key was sent.",
    ),
    _C.JOB_NOT_FOUND: FaultRule(
        _CALLER, False, "No such job", "Check the id; finished jobs are kept 90 days unless configured otherwise."
    ),
    _C.SCAN_NOT_FOUND: FaultRule(
        _CALLER, False, "No such scan", "Check the id; finished scans are kept 14 days unless configured otherwise."
    ),
    _C.CLUSTER_NOT_FOUND: FaultRule(
        _CALLER, False, "No such cluster", "`GET /clusters` lists the clusters that your key may use."
    ),
    _C.WEBHOOK_NOT_FOUND: FaultRule(
        _CALLER, False, "No such webhook target", "`GET /webhooks` lists the configured targets."
    ),
    _C.DELIVERY_NOT_FOUND: FaultRule(
        _CALLER, False, "No such delivery", "Check the id; `GET /webhooks/{name}/deliveries` lists those that are kept."
    ),
    _C.ROUTE_NOT_FOUND: FaultRule(_CALLER, False, "No such path", "`/docs` lists all paths."),
    _C.METHOD_NOT_ALLOWED: FaultRule(
        _CALLER, False, "The path does not take this method", "The `Allow` header lists the methods it takes."
    ),
    _C.VM_BUSY: FaultRule(
        _CALLER, True, "The VM has another open job", "Wait for that job, or send the same request to join it."
    ),
    _C.JOB_NOT_CANCELLABLE: FaultRule(
        _CALLER,
        False,
        "The job cannot be cancelled now",
        "Look at the job: its `status` and `message` say where it stands.",
    ),
    _C.JOB_NOT_RETRYABLE: FaultRule(
        _CALLER, False, "The job cannot be retried", "Look at the job: only one that failed or was cancelled can be."
    ),
    _C.JOB_NOT_WAITING: FaultRule(
        _CALLER, False, "The job does not wait for an agent", "Look at the job: its `message` says where it stands."
    ),
    _C.DELIVERY_NOT_REPLAYABLE: FaultRule(
        _CALLER,
        False,
        "The delivery cannot be replayed now",
        "Look at the delivery: its `status` says where it stands.",
    ),
    _C.HEAD_TOO_LARGE: FaultRule(
        _CALLER, False, "The headers are too large", "Send shorter headers and a shorter query."
    ),
    _C.BODY_TOO_LARGE: FaultRule(
        _CALLER,
        False,
        "The body is too large",
        "Send less: a renewal needs a few hundred bytes, a certificate a few thousand.",
    ),
    _C.UNSUPPORTED_MEDIA_TYPE: FaultRule(
        _CALLER, False, "The body's media type is not supported", "Send `Content-Type: application/json`."
    ),
    _C.VALIDATION_FAILED: FaultRule(
        _CALLER, False, "The request is not valid", "Correct the fields named in `errors`."
    ),
    _C.AGENT_RESTART_NOT_POSSIBLE: FaultRule(
        _CALLER,
        False,
        "Nobody could restart the agent",
        "Send `restart_agent: manual` and restart it yourself, or have guest access configured for this VM.",
    ),
    _C.NOT_VERIFIABLE: FaultRule(
        _CALLER,
        False,
        "The renewal could not be proved",
        "Have guest access configured for this VM, hand its certificate in now and again when it is renewed "
        "(`PUT /vms/{vm_uuid}/ngt/certificate`), or send `accept_unverified: true` and check the guest yourself.",
    ),
    _C.RATE_LIMITED: FaultRule(_CALLER, True, "Too many requests", "Wait as long as `Retry-After` says."),
    _C.QUEUE_FULL: FaultRule(
        _CALLER, True, "Too many jobs wait already", "Try again as `Retry-After` says; nothing was started."
    ),
    _C.TOO_MANY_WAITS: FaultRule(
        _CALLER, True, "Too many requests wait already", "Ask without `wait`, or poll as `Retry-After` says."
    ),
    _C.ISSUER_UNAVAILABLE: FaultRule(
        _SERVICE,
        True,
        "The issuer of the token cannot be asked",
        "Try again as `Retry-After` says, or use an API key; the operator of this service sees the reason in the log.",
    ),
    _C.DATABASE_UNAVAILABLE: FaultRule(
        _SERVICE, True, "The database does not answer", "Try again as `Retry-After` says; nothing was started."
    ),
    _C.DRAINING: FaultRule(_CALLER, True, "The service is stopping", "Try again as `Retry-After` says."),
    _C.NO_KEY_YET: FaultRule(
        _SERVICE, False, "There is no API key yet", "Make one with `ngt-renewal keys create --scopes …`, then start."
    ),
    _C.INTERNAL_ERROR: FaultRule(
        _SERVICE, True, "Something went wrong in this service", "Report the `request_id`; the log has its cause."
    ),
}


class Fault(Exception):
    """Something that a caller or an operator has to know, in one sentence for this case.

    `message` says what happened and what it means for the VM; the rule of the code says what to do next.
    """

    def __init__(self, code: FaultCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def rule(self) -> FaultRule:
        return RULES[self.code]

"""The callback of a request: a target of the configuration, never an address."""

from collections.abc import Collection

from app.api.renewal.request import RenewRequest
from app.ngt.errors import Fault, FaultCode
from app.settings import Settings, WebhookTarget
from app.store.records.jobs import Callback


def callback_of(settings: Settings, body: RenewRequest, candidates: Collection[str]) -> Callback | None:
    """The callback that the request names. Raises Fault `callback-not-allowed`; `candidates` are the VM's clusters."""
    name, record = body.callback_target or None, body.callback_record or None
    if name is None:
        if record is not None:
            raise _not_allowed("`callback_record` needs a `callback_target`")
        return None
    target = settings.webhooks.get(name)
    if target is None:
        raise _not_allowed(f"there is no webhook target {name!r}")
    if (reason := _why_not(target, record, candidates)) is not None:
        raise _not_allowed(reason)
    if body.validate_only:
        raise _not_allowed("a plan is told to nobody: read it with `wait`")
    return Callback(name, record)


def _why_not(target: WebhookTarget, record: str | None, candidates: Collection[str]) -> str | None:
    if target.clusters and (others := sorted(set(candidates) - set(target.clusters))):
        return f"the webhook target {target.name!r} is not for VMs of {', '.join(others)}; name the `cluster`"
    if record is None:
        return f"the webhook target {target.name!r} needs a `callback_record`" if target.needs_record else None
    if not target.accepts_record:
        return f"the webhook target {target.name!r} takes no `callback_record`"
    if not target.record_is_valid(record):
        return "`callback_record` is neither a sys_id (32 small hexadecimal digits) nor a number such as CHG0030123"
    return None


def _not_allowed(reason: str) -> Fault:
    return Fault(FaultCode.CALLBACK_NOT_ALLOWED, f"The callback is not allowed: {reason}. Nothing was started.")

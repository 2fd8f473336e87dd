"""What is said of automatic renewals: by which rule a job was started, and what a plan means, in sentences."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from app.ngt.auto_renew.capacity import AutoRenewState, blockers
from app.ngt.auto_renew.plan import AutoPlan, AutoRules, Planned
from app.ngt.vocabulary import CertificateSource
from app.ngt.windows import Window


def rule_of(cluster: str, rules: AutoRules, one: Planned, now: datetime) -> str:
    """By which rule the VM is renewed now, as its job says it."""
    windows = one.opening.windows if one.opening is not None else ()
    return f"automatic renewal of {cluster}: {reason_of(rules, one, now)}; {said_of_windows(windows)}"


def reason_of(rules: AutoRules, one: Planned, now: datetime) -> str:
    """Why its turn is then: its certificate's end, and from when on the rules renew it."""
    ends = "expired" if one.not_after <= now else "expires"
    computed = ", which is computed" if one.vm.source is CertificateSource.COMPUTED else ""
    due_from = one.not_after - timedelta(days=rules.before_days)
    when = "within" if due_from <= now else f"from {due_from:%Y-%m-%d} on within"
    return f"{ends} {one.not_after:%Y-%m-%d}{computed}, {when} before_days = {rules.before_days}"


def said_of_windows(windows: tuple[Window, ...]) -> str:
    return " and ".join(map(str, windows)) or "no windows: always open"


def sentences_of(cluster: str, rules: AutoRules, plan: AutoPlan, standing: AutoRenewState) -> Iterator[str]:
    """What a person should know of the plan first: what holds it up, what it comes to, and what does not fit."""
    yield from blockers(standing)
    if standing.stopped_because is not None:
        yield f"When the cause is mended, `POST /clusters/{cluster}/auto-renew/resume` starts it again."
    if standing.one_at_a_time:
        yield "No renewal was proved on this cluster yet: one runs at a time until one is."
    begins = next((one.opening for one in plan.planned if one.opening is not None), None)
    if begins is None:
        yield f"No certificate of {cluster} is planned."
        if not plan.planned and not plan.left_out:
            yield f"No VM of {cluster} is known: `GET /clusters/{cluster}/health` says when it was scanned, or why not."
    else:
        most = max(_each_day(plan))
        yield (
            f"{_certificates(len(plan.planned))} planned, at most {most} a day, "
            f"from {begins.opens_at:%Y-%m-%d %H:%M}Z on."
        )
    if plan.too_late:
        yield _of_those_too_late(rules, plan)
    if plan.left_out:
        yield f"{_vms(len(plan.left_out))} left out; `left_out` says why."


def _of_those_too_late(rules: AutoRules, plan: AutoPlan) -> str:
    expired = sum(one.not_after <= plan.now for one in plan.too_late)
    said = f"{_certificates(len(plan.too_late))} not renewed in time by these rules"
    if expired:
        said += f", {expired} of which expired already"
    if plan.needed_per_day is None:
        return f"{said}; more a day than `at_most_per_day` = {rules.at_most_per_day} would not help."
    return f"{said}: `at_most_per_day` = {plan.needed_per_day} would be needed, and it is {rules.at_most_per_day}."


def _each_day(plan: AutoPlan) -> list[int]:
    counts: dict[object, int] = {}
    for one in plan.planned:
        if one.opening is not None:
            counts[one.opening.day] = counts.get(one.opening.day, 0) + 1
    return list(counts.values())


def _certificates(count: int) -> str:
    return f"{count} certificate is" if count == 1 else f"{count} certificates are"


def _vms(count: int) -> str:
    return f"{count} VM is" if count == 1 else f"{count} VMs are"

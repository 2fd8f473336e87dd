"""The sentences about automatic renewals: the rule that started a job, and the meaning of a plan."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from app.ngt.auto_renew.capacity import AutoRenewState, blockers
from app.ngt.auto_renew.plan import AutoPlan, AutoRules, Planned
from app.ngt.sentences import plural
from app.ngt.vocabulary import CertificateSource
from app.ngt.windows import Window


def rule_of(cluster: str, rules: AutoRules, one: Planned, now: datetime) -> str:
    """The rule that renews the VM now, for its job."""
    windows = one.opening.windows if one.opening is not None else ()
    return f"automatic renewal of {cluster}: {reason_of(rules, one, now)}; {windows_text(windows)}"


def reason_of(rules: AutoRules, one: Planned, now: datetime) -> str:
    """The reason for its time: the certificate's end, and the day from which the rules renew it."""
    ends = "expired" if one.not_after <= now else "expires"
    computed = ", which is computed" if one.vm.source is CertificateSource.COMPUTED else ""
    due_from = one.not_after - timedelta(days=rules.before_days)
    when = "within" if due_from <= now else f"from {due_from:%Y-%m-%d} on within"
    return f"{ends} {one.not_after:%Y-%m-%d}{computed}, {when} before_days = {rules.before_days}"


def windows_text(windows: tuple[Window, ...]) -> str:
    return " and ".join(map(str, windows)) or "no windows: always open"


def sentences_of(cluster: str, rules: AutoRules, plan: AutoPlan, standing: AutoRenewState) -> Iterator[str]:
    """The summary of a plan for a person: its blockers, its size, and the VMs that do not fit."""
    yield from blockers(standing)
    if standing.stopped_because is not None:
        yield f"After the cause is fixed, `POST /clusters/{cluster}/auto-renew/resume` starts it again."
    if standing.one_at_a_time:
        yield "No renewal was proved on this cluster yet: one runs at a time until one is."
    begins = next((one.opening for one in plan.planned if one.opening is not None), None)
    if begins is None:
        yield f"No certificate of {cluster} is planned."
        if not plan.planned and not plan.left_out:
            yield f"No VM of {cluster} is known: `GET /clusters/{cluster}/health` shows its last scan."
    else:
        most = max(_each_day(plan))
        yield (
            f"{_are(len(plan.planned), 'certificate')} planned, at most {most} a day, "
            f"from {begins.opens_at:%Y-%m-%d %H:%M}Z on."
        )
    if plan.too_late:
        yield _of_those_too_late(rules, plan)
    if plan.left_out:
        yield f"{_are(len(plan.left_out), 'VM')} left out; `left_out` says why."


def _of_those_too_late(rules: AutoRules, plan: AutoPlan) -> str:
    expired = sum(one.not_after <= plan.now for one in plan.too_late)
    said = f"{_are(len(plan.too_late), 'certificate')} not renewed in time by these rules"
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


def _are(count: int, noun: str) -> str:
    return f"{plural(count, noun)} {'is' if count == 1 else 'are'}"

"""The due warnings about certificates, from their dates and the earlier warnings.

Each certificate gets one warning for each number of days, only the fewest that are left, and in a wave only the first
ones get an event of their own. Pure: times are passed in, aware.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo

from app.ngt.vocabulary import VmUuid

EXPIRED = 0
"""The number of days before the end that stands for: it has expired."""

SAME_CERTIFICATE_DAYS = 2
"""Dates of one VM that lie no further apart are of one certificate, as two sources say it.

No source but the certificate itself has a serial. Clocks and time zones differ by a day at most, a computed date by the
time between the issue and the proof; a certificate that replaces another one ends years later.
"""

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class WarningRules:
    """The days before an expiry on which to warn, and the most events of single certificates per cluster and day."""

    days_before: tuple[int, ...]
    most_events_per_day: int

    @property
    def longest(self) -> timedelta:
        """The time before the expiry of the first warning."""
        return timedelta(days=max(self.days_before, default=EXPIRED))


@dataclass(frozen=True, slots=True)
class KnownCertificate:
    """A VM's certificate; `told_days_before`: the fewest days of which people were told, None: of nothing yet.

    `renewal_is_changing`: a renewal has begun to change the VM, and is not over.
    """

    vm_uuid: VmUuid
    not_after: datetime
    told_days_before: int | None
    renewal_is_changing: bool


@dataclass(frozen=True, slots=True)
class DueWarning:
    """A certificate that is this near to its expiry; without an event of its own only the digest counts it."""

    vm_uuid: VmUuid
    not_after: datetime
    days_before: int
    own_event: bool


def due_days_before(certificate: KnownCertificate, rules: WarningRules, now: datetime) -> int | None:
    """The number of days for which a warning is due, if any.

    A certificate that a renewal is replacing gets no warning; when the renewal fails, the warning is due. An expiry is
    reported in any case.
    """
    crossed = [days for days in (*rules.days_before, EXPIRED) if certificate.not_after <= now + days * _DAY]
    if not crossed:
        return None
    fewest, told = min(crossed), certificate.told_days_before
    if (told is not None and told <= fewest) or (certificate.renewal_is_changing and fewest != EXPIRED):
        return None
    return fewest


def due_warnings(
    certificates: Iterable[KnownCertificate], rules: WarningRules, now: datetime, events_today: int
) -> tuple[DueWarning, ...]:
    """The due warnings, the earliest expiry first; these get the rest of the day's events."""
    due = sorted(
        (certificate.not_after, certificate.vm_uuid, days)
        for certificate in certificates
        if (days := due_days_before(certificate, rules, now)) is not None
    )
    events_left = rules.most_events_per_day - events_today
    return tuple(
        DueWarning(vm_uuid, not_after, days, own_event=place < events_left)
        for place, (not_after, vm_uuid, days) in enumerate(due)
    )


def days_left(not_after: datetime, now: datetime) -> int:
    """Whole days, rounded down: negative as soon as the certificate has expired."""
    return (not_after - now) // _DAY


def start_of_day(now: datetime, zone: tzinfo) -> datetime:
    """When the day began that it is now in the time zone; in UTC."""
    return datetime.combine(now.astimezone(zone).date(), time(), zone).astimezone(UTC)


def latest_time_of_day(now: datetime, at: time, zone: tzinfo) -> datetime:
    """When it was last this time of day in the time zone, at most now; in UTC.

    There is one on each day: where clocks are put forward over it, it is as much later by the new time; where they show
    it twice, it is the first.
    """
    today = now.astimezone(zone).date()
    candidates = (datetime.combine(today - days * _DAY, at, zone).astimezone(UTC) for days in range(3))
    return next(candidate for candidate in candidates if candidate <= now)

"""`[clusters.<name>.auto_renew]`: the rules of automatic renewals on a cluster."""

from datetime import date, timedelta
from itertools import pairwise
from operator import itemgetter
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, field_validator

from app.ngt.auto_renew.plan import AutoRules
from app.ngt.renewal.request import RestartAgent
from app.ngt.vocabulary import CERTIFICATE_LIFETIME_DAYS
from app.ngt.windows import Window, openings
from app.settings.table import Table
from app.settings.value_types import CronLine, TimeZoneName

_A_WEEK_MINUTES = 7 * 24 * 60
# A fixed period, so that the result is the same on every day: six years, with two leap days.
_FROM, _FOR_DAYS = date(2024, 1, 1), 2200


def _validate_patterns(patterns: tuple[str, ...]) -> tuple[str, ...]:
    if not all(pattern.strip() for pattern in patterns):
        raise ValueError("an empty pattern matches no name; leave it out, or write * for all")
    return patterns


_Patterns = Annotated[tuple[str, ...], AfterValidator(_validate_patterns)]


class RenewWindow(Table):
    """`[[clusters.<name>.auto_renew.windows]]`: open for some minutes after each time of the cron line."""

    cron: CronLine
    duration_minutes: Annotated[int, Field(ge=1, le=_A_WEEK_MINUTES)]
    time_zone: TimeZoneName = "UTC"


class AutoRenew(Table):
    """No windows: always open. `restart_agent` None: as the cluster. `include` and `exclude` match names of VMs."""

    enabled: bool = False
    before_days: Annotated[int, Field(ge=1, lt=CERTIFICATE_LIFETIME_DAYS)] = 60
    at_most_per_day: Annotated[int, Field(ge=1, le=10_000)] = 20
    at_most_at_once: Annotated[int, Field(ge=1, le=100)] = 2
    windows: Annotated[tuple[RenewWindow, ...], Field(max_length=20)] = ()
    restart_agent: RestartAgent | None = None
    include: _Patterns = ()
    exclude: _Patterns = ()
    stop_after_failures: Annotated[int, Field(ge=1, le=1000)] = 3

    @field_validator("exclude")
    @classmethod
    def _validate_exclude(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        if "*" in patterns:
            raise ValueError("* excludes every VM; set `enabled = false` instead")
        return patterns

    def rules(self, renewed_recently_s: float) -> AutoRules:
        """The rules of the planner, with the limit of the same name."""
        return AutoRules(
            before_days=self.before_days,
            at_most_per_day=self.at_most_per_day,
            at_most_at_once=self.at_most_at_once,
            windows=tuple(
                Window(window.cron, window.duration_minutes, window.time_zone, ZoneInfo(window.time_zone))
                for window in self.windows
            ),
            include=self.include,
            exclude=self.exclude,
            renewed_recently_s=renewed_recently_s,
        )

    def fault_of_windows(self) -> str | None:
        """Reports windows that stay closed for `before_days` or longer: a certificate could expire meanwhile."""
        pairs = pairwise(openings(self.rules(0).windows, _FROM, _FOR_DAYS) if self.windows else ())
        gaps = [(after.opens_at - before.closes_at, before.closes_at, after.opens_at) for before, after in pairs]
        if not gaps or max(gaps)[0] < timedelta(days=self.before_days):
            return None
        longest, closes_at, opens_at = max(gaps, key=itemgetter(0))
        return (
            f"the windows of automatic renewals are closed for up to {longest / timedelta(days=1):.1f} days, as from "
            f"{closes_at:%Y-%m-%d} to {opens_at:%Y-%m-%d}, and `before_days` is {self.before_days}"
        )

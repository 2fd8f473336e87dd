"""Renewing by itself, as an operator allows it for a cluster; what could not work is refused at start.

A window is looked at for six years from a fixed day on, so that one configuration is accepted or refused the same on
every day.
"""

from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from itertools import pairwise
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, field_validator, model_validator

from app.ngt.auto_renew.plan import AutoRules
from app.ngt.vocabulary import CERTIFICATE_LIFETIME_DAYS
from app.ngt.windows import Opening, Window, openings
from app.settings.limits import Table
from app.settings.time_types import CronLine, TimeZoneName

_A_WEEK_MINUTES = 7 * 24 * 60
# A leap year and the four after it, and one more.
_FROM, _FOR_DAYS = date(2024, 1, 1), 2200


def _names(patterns: tuple[str, ...]) -> tuple[str, ...]:
    if not all(pattern.strip() for pattern in patterns):
        raise ValueError("an empty text fits no name; leave it out, or write * for all")
    return patterns


_Patterns = Annotated[tuple[str, ...], AfterValidator(_names)]


class RenewWindow(Table):
    """`[[clusters.<name>.auto_renew.windows]]`: open for so many minutes after each time of the cron line."""

    cron: CronLine
    duration_minutes: Annotated[int, Field(ge=1, le=_A_WEEK_MINUTES)]
    time_zone: TimeZoneName = "UTC"

    @model_validator(mode="after")
    def _opens_some_day(self) -> "RenewWindow":
        if not openings((self.window(),), _FROM, _FOR_DAYS):
            raise ValueError(f"there is no day on which {self.cron!r} could open it")
        return self

    def window(self) -> Window:
        return Window(self.cron, self.duration_minutes, self.time_zone, ZoneInfo(self.time_zone))


class AutoRenew(Table):
    """`[clusters.<name>.auto_renew]`. No window: always open. `restart_agent` None: as the cluster's own.

    `include` and `exclude` are shell patterns of the names of VMs; `exclude` wins, and without `include` every name
    fits. So many automatic jobs that failed in a row stop it.
    """

    enabled: bool = False
    before_days: Annotated[int, Field(ge=1, lt=CERTIFICATE_LIFETIME_DAYS)] = 60
    at_most_per_day: Annotated[int, Field(ge=1, le=10_000)] = 20
    at_most_at_once: Annotated[int, Field(ge=1, le=100)] = 2
    windows: Annotated[tuple[RenewWindow, ...], Field(max_length=20)] = ()
    restart_agent: Literal["ssh", "manual"] | None = None
    include: _Patterns = ()
    exclude: _Patterns = ()
    stop_after_failures: Annotated[int, Field(ge=1, le=1000)] = 3

    @field_validator("exclude")
    @classmethod
    def _leaves_some(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        if "*" in patterns:
            raise ValueError("* leaves no VM at all; set `enabled = false` instead")
        return patterns

    @model_validator(mode="after")
    def _opens_before_certificates_pass(self) -> "AutoRenew":
        if self.windows and (gap := _longest_gap(self.rules().windows)) is not None:
            closed, opened = gap
            days = (opened.opens_at - closed.closes_at) / timedelta(days=1)
            if days >= self.before_days:
                raise ValueError(
                    f"its windows do not open before certificates pass: they are closed for up to {days:.1f} days, as "
                    f"from {closed.closes_at:%Y-%m-%d} to {opened.opens_at:%Y-%m-%d}, and `before_days` is "
                    f"{self.before_days}; open them more often, or raise `before_days`"
                )
        return self

    def rules(self) -> AutoRules:
        return AutoRules(
            before_days=self.before_days,
            at_most_per_day=self.at_most_per_day,
            at_most_at_once=self.at_most_at_once,
            windows=tuple(window.window() for window in self.windows),
            include=self.include,
            exclude=self.exclude,
        )


def faults_of_auto_renew(name: str, cluster: Mapping[str, Any]) -> Iterator[str]:
    """What contradicts the cluster's own settings, in what was given."""
    given = cluster.get("auto_renew")
    if not isinstance(given, dict):
        return
    where = f"clusters.{name}.auto_renew"
    at_once = given.get("at_most_at_once")
    for other, most in (
        ("max_running", cluster.get("max_running", 3)),
        ("at_most_per_day", given.get("at_most_per_day", AutoRenew.model_fields["at_most_per_day"].default)),
    ):
        if isinstance(at_once, int) and isinstance(most, int) and at_once > most:
            yield f"`{where}.at_most_at_once` is refused: {at_once} is more than `{other}` allows, which is {most}."
    restart = given.get("restart_agent")
    if restart == "ssh" and not cluster.get("guests"):
        yield f"`{where}.restart_agent` is refused: the cluster {name} has no `guests` table with SSH access to guests."
    if given.get("enabled") is True and restart is None and cluster.get("restart_agent") == "manual":
        yield (
            f"`{where}` is refused: on the cluster {name} a person restarts the agents, so each automatic renewal "
            f'would wait for one; write `restart_agent = "manual"` there too if that is meant.'
        )


def _longest_gap(windows: tuple[Window, ...]) -> tuple[Opening, Opening] | None:
    """The two openings after each other that are farthest apart; None when there are no two."""
    pairs = pairwise(openings(windows, _FROM, _FOR_DAYS))
    return max(pairs, key=lambda pair: pair[1].opens_at - pair[0].closes_at, default=None)

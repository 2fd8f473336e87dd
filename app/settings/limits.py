"""Every time limit and size, in seconds and bytes. The defaults suit real clusters; tests use seconds."""

from collections.abc import Sized
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

_List = TypeVar("_List", bound=Sized)


def at_least_one(given: _List) -> _List:
    """Pydantic's own `min_length` would refuse a list of one wrong item a second time, for being empty."""
    if not given:
        raise ValueError("at least one is needed")
    return given


Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
# For limits that go into shell texts, where `timeout` takes whole seconds.
WholeSeconds = Annotated[int, Field(gt=0)]


class Table(BaseModel):
    """A table of the TOML file: it never changes after start, and a key that it does not know is a fault."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Limits(Table):
    """`[limits]`. Pairs named first and last are back-off: each wait is twice the one before it, up to the last."""

    # A runner's claim on a job, and how often unclaimed jobs are looked for.
    lease_s: Seconds = 30
    sweep_interval_s: Seconds = 10

    # A changing text begins at most this long after the look before it, by the CVM's clock; a clock reading counts
    # for this long; and this is added to a change's limits before its silence may be taken for its end.
    start_window_s: WholeSeconds = 30
    clock_max_age_s: Seconds = 60
    change_margin_s: Seconds = 30
    # Between the two looks that decide after a lost answer: a call that was on its way may still land.
    settle_s: Seconds = 60

    # Each tool on a CVM.
    delete_timeout_s: WholeSeconds = 60
    create_timeout_s: WholeSeconds = 60
    mount_timeout_s: WholeSeconds = 60
    refresh_timeout_s: WholeSeconds = 120
    look_timeout_s: WholeSeconds = 90
    listing_timeout_s: WholeSeconds = 120
    max_output_bytes: Annotated[int, Field(ge=65536)] = 32 * 1024 * 1024

    # In a guest: one reading, and the restart of the agent.
    guest_timeout_s: Seconds = 30
    restart_timeout_s: Seconds = 120

    # Waiting jobs: one listing per cluster and interval; a guest is read after these delays, then after each last one.
    listing_max_age_s: Seconds = 300
    watch_first_interval_s: Seconds = 15
    watch_last_interval_s: Seconds = 600
    guest_read_delays_s: Annotated[tuple[Seconds, ...], AfterValidator(at_least_one)] = (5, 30, 60, 120, 300, 600)

    # Repeating what was refused or could not be reached.
    retry_first_s: Seconds = 5
    retry_last_s: Seconds = 300
    unreachable_retries: Annotated[int, Field(ge=0, le=1000)] = 3

    # When a job that proved nothing fails: agents restarted over SSH, and by a person (7 days).
    verify_timeout_ssh_s: Seconds = 1800
    verify_timeout_manual_s: Seconds = 604800
    stranded_deadline_s: Seconds = 900
    # Renewed less than this long ago is `already_valid`; this many unproven renewals in a row pause the cluster.
    renewed_recently_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 86400
    unproven_in_a_row: Annotated[int, Field(ge=1)] = 5

    # SSH connections to CVMs.
    connect_timeout_s: Seconds = 10
    login_timeout_s: Seconds = 15
    keepalive_interval_s: Seconds = 15
    idle_close_s: Seconds = 300

    # Between the attempts of a webhook's delivery, those of Standard Webhooks; after the last one it is exhausted.
    webhook_retry_delays_s: Annotated[tuple[Seconds, ...], AfterValidator(at_least_one)] = (
        5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400,
    )  # fmt: skip

    @field_validator("guest_read_delays_s", "webhook_retry_delays_s", mode="before")
    @classmethod
    def _from_environment(cls, given: object) -> object:
        """An environment variable holds the delays as `5,30,60`."""
        return tuple(given.split(",")) if isinstance(given, str) else given

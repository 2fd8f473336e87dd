"""`[limits]`: every time limit and size, in seconds and bytes. The defaults suit real clusters."""

from typing import Annotated

from pydantic import Field

from app.settings.table import Table
from app.settings.value_types import COMMA_SEPARATED, NOT_EMPTY, Seconds, WholeSeconds

_Delays = Annotated[tuple[Seconds, ...], COMMA_SEPARATED, NOT_EMPTY]


class Limits(Table):
    """Fields named first and last describe a back-off: each wait doubles the one before it, up to the last."""

    # The lease of a job, and the interval at which expired leases are looked for.
    lease_s: Seconds = 30
    sweep_interval_s: Seconds = 10

    # A change begins at most `start_window_s` after the query before it, by the CVM's clock. A clock reading is valid
    # for `clock_max_age_s`. A change without an answer has ended `change_margin_s` after its own limits.
    start_window_s: WholeSeconds = 30
    clock_max_age_s: Seconds = 60
    change_margin_s: Seconds = 30
    # Between the two queries that decide about a lost answer: a call may still arrive between them.
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

    # Waiting jobs: one listing per cluster and interval; a guest is read after each of its delays, then repeatedly
    # after the last one.
    listing_max_age_s: Seconds = 300
    watch_first_interval_s: Seconds = 15
    watch_last_interval_s: Seconds = 600
    guest_read_delays_s: _Delays = (5, 30, 60, 120, 300, 600)

    # Retries of what was refused or could not be reached.
    retry_first_s: Seconds = 5
    retry_last_s: Seconds = 300
    unreachable_retries: Annotated[int, Field(ge=0, le=1000)] = 3

    # A job without proof fails after this time: with agents restarted over SSH, and by a person (7 days).
    verify_timeout_ssh_s: Seconds = 1800
    verify_timeout_manual_s: Seconds = 604800
    stranded_deadline_s: Seconds = 900
    # A renewal within this time makes the next one `already_valid`; this many unproven ones in a row pause the cluster.
    renewed_recently_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 86400
    unproven_in_a_row: Annotated[int, Field(ge=1)] = 5

    # SSH connections to CVMs.
    connect_timeout_s: Seconds = 10
    login_timeout_s: Seconds = 15
    keepalive_interval_s: Seconds = 15
    idle_close_s: Seconds = 300

    # Between the attempts of a webhook's delivery, as in Standard Webhooks; after the last one the delivery fails.
    webhook_retry_delays_s: _Delays = (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)

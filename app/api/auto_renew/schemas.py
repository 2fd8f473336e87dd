"""Schemas of the plan of automatic renewal."""

from typing import Annotated

from pydantic import MISSING, Field

from app.field_types import CertificateDate, Count, Id, Instant, Lines, ResponseModel, Text, Word, example

MOST_SHOWN = 1000
"""So many VMs or openings of each kind are shown; all are counted."""


class AutoRenewWindow(ResponseModel):
    """Open for `duration_minutes` after each time of the cron line."""

    cron: Word
    duration_minutes: Count
    time_zone: Word


class AutoRenewOpening(ResponseModel):
    """One time at which the windows are open, and how many renewals are planned for it."""

    opens_at: Instant
    closes_at: Instant
    renewals: Count


class PlannedRenewal(ResponseModel):
    """One VM in the plan. Without `planned_from` its time is not within the next years."""

    vm_uuid: Id
    vm_name: Text | MISSING = MISSING
    not_after: CertificateDate
    certificate_source: Annotated[Word | MISSING, Field(description="As in the VM")] = MISSING
    planned_from: Annotated[Instant | MISSING, Field(description="Its opening begins")] = MISSING
    planned_until: Annotated[Instant | MISSING, Field(description="Its opening ends")] = MISSING
    in_time: Annotated[bool, Field(description="Its opening ends before its certificate does")]
    reason: Text


class LeftOutVm(ResponseModel):
    """One VM that automatic renewal leaves out at present."""

    vm_uuid: Id
    vm_name: Text | MISSING = MISSING
    not_after: CertificateDate | MISSING = MISSING
    reason_code: Annotated[
        Word,
        Field(
            description="excluded, date_unknown, job_open, awaiting_pickup, no_entity, powered_off, renewed_lately, "
            "tried_lately, far_ahead or vanished; more may come"
        ),
    ]
    reason: Text


class AutoRenewPlan(ResponseModel):
    """The automatic renewals of a cluster, by the present rules and facts.

    Each list shows its first 1000 members; the counts include all.
    """

    model_config = example(
        {
            "cluster": "c1",
            "enabled": False,
            "stopped": False,
            "made_at": "2026-11-29T12:00:00.000Z",
            "sentences": [
                "Automatic renewal is off: nothing of this is done before `enabled = true` is set.",
                "1 certificate is planned, at most 1 a day, from 2026-11-30 21:00Z on.",
            ],
            "before_days": 60,
            "at_most_per_day": 20,
            "at_most_at_once": 2,
            "stop_after_failures": 3,
            "restart_agent": "ssh",
            "windows": [{"cron": "0 22 * * 1-5", "duration_minutes": 240, "time_zone": "Europe/Berlin"}],
            "include": [],
            "exclude": [],
            "open_now": False,
            "next_opens_at": "2026-11-30T21:00:00.000Z",
            "next_closes_at": "2026-12-01T01:00:00.000Z",
            "started_today": 0,
            "openings": [
                {
                    "opens_at": "2026-11-30T21:00:00.000Z",
                    "closes_at": "2026-12-01T01:00:00.000Z",
                    "renewals": 1,
                }
            ],
            "planned_count": 1,
            "items": [
                {
                    "vm_uuid": "20edafba-1b5c-4a7e-8d1f-0b6f6a9d2c11",
                    "vm_name": "web01",
                    "not_after": "2027-01-10T00:00:00Z",
                    "certificate_source": "cvm_expiry_date",
                    "planned_from": "2026-11-30T21:00:00.000Z",
                    "planned_until": "2026-12-01T01:00:00.000Z",
                    "in_time": True,
                    "reason": "expires 2027-01-10, within before_days = 60",
                }
            ],
            "too_late_count": 0,
            "too_late": [],
            "left_out_count": 0,
            "left_out": [],
        }
    )

    cluster: Word
    enabled: Annotated[bool, Field(description="false: nothing of this is done, it is only shown")]
    stopped: Annotated[bool, Field(description="Too many automatic renewals in a row failed; see `resumeAutoRenew`")]
    stopped_at: Instant | MISSING = MISSING
    stopped_reason: Text | MISSING = MISSING
    made_at: Annotated[Instant, Field(description="The clock by which the plan was made")]
    sentences: Annotated[Lines, Field(description="What a person should know of it first")]

    before_days: Count
    at_most_per_day: Count
    at_most_at_once: Count
    stop_after_failures: Count
    restart_agent: Word
    windows: Annotated[list[AutoRenewWindow], Field(max_length=20, description="None: always open")]
    include: Lines
    exclude: Lines

    open_now: bool
    next_opens_at: Annotated[Instant | MISSING, Field(description="Of the present opening, else of the next")] = MISSING
    next_closes_at: Instant | MISSING = MISSING
    started_today: Annotated[Count, Field(description="On the day of that opening")]
    needed_per_day: Annotated[
        Count | MISSING, Field(description="What `at_most_per_day` would have to be to renew in time all that can be")
    ] = MISSING
    openings: Annotated[list[AutoRenewOpening], Field(max_length=MOST_SHOWN, description="Those that have renewals")]
    planned_count: Count
    items: Annotated[list[PlannedRenewal], Field(max_length=MOST_SHOWN, description="In the order of their turns")]
    too_late_count: Count
    too_late: Annotated[
        list[PlannedRenewal], Field(max_length=MOST_SHOWN, description="Of these, those that are not `in_time`")
    ]
    left_out_count: Count
    left_out: Annotated[list[LeftOutVm], Field(max_length=MOST_SHOWN)]

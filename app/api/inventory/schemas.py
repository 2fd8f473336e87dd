"""Schemas of VMs, of the observations of their certificates, and of the forecast.

Flat, and what is not known is absent, as in every answer.
"""

from datetime import date
from typing import Annotated, Any

from pydantic import MISSING, AfterValidator, Field, PlainSerializer, WithJsonSchema

from app.field_types import CertificateDate, Count, DaysLeft, Id, Instant, ResponseModel, Text, Word, example

LONGEST_CURSOR = 2048
"""Characters of a cursor of VMs, which may hold the beginning of a name in any script."""
MOST_ADDRESSES = 100
_MOST_WEEKS = 150_000
_MOST_CLUSTERS = 1000

Cursor = Annotated[str, Field(max_length=LONGEST_CURSOR)]
Day = Annotated[date, PlainSerializer(date.isoformat), WithJsonSchema({"type": "string", "format": "date"})]
# A guest may have more addresses than anybody wants to read.
Addresses = Annotated[
    list[Word],
    AfterValidator(lambda addresses: addresses[:MOST_ADDRESSES]),
    Field(json_schema_extra={"maxItems": MOST_ADDRESSES}),
]

_SOURCES = "guest_certificate, pushed_certificate, cvm_expiry_date or computed; more may come"
_EXAMPLE: dict[str, Any] = {
    "vm_uuid": "20edafba-1b5c-4a7e-8d1f-0b6f6a9d2c11",
    "name": "web01",
    "cluster": "c1",
    "power": "on",
    "addresses": ["10.1.0.5"],
    "ngt_enabled": True,
    "has_entity": True,
    "iso_mounted": False,
    "link_active": True,
    "vss_snapshot": True,
    "file_level_restore": False,
    "not_before": "2024-03-31T02:11:04Z",
    "not_after": "2026-12-26T02:11:04Z",
    "days_left": 32,
    "expired": False,
    "serial": "4f21ab",
    "certificate_source": "guest_certificate",
    "certificate_observed_at": "2026-11-23T01:00:41.000Z",
    "first_seen_at": "2025-01-10T01:00:12.000Z",
    "last_seen_at": "2026-11-23T01:00:12.000Z",
}


class Vm(ResponseModel):
    """A VM as its cluster last showed it, and the best that is known of its certificate."""

    model_config = example(_EXAMPLE)

    vm_uuid: Id
    name: Text | MISSING = MISSING
    cluster: Word
    power: Annotated[Word | MISSING, Field(description="on, off or other")] = MISSING
    addresses: Addresses
    ngt_enabled: Annotated[bool | MISSING, Field(description="NGT is enabled for the VM")] = MISSING
    has_entity: Annotated[bool | MISSING, Field(description="The cluster has a VM tools entity of it")] = MISSING
    iso_mounted: Annotated[bool | MISSING, Field(description="Can be stale, and proves nothing")] = MISSING
    link_active: Annotated[bool | MISSING, Field(description="Says nothing of the certificate on newer clusters")] = (
        MISSING
    )
    vss_snapshot: bool | MISSING = MISSING
    file_level_restore: bool | MISSING = MISSING
    not_before: CertificateDate | MISSING = MISSING
    not_after: Annotated[CertificateDate | MISSING, Field(description="Absent: the date is not known")] = MISSING
    days_left: Annotated[
        DaysLeft | MISSING, Field(description="Whole days, rounded down; negative once it expired")
    ] = MISSING
    expired: bool | MISSING = MISSING
    serial: Annotated[Word | MISSING, Field(description="In hexadecimal digits")] = MISSING
    fingerprint: Annotated[Word | MISSING, Field(description="SHA-256, in hexadecimal digits")] = MISSING
    subject: Text | MISSING = MISSING
    issuer: Text | MISSING = MISSING
    certificate_source: Annotated[Word | MISSING, Field(description=f"Who says so: {_SOURCES}")] = MISSING
    certificate_observed_at: Annotated[Instant | MISSING, Field(description="When it was seen there")] = MISSING
    guest_error_code: Annotated[
        Word | MISSING, Field(description="Why the guest's certificate could not be read the last time")
    ] = MISSING
    guest_error_message: Text | MISSING = MISSING
    guest_error_at: Instant | MISSING = MISSING
    first_seen_at: Instant | MISSING = MISSING
    last_seen_at: Annotated[Instant | MISSING, Field(description="The last scan that saw it")] = MISSING
    vanished_at: Annotated[Instant | MISSING, Field(description="Its cluster does not have it any more")] = MISSING
    renewed_at: Annotated[Instant | MISSING, Field(description="When a renewal was last proved")] = MISSING
    awaiting_pickup_since: Annotated[
        Instant | MISSING, Field(description="A new certificate was issued then, and not seen in the VM yet")
    ] = MISSING
    last_job_id: Annotated[Id | MISSING, Field(description="The newest job that was to renew it")] = MISSING


class VmList(ResponseModel):
    """One page of VMs, in the order that was asked for. Without `next_cursor` it is the last one."""

    items: Annotated[list[Vm], Field(max_length=200)]
    next_cursor: Cursor | MISSING = MISSING


class CertificateObservation(ResponseModel):
    """The last observation of the VM's certificate by one source."""

    source: Annotated[Word, Field(description=_SOURCES)]
    observed_at: Instant
    not_before: CertificateDate | MISSING = MISSING
    not_after: CertificateDate
    serial: Annotated[Word | MISSING, Field(description="In hexadecimal digits")] = MISSING
    fingerprint: Annotated[Word | MISSING, Field(description="SHA-256, in hexadecimal digits")] = MISSING
    subject: Text | MISSING = MISSING
    issuer: Text | MISSING = MISSING
    given_by: Annotated[Text | MISSING, Field(description="The caller who handed it in")] = MISSING


class VmNgt(Vm):
    """All that is known of the VM's NGT. The certificate shown is the best of the observations."""

    model_config = example(
        {
            **_EXAMPLE,
            "ngt_uuid": "5e6b0a3c-52f1-4d0e-b45f-9f8a4a1f4b11",
            "observations": [
                {
                    "source": "guest_certificate",
                    "observed_at": "2026-11-23T01:00:41.000Z",
                    "not_before": "2024-03-31T02:11:04Z",
                    "not_after": "2026-12-26T02:11:04Z",
                    "serial": "4f21ab",
                }
            ],
        }
    )

    communication_type: Annotated[Word | MISSING, Field(description="As the cluster names it")] = MISSING
    ngt_uuid: Annotated[Word | MISSING, Field(description="The id of the VM tools entity")] = MISSING
    observations: Annotated[list[CertificateObservation], Field(max_length=10, description="The best source first")]
    last_job_status: Word | MISSING = MISSING
    last_job_outcome: Annotated[Word | MISSING, Field(description="Once it is done")] = MISSING
    scan_id: Annotated[Id | MISSING, Field(description="The scan that this request started or joined")] = MISSING
    scan_status: Word | MISSING = MISSING
    scan_done: Annotated[bool | MISSING, Field(description="true: what is shown is as the scan found it")] = MISSING
    scan_outcome: Annotated[Word | MISSING, Field(description="complete, partial or failed; once it is done")] = MISSING
    scan_error_code: Annotated[Word | MISSING, Field(description="Why the VM could not be looked at")] = MISSING
    scan_error_message: Text | MISSING = MISSING


class ForecastWeek(ResponseModel):
    """A week in which certificates of a cluster expire."""

    cluster: Word
    week_begins: Annotated[Day, Field(description="A Monday; the week begins at 00:00 UTC")]
    expiring: Annotated[Count, Field(description="Certificates that are good now and expire in that week")]


class ForecastCluster(ResponseModel):
    """All VMs of a cluster that have not vanished."""

    cluster: Word
    vms: Count
    expired: Annotated[Count, Field(description="Their certificate has expired")]
    unknown: Annotated[Count, Field(description="No date is known of their certificate")]
    within_1000_days: Annotated[Count, Field(description="The sum of the weeks; all others expire later")]


class Forecast(ResponseModel):
    """The number of certificates that expire in each week of the next 1000 days, by cluster; no empty weeks."""

    model_config = example(
        {
            "items": [{"cluster": "c1", "week_begins": "2026-12-21", "expiring": 312}],
            "clusters": [{"cluster": "c1", "vms": 1200, "expired": 3, "unknown": 41, "within_1000_days": 1156}],
        }
    )

    items: Annotated[list[ForecastWeek], Field(max_length=_MOST_WEEKS)]
    clusters: Annotated[list[ForecastCluster], Field(max_length=_MOST_CLUSTERS, description="Every cluster, by name")]

"""VMs, their certificates and the forecast as the store returns them. An unknown value is None.

Days left and expiry are by the database's clock at the time of the answer.
"""

from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from app.ngt.vocabulary import Certificate, CertificateSource, VmUuid


@dataclass(frozen=True, slots=True)
class Observation:
    """The observation of a VM's certificate by one source; all but its end may be unknown.

    `given_by` is the caller who handed a pushed certificate in.
    """

    vm_uuid: VmUuid
    source: CertificateSource
    observed_at: datetime
    not_after: datetime
    not_before: datetime | None = None
    serial: str | None = None
    fingerprint: str | None = None
    subject: str | None = None
    issuer: str | None = None
    given_by: str | None = None


@dataclass(frozen=True, slots=True)
class KnownVm:
    """A VM of one cluster, the best that is known of its certificate, and its last renewal.

    `days_left` is rounded down, so it is negative as soon as the certificate has expired. `last_job_id` is the newest
    job that was to renew it, open or not.
    """

    vm_uuid: VmUuid
    name: str | None
    cluster: str
    power: str | None
    addresses: tuple[str, ...]
    ngt_enabled: bool | None
    has_entity: bool | None
    iso_mounted: bool | None
    link_active: bool | None
    vss_snapshot: bool | None
    file_level_restore: bool | None
    communication_type: str | None
    ngt_uuid: str | None
    not_before: datetime | None
    not_after: datetime | None
    days_left: int | None
    expired: bool | None
    serial: str | None
    fingerprint: str | None
    subject: str | None
    issuer: str | None
    certificate_source: str | None
    certificate_observed_at: datetime | None
    guest_fault_code: str | None
    guest_fault: str | None
    guest_fault_at: datetime | None
    first_seen_at: datetime | None
    last_seen_at: datetime | None
    vanished_at: datetime | None
    renewed_at: datetime | None
    awaiting_pickup_since: datetime | None
    last_job_id: UUID | None

    def __post_init__(self) -> None:
        # The driver gives lists, and a frozen value has none.
        object.__setattr__(self, "addresses", tuple(self.addresses))


@dataclass(frozen=True, slots=True)
class KnownNgt:
    """All that is known of a VM's NGT: each source's last observation, the best source first, and the last job."""

    vm: KnownVm
    observations: tuple[Observation, ...]
    last_job_status: str | None
    last_job_outcome: str | None


@dataclass(frozen=True, slots=True)
class BeforeRenewal:
    """The stored facts about a VM when a renewal finds it.

    `renewed_at` is when one was last proved; `awaiting_pickup`: a certificate was issued that was not seen in it yet;
    `handed_in` is the last certificate that a caller handed in.
    """

    renewed_at: datetime | None
    awaiting_pickup: bool
    handed_in: Certificate | None


@dataclass(frozen=True, slots=True)
class ExpiringWeek:
    """The number of certificates of a cluster that expire in the week from that Monday, 00:00 UTC."""

    cluster: str
    week_begins: date
    expiring: int


@dataclass(frozen=True, slots=True)
class ClusterTotals:
    """All VMs of a cluster that have not vanished, by what is known of their certificates.

    `expiring` ones do so within the days of the forecast; what is left of `vms` expires later.
    """

    cluster: str
    vms: int
    expired: int
    unknown: int
    expiring: int


@dataclass(frozen=True, slots=True)
class ForecastRecord:
    """The weeks in which some certificate expires, by cluster and time; and the totals of every cluster asked for."""

    weeks: tuple[ExpiringWeek, ...]
    totals: tuple[ClusterTotals, ...]

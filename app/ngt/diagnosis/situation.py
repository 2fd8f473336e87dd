"""The situation of a VM: the facts of a diagnosis at one moment, and the conclusions that its findings share."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from app.ngt.diagnosis.facts import ClusterFacts, Facts, JobFacts, KnownCertificateDates, VmFacts
from app.ngt.errors import FaultCode
from app.ngt.inventory import names_another_entity
from app.ngt.renewal.progress import WaitReason
from app.ngt.sentences import full_stop, plural
from app.ngt.vocabulary import CertificateSource, PowerState

EXPIRES_SOON_DAYS = 30
"""A certificate expires soon when fewer days are left."""

OLD_DAYS = 14
"""A fact that was seen longer ago is old."""

_DAY = timedelta(days=1)
# These sources show the guest itself, whatever the cluster knows of it.
_OF_GUEST = frozenset({CertificateSource.GUEST_CERTIFICATE, CertificateSource.PUSHED_CERTIFICATE})
_SOURCES = {
    CertificateSource.GUEST_CERTIFICATE: "as it was read in the guest",
    CertificateSource.PUSHED_CERTIFICATE: "as the certificate that was handed in says",
    CertificateSource.CVM_EXPIRY_DATE: "as the agent reported it to the cluster",
    CertificateSource.COMPUTED: "as it was computed from the last renewal",
}


def day(at: datetime | None) -> str:
    return "an unknown day" if at is None else f"{at:%Y-%m-%d}"


@dataclass(frozen=True)
class Situation:
    """The facts at the time `now`. `here`: the VM is on its cluster."""

    facts: Facts
    now: datetime

    @property
    def vm(self) -> VmFacts:
        return self.facts.vm

    @property
    def cluster(self) -> ClusterFacts:
        return self.facts.cluster

    @property
    def job(self) -> JobFacts | None:
        return self.facts.job

    @property
    def name(self) -> str:
        return f"VM {self.vm.name!r}" if self.vm.name else f"VM {self.vm.vm_uuid}"

    # The VM and its entity.

    @cached_property
    def here(self) -> bool:
        return self.vm.vanished_at is None

    @cached_property
    def seen(self) -> bool:
        return self.here and self.vm.seen_at is not None

    @cached_property
    def absent(self) -> bool:
        """The VM has no tools entity, and no open job is about to create one."""
        return self.here and self.vm.has_entity is False and self.stranding is None

    @cached_property
    def disabled(self) -> bool:
        return self.here and not self.absent and self.vm.ngt_enabled is False and self.stranding is None

    @cached_property
    def usable(self) -> bool:
        """The VM has an entity, so that its link, its guest and its certificate mean something."""
        return self.seen and not self.absent and not self.disabled and self.stranding is None

    @cached_property
    def runs(self) -> bool:
        return self.vm.power not in {PowerState.OFF, PowerState.OTHER}

    @cached_property
    def deleted_by(self) -> JobFacts | None:
        """The ended job of this service that deleted the entity and did not create another one."""
        job = self.job
        ours = self.absent and job is not None and job.done and job.delete_begun and not job.issued
        return job if ours else None

    @cached_property
    def had_entity(self) -> bool:
        vm, job = self.vm, self.job
        renewed = vm.renewed_at is not None or vm.awaiting_pickup_since is not None or (job is not None and job.issued)
        return renewed or CertificateSource.CVM_EXPIRY_DATE in vm.date_sources

    @cached_property
    def cloned(self) -> bool:
        """The guest itself showed a certificate or an entity."""
        named = self.job is not None and self.job.guest_names is not None
        return bool(_OF_GUEST & self.vm.date_sources) or named

    # The last job.

    @cached_property
    def open_job(self) -> JobFacts | None:
        return self.job if self.job is not None and not self.job.done else None

    @cached_property
    def stranding(self) -> JobFacts | None:
        """The open job whose delete may have left the VM without its entity."""
        return self.open_job if self.open_job is not None and self.open_job.stranded else None

    @cached_property
    def no_slot(self) -> JobFacts | None:
        job = self.open_job
        return job if job is not None and job.wait_reason is WaitReason.NO_FREE_CDROM_SLOT else None

    @cached_property
    def awaiting_pickup(self) -> bool:
        vm = self.vm
        issued = vm.awaiting_pickup_since is not None and vm.has_entity is not False
        return self.here and issued and self.stranding is None

    @cached_property
    def bad_end(self) -> JobFacts | None:
        """The last job, if it ended badly and no good certificate with an active link was seen since."""
        job, vm = self.job, self.vm
        if job is None or not job.done:
            return None
        if job.outcome != "failed" and not (job.outcome == "cancelled" and job.remaining_action):
            return None
        seen_at = vm.certificate.observed_at if vm.certificate is not None else None
        seen_since = seen_at is not None and job.finished_at is not None and seen_at > job.finished_at
        repaired = self.good and seen_since and vm.link_active is True and vm.awaiting_pickup_since is None
        return None if repaired else job

    # The guest.

    @cached_property
    def names_another(self) -> bool:
        """The guest named an entity of another VM. After a proved renewal it has its own."""
        if self.vm.guest_fault_code == FaultCode.GUEST_NAMES_ANOTHER_ENTITY:
            return True
        job = self.job
        if job is None or job.outcome == "renewed":
            return False
        return names_another_entity(job.guest_names, self.vm.ngt_uuid, *job.entities)

    @cached_property
    def another(self) -> bool:
        return self.usable and not self.awaiting_pickup and self.names_another

    @cached_property
    def old_address(self) -> str | None:
        """The guest's address at the last renewal, when it has another one now."""
        old, now = self.job.guest_address if self.job is not None else None, self.vm.addresses
        return old if now and old not in now else None

    # The certificate. A computed date is not an observation: it is neither valid nor expired.

    @cached_property
    def _seen_certificate(self) -> KnownCertificateDates | None:
        return None if self.computed else self.vm.certificate

    @cached_property
    def computed(self) -> bool:
        return self.vm.certificate is not None and self.vm.certificate.source is CertificateSource.COMPUTED

    @cached_property
    def expired(self) -> bool:
        return self._seen_certificate is not None and self._seen_certificate.not_after <= self.now

    @cached_property
    def good(self) -> bool:
        return self._seen_certificate is not None and self._seen_certificate.not_after > self.now

    @cached_property
    def days_left(self) -> int:
        return 0 if self.vm.certificate is None else (self.vm.certificate.not_after - self.now) // _DAY

    def is_old(self, at: datetime | None) -> bool:
        return at is not None and self.now - at > timedelta(days=OLD_DAYS)

    # Parts of sentences.

    @property
    def seen_on(self) -> str:
        return day(self.vm.seen_at)

    @property
    def date(self) -> str:
        certificate = self.vm.certificate
        if certificate is None:
            return "an unknown day"
        source = _SOURCES[certificate.source]
        return f"good until {certificate.not_after:%Y-%m-%d}, {source} on {certificate.observed_at:%Y-%m-%d}"

    @property
    def expired_ago(self) -> str:
        days = 0 if self.vm.certificate is None else (self.now - self.vm.certificate.not_after) // _DAY
        return f"{plural(days, 'day')} ago" if days else "less than a day ago"

    @property
    def expires_in(self) -> str:
        return f"in {plural(self.days_left, 'day')}" if self.days_left else "in less than a day"

    @cached_property
    def trouble(self) -> str | None:
        """The reason for which nothing newer is known: the failed look, silent CVMs, or a failed scan."""
        cluster, seen_at = self.cluster, self.vm.seen_at
        if self.facts.look_failed is not None:
            return full_stop(self.facts.look_failed.message)
        if cluster.cvms and not any(cvm.is_up for cvm in cluster.cvms):
            said = "; ".join(f"{cvm.address}: {(cvm.fault or 'down').rstrip('.')}" for cvm in cluster.cvms)
            return f"no CVM of it answers ({said})."
        if cluster.scan_fault is not None and cluster.scan_fault_at is not None:
            return full_stop(cluster.scan_fault) if seen_at is None or cluster.scan_fault_at > seen_at else None
        return None

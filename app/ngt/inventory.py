"""The rules that combine a cluster's listing with its VM tools entities, and that assign a certificate to a VM.

An unknown fact is None. The entity's value counts before that of the listing, which can be stale.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.ngt.errors import Fault, FaultCode
from app.ngt.sentences import plural
from app.ngt.vocabulary import (
    CERTIFICATE_LIFETIME_DAYS,
    Certificate,
    NgtState,
    PowerState,
    VmRecord,
    VmToolsEntity,
    VmUuid,
)

# The most that the clocks of a guest, of the cluster and of the database may differ.
CLOCK_TOLERANCE = timedelta(hours=24)
_NEAR = timedelta(days=30)
LATEST_END = timedelta(days=CERTIFICATE_LIFETIME_DAYS) + _NEAR
"""A certificate of the cluster does not end later than this after its issue."""
SEVERAL = 3
"""What so many VMs of a cluster have is not an accident of one of them."""

_UNKNOWN = NgtState(None, None, None, None, None)
_NO_ENTITY = VmToolsEntity(VmUuid(""), None, None, None, None, None, None, None, None, None)


def ngt_state_of(vm: VmRecord, entity: VmToolsEntity | None) -> NgtState:
    listed, shown = vm.ngt or _UNKNOWN, entity or _NO_ENTITY
    return NgtState(
        enabled=_first(shown.enabled, listed.enabled),
        iso_mounted=_first(shown.iso_mounted, listed.iso_mounted),
        vss_snapshot=_first(shown.vss_snapshot, listed.vss_snapshot),
        file_level_restore=_first(shown.file_level_restore, listed.file_level_restore),
        link_active=_first(shown.link_active, listed.link_active),
    )


def refuse_empty_query(
    vms: Iterable[VmRecord], entities: Mapping[VmUuid, VmToolsEntity], other_count: int, known: Collection[VmUuid]
) -> None:
    """Refuses a query without any entity, unless ncli agrees or no VM was `known` to have one.

    Raises Fault `unexpected-output`.
    """
    if entities or other_count:
        return
    for vm in vms:
        enabled = vm.ngt.enabled if vm.ngt is not None else None
        if enabled or (enabled is None and vm.vm_uuid in known):
            message = f"the query lists no VM tools entity at all, and VM {vm.name!r} had one"
            raise Fault(FaultCode.UNEXPECTED_OUTPUT, message)


def is_worth_asking(vm: VmRecord, *, has_entity: bool | None) -> bool:
    """The guest may have a certificate: the VM is not known to be off, and not known to have no entity."""
    return vm.power in {PowerState.ON, PowerState.UNKNOWN} and has_entity is not False


def names_another_entity(named: str | None, *own: str | None) -> bool:
    """The guest's configuration names an entity that is not one of the VM's own: a clone, or a reused address."""
    known = {ngt_uuid for ngt_uuid in own if ngt_uuid is not None}
    return named is not None and bool(known) and named not in known


def owner_of(named: str | None, entities: Mapping[VmUuid, str | None]) -> VmUuid | None:
    """The VM whose entity a guest names, where it is one of these."""
    return next((vm_uuid for vm_uuid, entity in entities.items() if entity is not None and entity == named), None)


@dataclass(frozen=True, slots=True)
class KnownCertificates:
    """The certificates that were seen beside the one in question.

    `issuers`: of the VM's earlier certificate, and of the other VMs of its cluster. `usual_life`: of theirs.
    `holder`: another VM that has the very certificate in question.
    """

    issuers: frozenset[str] = frozenset()
    usual_life: timedelta | None = None
    holder: str | None = None


def why_foreign(certificate: Certificate, known: KnownCertificates, now: datetime) -> str | None:
    """The reason for which the certificate was not issued by the VM's cluster for this VM, or None.

    It protects against accidents: the root of a guest can make a certificate that looks right.
    """
    c = certificate
    life = c.not_after - c.not_before
    lives = [timedelta(days=CERTIFICATE_LIFETIME_DAYS), *([known.usual_life] if known.usual_life is not None else [])]
    usual = " or ".join(map(_days, dict.fromkeys(lives)))
    issuers = " or ".join(map(repr, sorted(known.issuers)[:3]))
    rows = (
        (c.subject == c.issuer, "it is self-signed"),
        (life <= timedelta(), f"its dates are not in order: it begins on {_day(c.not_before)} and ends before"),
        (c.not_before > now + CLOCK_TOLERANCE, f"it does not begin before {_day(c.not_before)}"),
        (
            bool(known.issuers) and c.issuer not in known.issuers,
            f"its issuer is {c.issuer!r}, and that of the cluster's certificates is {issuers}",
        ),
        (
            all(abs(life - one) > _NEAR for one in lives),
            f"it is valid for {_days(life)}, until {_day(c.not_after)}, and the cluster's certificates for {usual}",
        ),
        (known.holder is not None, f"the same certificate was seen in VM {known.holder}"),
    )
    return next((reason for holds, reason in rows if holds), None)


def ends_too_late(not_after: datetime, now: datetime) -> bool:
    """A cluster's date alone, without a certificate: none that was issued until now ends so late."""
    return not_after > now + LATEST_END


def _days(life: timedelta) -> str:
    return plural(life // timedelta(days=1), "day")


def _day(at: datetime) -> str:
    return f"{at:%Y-%m-%d}"


def _first(shown: bool | None, listed: bool | None) -> bool | None:  # noqa: FBT001 - facts that may be unknown
    return listed if shown is None else shown

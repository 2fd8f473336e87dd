"""What a look at a cluster says of its VMs: the listing and the tools' entities together, and whose certificate it is.

What was not said is None. The entity's word counts before the listing's, which can be stale.
"""

from collections.abc import Collection, Iterable, Mapping

from app.ngt.errors import Fault, FaultCode
from app.ngt.vocabulary import NgtState, PowerState, VmRecord, VmToolsEntity, VmUuid

_NOT_SAID = NgtState(None, None, None, None, None)
_NO_ENTITY = VmToolsEntity(VmUuid(""), None, None, None, None, None, None, None, None, None)


def ngt_state_of(vm: VmRecord, entity: VmToolsEntity | None) -> NgtState:
    """The state of the VM's NGT by both; without an entity by the listing alone."""
    listed, told = vm.ngt or _NOT_SAID, entity or _NO_ENTITY
    return NgtState(
        enabled=_first(told.enabled, listed.enabled),
        iso_mounted=_first(told.iso_mounted, listed.iso_mounted),
        vss_snapshot=_first(told.vss_snapshot, listed.vss_snapshot),
        file_level_restore=_first(told.file_level_restore, listed.file_level_restore),
        link_active=_first(told.link_active, listed.link_active),
    )


def refuse_empty_query(
    vms: Iterable[VmRecord], entities: Mapping[VmUuid, VmToolsEntity], others: int, known: Collection[VmUuid]
) -> None:
    """That no VM has an entity is believed only where ncli does not say otherwise, and where none was `known` before.

    Raises Fault `unexpected-output`.
    """
    if entities or others:
        return
    for vm in vms:
        enabled = vm.ngt.enabled if vm.ngt is not None else None
        if enabled or (enabled is None and vm.vm_uuid in known):
            message = f"the query lists no VM tools entity at all, and VM {vm.name!r} had one"
            raise Fault(FaultCode.UNEXPECTED_OUTPUT, message)


def is_worth_asking(vm: VmRecord, *, has_entity: bool | None) -> bool:
    """Whether the guest may have a certificate to show: it is not known to be off, or to be without an entity."""
    return vm.power in {PowerState.ON, PowerState.UNKNOWN} and has_entity is not False


def names_another_entity(named: str | None, *own: str | None) -> bool:
    """The guest's configuration names an entity that is not one of the VM's own: a clone, or a reused address."""
    known = {ngt_uuid for ngt_uuid in own if ngt_uuid is not None}
    return named is not None and bool(known) and named not in known


def owner_of(named: str | None, entities: Mapping[VmUuid, str | None]) -> VmUuid | None:
    """The VM whose entity a guest names, where it is one of these."""
    return next((vm_uuid for vm_uuid, entity in entities.items() if entity is not None and entity == named), None)


def _first(told: bool | None, listed: bool | None) -> bool | None:  # noqa: FBT001 - facts that may be unknown
    return listed if told is None else told

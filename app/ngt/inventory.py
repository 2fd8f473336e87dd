"""The rules that combine a cluster's listing with its VM tools entities, and that assign a certificate to a VM.

An unknown fact is None. The entity's value counts before that of the listing, which can be stale.
"""

from collections.abc import Collection, Iterable, Mapping

from app.ngt.errors import Fault, FaultCode
from app.ngt.vocabulary import NgtState, PowerState, VmRecord, VmToolsEntity, VmUuid

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


def _first(shown: bool | None, listed: bool | None) -> bool | None:  # noqa: FBT001 - facts that may be unknown
    return listed if shown is None else shown

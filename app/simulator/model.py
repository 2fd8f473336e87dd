"""The behaviour of a cluster, without any I/O: VMs, VM tools entities, the ISO slot and the guests' certificates.

Time comes from the clock of the cluster. A later effect (an agent that is slow to pick up) happens at the next read.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from app.simulator.certificates import LIFETIME_S, ClientCertificate, issue
from app.simulator.journal import Effect, Journal, Kind
from app.simulator.spec import ClusterSpec, Os, Refresh, ReportedExpiry, Traits, VmSpec

NO_ERROR = "kNoError"
NOT_FOUND = "kNotFound"
ALREADY_EXISTS = "kAlreadyExists"
NO_FREE_CDROM_SLOT = "kNoFreeCdRomSlot"
NOT_SUPPORTED = "kNotSupported"

_NEVER = float("inf")


@dataclass(slots=True)
class SimulatedEntity:
    """The record that the NGT service keeps of a VM. `reported_expiry` is the last report of its agent."""

    ngt_uuid: str
    certificate: ClientCertificate
    vss_snapshot: bool = True
    file_level_restore: bool = False
    tools_mounted: bool = False
    reported_expiry: int | None = None
    reported_os: Os | None = None


@dataclass(slots=True)
class SimulatedVm:
    """One VM and its guest.

    `iso` is the certificate on the mounted ISO, `installed` the one in the guest, `first` the one at the start.
    `pickup_delay_s` is the time between a restart of the agent and its copy of the files; infinite for an agent that
    never copies them. `agent_answers` is false for an agent that does not come back at all.
    """

    uuid: str
    name: str
    os: Os
    addresses: tuple[str, ...]
    powered_on: bool = True
    controller_vm: bool = False
    entity: SimulatedEntity | None = None
    iso: ClientCertificate | None = None
    installed: ClientCertificate | None = None
    first: ClientCertificate | None = None
    slot_taken: bool = False
    link_whatever_the_certificate: bool = False
    agent_answers: bool = True
    pickup_delay_s: float = 0
    pickup_at: float = _NEVER


@dataclass(slots=True)
class SimulatedCluster:
    """One cluster, and all that its tools can do to it. `identifier` is the part before `::` of ncli's VM ids."""

    name: str
    identifier: str
    traits: Traits
    clock: Callable[[], float]
    journal: Journal
    vms: dict[str, SimulatedVm] = field(default_factory=dict)

    def add_vm(self, spec: VmSpec, *, addresses: tuple[str, ...]) -> SimulatedVm:
        number = len(self.vms)
        made = uuid.uuid5(uuid.NAMESPACE_OID, f"{self.identifier}/{number}/{spec.name}")
        vm = SimulatedVm(spec.uuid or str(made), spec.name, spec.os, addresses, spec.powered_on, spec.controller_vm)
        if spec.clone_of is not None:
            vm.installed = self.vm_named(spec.clone_of).installed
        elif not spec.controller_vm:
            not_after = self.clock() + spec.expires_in_days * 86_400
            vm.installed = issue(str(uuid.uuid4()), not_before=not_after - LIFETIME_S)
        vm.first = vm.installed
        if spec.entity and vm.installed is not None:
            old = vm.installed
            vm.entity = SimulatedEntity(old.ngt_uuid, old, spec.vss_snapshot, spec.file_level_restore)
            vm.entity.reported_expiry = old.not_after
            vm.entity.reported_os = vm.os
        self.vms[vm.uuid] = vm
        return vm

    def vm_named(self, name: str) -> SimulatedVm:
        """The first VM of that name; raises LookupError."""
        for vm in self.vms.values():
            if vm.name == name:
                return vm
        message = f"cluster {self.name} has no VM named {name}"
        raise LookupError(message)

    def delete_vm_tools_entity(self, vm_uuid: str) -> str:
        """Deletes the entity and the mounted ISO; returns the word of the result."""
        vm = self.vms.get(vm_uuid)
        if vm is None or vm.entity is None:
            return NOT_FOUND
        vm.entity = None
        vm.iso = None
        self._note(Effect.DELETED, vm)
        return NO_ERROR

    def create_vm_tools_entity(self, vm_uuid: str) -> str:
        """Makes a new entity with a new `ngt_uuid`, a new certificate and the default capabilities."""
        vm = self.vms.get(vm_uuid)
        if vm is None:
            return NOT_FOUND
        if vm.controller_vm:
            return NOT_SUPPORTED
        if vm.entity is not None:
            return ALREADY_EXISTS
        ngt_uuid = str(uuid.uuid4())
        vm.entity = SimulatedEntity(ngt_uuid, self._issue(vm, ngt_uuid))
        self._note(Effect.CREATED, vm)
        return NO_ERROR

    def mount_guest_tools(self, vm_uuid: str) -> str:
        """Mounts the ISO with the entity's certificate, which is the old one for as long as the entity lives."""
        vm = self.vms.get(vm_uuid)
        if vm is None or vm.entity is None:
            return NOT_FOUND
        if vm.slot_taken:
            return NO_FREE_CDROM_SLOT
        vm.iso = vm.entity.certificate
        vm.entity.tools_mounted = True
        self._note(Effect.MOUNTED, vm)
        return NO_ERROR

    def refresh_vm_tools_entity(self, vm_uuids: tuple[str, ...], threshold_days: float | None) -> list[str]:
        """Reissues certificates, of **every** VM with an entity where `vm_uuids` is empty; one word for each VM."""
        asked = vm_uuids or tuple(vm.uuid for vm in self.vms.values() if vm.entity is not None)
        return [self._refresh(vm_uuid, threshold_days) for vm_uuid in asked]

    def set_capability(self, vm_uuid: str, name: str, *, enabled: bool) -> str:
        vm = self.vms.get(vm_uuid)
        if vm is None or vm.entity is None:
            return NOT_FOUND
        if getattr(vm.entity, name) is not enabled:
            setattr(vm.entity, name, enabled)
            self._note(Effect.CAPABILITY, vm)
        return NO_ERROR

    def restart_agent(self, vm_uuid: str) -> None:
        """Restarts the agent (or the VM): it copies the files of the mounted ISO, at once or after its delay."""
        vm = self.vms[vm_uuid]
        self._note(Effect.AGENT_RESTARTED, vm)
        if vm.iso is not None:
            vm.pickup_at = self.clock() + vm.pickup_delay_s
        self.settle(vm_uuid)

    def switch_power(self, vm_uuid: str, *, on: bool) -> None:
        """A VM that is switched on starts its agent too."""
        vm = self.vms[vm_uuid]
        was_on, vm.powered_on = vm.powered_on, on
        if on and not was_on:
            self.restart_agent(vm_uuid)

    def communication_link_active(self, vm: SimulatedVm) -> bool:
        if vm.entity is None or not vm.powered_on or not vm.agent_answers:
            return False
        if self.traits.serial_port or vm.link_whatever_the_certificate:
            return True
        mine = vm.installed is not None and vm.installed.ngt_uuid == vm.entity.ngt_uuid
        return mine and vm.installed is not None and vm.installed.not_after > self.clock()

    def settle(self, vm_uuid: str = "") -> None:
        """Carries out the effects that are due, for one VM or all: slow agents pick up, connected agents report."""
        now = self.clock()
        for vm in [self.vms[vm_uuid]] if vm_uuid in self.vms else self.vms.values():
            if vm.pickup_at <= now and vm.powered_on and vm.agent_answers:
                self._pick_up(vm)
            if vm.entity is not None and self.communication_link_active(vm):
                self._report(vm, vm.entity)

    def _pick_up(self, vm: SimulatedVm) -> None:
        vm.pickup_at = _NEVER
        if vm.iso is None:
            return
        vm.installed, vm.iso = vm.iso, None
        if vm.entity is not None and not self.traits.mounted_flag_is_stale:
            vm.entity.tools_mounted = False
        self._note(Effect.PICKED_UP, vm)

    def _report(self, vm: SimulatedVm, entity: SimulatedEntity) -> None:
        told = entity.certificate if self.traits.reported_expiry is ReportedExpiry.ISSUED else vm.installed
        entity.reported_expiry = None if told is None else told.not_after
        entity.reported_os = vm.os

    def _issue(self, vm: SimulatedVm, ngt_uuid: str) -> ClientCertificate:
        """Each certificate of a VM has another date, in whole seconds, as real ones are issued days apart."""
        earlier = max((held.not_before for held in (vm.installed, vm.iso) if held is not None), default=0)
        return issue(ngt_uuid, not_before=max(self.clock(), earlier + 1))

    def _refresh(self, vm_uuid: str, threshold_days: float | None) -> str:
        vm = self.vms.get(vm_uuid)
        if vm is None or vm.entity is None:
            return NOT_FOUND
        left_s = vm.entity.certificate.not_after - self.clock()
        due = threshold_days is None or left_s <= threshold_days * 86_400
        if due and self.traits.refresh is Refresh.REISSUES:
            vm.entity.certificate = self._issue(vm, vm.entity.ngt_uuid)
            self._note(Effect.REISSUED, vm)
            if self.traits.refresh_mounts:
                return self.mount_guest_tools(vm_uuid)
        return NO_ERROR

    def _note(self, effect: Effect, vm: SimulatedVm) -> None:
        self.journal.note(Kind.EFFECT, effect, cluster=self.name, vm_uuid=vm.uuid)


def make_cluster(spec: ClusterSpec, number: int, *, clock: Callable[[], float], journal: Journal) -> SimulatedCluster:
    """A cluster without VMs; `number` distinguishes the clusters of a site."""
    return SimulatedCluster(spec.name, f"00058df6-b289-00c6-0000-{number:012x}", spec.traits, clock, journal)

"""What a cluster does with entities, certificates and ISOs, as KB-8120 and the field have it."""

from dataclasses import replace

import pytest

from app.simulator.certificates import LIFETIME_S
from app.simulator.journal import Journal
from app.simulator.model import SimulatedCluster, SimulatedVm
from app.simulator.spec import Refresh, ReportedExpiry, Traits, VmSpec

DAY_S = 86_400


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cluster(clock: Clock) -> SimulatedCluster:
    made = SimulatedCluster("c1", "00058df6-b289-00c6-0000-000000000001", Traits(), clock, Journal(clock))
    made.add_vm(VmSpec("web01", file_level_restore=True, vss_snapshot=False), addresses=("127.1.0.1",))
    made.add_vm(VmSpec("web02"), addresses=("127.1.0.2",))
    made.add_vm(VmSpec("web01-clone", entity=False, clone_of="web01"), addresses=("127.1.0.3",))
    made.add_vm(VmSpec("controller", controller_vm=True, entity=False), addresses=("127.1.0.4",))
    return made


@pytest.fixture
def vm(cluster: SimulatedCluster) -> SimulatedVm:
    return cluster.vm_named("web01")


def recreate(cluster: SimulatedCluster, vm: SimulatedVm) -> None:
    assert cluster.delete_vm_tools_entity(vm.uuid) == "kNoError"
    assert cluster.create_vm_tools_entity(vm.uuid) == "kNoError"
    assert cluster.mount_guest_tools(vm.uuid) == "kNoError"


def test_a_recreated_entity_has_a_new_uuid_and_a_certificate_for_1000_days(
    cluster: SimulatedCluster, vm: SimulatedVm, clock: Clock
) -> None:
    old = vm.entity
    recreate(cluster, vm)
    assert vm.entity is not None
    assert old is not None
    assert vm.entity.ngt_uuid != old.ngt_uuid
    assert vm.entity.certificate.not_after == clock.now + LIFETIME_S
    assert vm.entity.certificate.serial != old.certificate.serial


def test_a_new_entity_has_the_default_capabilities_whatever_they_were(
    cluster: SimulatedCluster, vm: SimulatedVm
) -> None:
    recreate(cluster, vm)
    assert vm.entity is not None
    assert (vm.entity.vss_snapshot, vm.entity.file_level_restore) == (True, False)


def test_the_guest_has_the_old_certificate_until_its_agent_restarts(cluster: SimulatedCluster, vm: SimulatedVm) -> None:
    recreate(cluster, vm)
    assert vm.entity is not None
    assert vm.installed == vm.first
    assert not cluster.communication_link_active(vm)
    cluster.restart_agent(vm.uuid)
    assert vm.installed == vm.entity.certificate
    assert cluster.communication_link_active(vm)
    assert not vm.entity.tools_mounted


def test_mounting_again_without_a_delete_gives_the_same_old_certificate(
    cluster: SimulatedCluster, vm: SimulatedVm
) -> None:
    cluster.mount_guest_tools(vm.uuid)
    cluster.restart_agent(vm.uuid)
    assert vm.installed == vm.first


def test_switching_a_vm_on_lets_its_agent_pick_up(cluster: SimulatedCluster, vm: SimulatedVm) -> None:
    cluster.switch_power(vm.uuid, on=False)
    recreate(cluster, vm)
    assert vm.installed == vm.first
    cluster.switch_power(vm.uuid, on=True)
    assert vm.installed != vm.first


def test_a_slow_agent_picks_up_after_its_delay(cluster: SimulatedCluster, vm: SimulatedVm, clock: Clock) -> None:
    vm.pickup_delay_s = 30
    recreate(cluster, vm)
    cluster.restart_agent(vm.uuid)
    clock.now += 29
    cluster.settle(vm.uuid)
    assert vm.installed == vm.first
    clock.now += 1
    cluster.settle(vm.uuid)
    assert vm.installed != vm.first


def test_an_agent_that_does_not_come_back_picks_nothing_up(cluster: SimulatedCluster, vm: SimulatedVm) -> None:
    vm.agent_answers = False
    recreate(cluster, vm)
    cluster.restart_agent(vm.uuid)
    assert vm.installed == vm.first
    assert not cluster.communication_link_active(vm)


def test_the_results_of_what_cannot_be_done_are_words_of_the_open_enum(
    cluster: SimulatedCluster, vm: SimulatedVm
) -> None:
    assert cluster.create_vm_tools_entity(vm.uuid) == "kAlreadyExists"
    vm.slot_taken = True
    assert cluster.mount_guest_tools(vm.uuid) == "kNoFreeCdRomSlot"
    cluster.delete_vm_tools_entity(vm.uuid)
    assert cluster.delete_vm_tools_entity(vm.uuid) == "kNotFound"
    assert cluster.mount_guest_tools(vm.uuid) == "kNotFound"
    assert cluster.create_vm_tools_entity(cluster.vm_named("controller").uuid) == "kNotSupported"


def test_a_clone_carries_its_source_and_becomes_active_with_an_entity_of_its_own(
    cluster: SimulatedCluster, vm: SimulatedVm
) -> None:
    clone = cluster.vm_named("web01-clone")
    assert clone.installed == vm.installed
    assert not cluster.communication_link_active(clone)
    cluster.create_vm_tools_entity(clone.uuid)
    cluster.mount_guest_tools(clone.uuid)
    cluster.restart_agent(clone.uuid)
    assert cluster.communication_link_active(clone)
    assert clone.installed != vm.installed


def test_an_expired_certificate_ends_the_link_except_over_a_serial_port(
    cluster: SimulatedCluster, vm: SimulatedVm, clock: Clock
) -> None:
    clock.now += 13 * DAY_S
    assert not cluster.communication_link_active(vm)
    cluster.traits = replace(cluster.traits, serial_port=True)
    assert cluster.communication_link_active(vm)


def test_a_new_entity_reports_no_expiry_until_its_agent_is_heard(cluster: SimulatedCluster, vm: SimulatedVm) -> None:
    recreate(cluster, vm)
    cluster.settle()
    assert vm.entity is not None
    assert vm.entity.reported_expiry is None
    cluster.restart_agent(vm.uuid)
    assert vm.entity.reported_expiry == vm.entity.certificate.not_after


def test_over_a_serial_port_the_agent_still_reports_the_old_expiry(cluster: SimulatedCluster, vm: SimulatedVm) -> None:
    cluster.traits = replace(cluster.traits, serial_port=True)
    recreate(cluster, vm)
    cluster.settle()
    assert vm.entity is not None
    assert vm.first is not None
    assert vm.entity.reported_expiry == vm.first.not_after


def test_a_cluster_can_report_the_issued_certificate_instead(cluster: SimulatedCluster, vm: SimulatedVm) -> None:
    cluster.traits = replace(cluster.traits, serial_port=True, reported_expiry=ReportedExpiry.ISSUED)
    recreate(cluster, vm)
    cluster.settle()
    assert vm.entity is not None
    assert vm.entity.reported_expiry == vm.entity.certificate.not_after


@pytest.mark.parametrize(("refresh", "changes"), [(Refresh.REISSUES, True), (Refresh.CHANGES_NOTHING, False)])
def test_a_refresh_reissues_or_changes_nothing(
    cluster: SimulatedCluster, vm: SimulatedVm, refresh: Refresh, *, changes: bool
) -> None:
    cluster.traits = replace(cluster.traits, refresh=refresh)
    assert cluster.refresh_vm_tools_entity((vm.uuid,), None) == ["kNoError"]
    assert vm.entity is not None
    assert (vm.entity.certificate != vm.first) is changes


def test_a_refresh_without_uuids_reaches_every_vm_and_the_journal_shows_it(
    cluster: SimulatedCluster, vm: SimulatedVm
) -> None:
    cluster.traits = replace(cluster.traits, refresh=Refresh.REISSUES)
    assert cluster.refresh_vm_tools_entity((), None) == ["kNoError", "kNoError"]
    for touched in (vm, cluster.vm_named("web02")):
        assert cluster.journal.effects(touched.uuid) == ["certificate reissued"]


def test_the_journal_counts_the_vms_that_were_without_an_entity(cluster: SimulatedCluster, vm: SimulatedVm) -> None:
    other = cluster.vm_named("web02")
    cluster.delete_vm_tools_entity(vm.uuid)
    cluster.delete_vm_tools_entity(other.uuid)
    cluster.create_vm_tools_entity(vm.uuid)
    assert cluster.journal.peak_without_entity("c1") == 2
    assert cluster.journal.without_entity("c1") == {other.uuid}

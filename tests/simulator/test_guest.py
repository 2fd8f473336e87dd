"""A guest's SSH server: the agent's service and its files, on Linux and on Windows."""

import json

import pytest
from cryptography import x509

from app.simulator.model import SimulatedVm
from app.simulator.site import Site
from tests.simulator.conftest import log_in, run

pytestmark = pytest.mark.asyncio

LINUX = {
    "restart": "sudo systemctl restart ngt_guest_agent",
    "certificate": "sudo cat /usr/local/nutanix/ngt/config/client-cert.pem",
    "config": "sudo cat /usr/local/nutanix/ngt/config/ngt_config.json",
}
WINDOWS = {
    "restart": 'Restart-Service -Name "Nutanix Guest Tools Agent"',
    "certificate": r'type "C:\Program Files\Nutanix\config\client-cert.pem"',
    "config": r'type "C:\Program Files\Nutanix\config\ngt_config.json"',
}
POWERSHELL = {
    "restart": "powershell -NoProfile -Command \"Restart-Service -Name 'Nutanix Guest Tools Agent'\"",
    "certificate": r"powershell -NoProfile -Command "
    "\"Get-Content -Raw 'C:\\Program Files\\Nutanix\\config\\client-cert.pem'\"",
    "config": "powershell -NoProfile -Command "
    "\"Get-Content -Raw 'C:\\Program Files\\Nutanix\\config\\ngt_config.json'\"",
}


def recreate(site: Site, vm: SimulatedVm) -> None:
    cluster = site.cluster_of(vm.uuid)
    cluster.delete_vm_tools_entity(vm.uuid)
    cluster.create_vm_tools_entity(vm.uuid)
    cluster.mount_guest_tools(vm.uuid)


@pytest.mark.parametrize(
    ("name", "commands"),
    [("web01", LINUX), ("Windows Server 2016 Template", WINDOWS), ("Windows Server 2016 Template", POWERSHELL)],
)
async def test_a_guest_shows_its_new_certificate_after_its_agent_was_restarted(
    site: Site, name: str, commands: dict[str, str]
) -> None:
    vm = site.vm_named(name)
    guest = site.guests[vm.uuid]
    recreate(site, vm)
    assert vm.entity is not None
    before = x509.load_pem_x509_certificate(str((await run(site, guest, commands["certificate"])).stdout).encode())
    assert (await run(site, guest, commands["restart"])).exit_status == 0
    after = x509.load_pem_x509_certificate(str((await run(site, guest, commands["certificate"])).stdout).encode())
    assert after.not_valid_after_utc > before.not_valid_after_utc
    assert after.serial_number != before.serial_number
    config = json.loads(str((await run(site, guest, commands["config"])).stdout))
    assert config["ngt_uuid"] == vm.entity.ngt_uuid


async def test_the_commands_of_the_other_system_are_not_found(site: Site) -> None:
    linux = site.guests[site.vm_named("web01").uuid]
    windows = site.guests[site.vm_named("Windows Server 2016 Template").uuid]
    assert (await run(site, linux, WINDOWS["restart"])).exit_status == 127
    assert (await run(site, windows, LINUX["restart"])).exit_status == 1


async def test_whoever_asks_for_the_private_key_is_written_down(site: Site) -> None:
    guest = site.guests[site.vm_named("web01").uuid]
    answer = await run(site, guest, "sudo cat /usr/local/nutanix/ngt/config/client-key.pem")
    assert answer.exit_status == 1
    assert len(site.journal.violations()) == 1


async def test_a_guest_that_is_off_refuses_connections(site: Site) -> None:
    vm = site.vm_named("web01")
    await site.switch_power(vm.uuid, on=False)
    with pytest.raises(ConnectionRefusedError):
        await log_in(site, site.guests[vm.uuid])
    await site.switch_power(vm.uuid, on=True)
    assert (await run(site, site.guests[vm.uuid], LINUX["config"])).exit_status == 0

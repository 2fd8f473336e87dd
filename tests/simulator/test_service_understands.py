"""The service's own eyes on the simulated site: its configuration loads, and the tools' answers are read as facts."""

from pathlib import Path

import asyncssh
import pytest

from app.ngt.tools.entities import find_entities
from app.ngt.tools.ncli_format import read_ncli_records
from app.ngt.tools.ncli_vms import read_vm_listing
from app.ngt.tools.usage import read_usage
from app.settings import load_settings
from app.simulator.site import Site
from app.simulator.spec import Refresh, Traits, uniform_site
from tests.simulator.conftest import run
from tests.ssh.sshd import running_sshd

pytestmark = pytest.mark.asyncio


async def asked(site: Site, command: str) -> str:
    return str((await run(site, site.cvms["c1"][0], f". /etc/profile; {command}")).stdout)


async def test_the_configuration_is_accepted_and_leads_to_every_guest(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(site.settings_toml(max_running=2))
    cluster = load_settings(path, {}).clusters["c1"]
    assert cluster.max_running == 2
    for vm_uuid, host in site.guests.items():
        vm = site.vm(vm_uuid)
        found = cluster.guest_for(vm.name, vm.addresses)
        assert found is not None
        settings, address = found
        assert (address, settings.port, settings.username) == (host.ip, host.port, host.username)
        assert settings.match.os == vm.os.lower()


@pytest.mark.parametrize("command", ["ncli vm ls -json=true", "ncli vm list"])
async def test_both_forms_of_the_listing_are_read(site: Site, command: str) -> None:
    records = read_vm_listing(await asked(site, command))
    vms = site.clusters["c1"].vms
    assert {record.vm_uuid: record.name for record in records} == {vm.uuid: vm.name for vm in vms.values()}


async def test_the_query_lists_exactly_the_vms_with_an_entity(site: Site) -> None:
    entities = find_entities(await asked(site, "nutanix_guest_tools_cli query_vm_tools_entities"), None).entities
    expected = {vm.uuid: vm.entity for vm in site.clusters["c1"].vms.values() if vm.entity is not None}
    assert set(entities) == set(expected)
    for vm_uuid, entity in entities.items():
        known = expected[vm_uuid]
        assert known is not None
        assert entity.ngt_uuid == known.ngt_uuid
        assert entity.client_cert_expiry_date == known.certificate.not_after


async def test_ngt_get_is_read_and_finds_nothing_for_a_clone(site: Site) -> None:
    (record,) = read_ncli_records(await asked(site, f"ncli ngt get vm-id={site.vm_named('web01').uuid}"))
    assert "NGT Enabled" in record
    clone = site.vm_named("web01-clone")
    assert await asked(site, f"ncli ngt get vm-id={clone.uuid}") == "    [None]\n"


async def test_the_usage_names_the_sub_commands_of_the_clis_generation(tmp_path: Path) -> None:
    async with Site.running(uniform_site(vms=1, traits=Traits(refresh=Refresh.REISSUES)), tmp_path) as site:
        usage = await asked(site, "nutanix_guest_tools_cli 2>&1")
    assert {"refresh_vm_tools_entity", "delete_vm_tools_entity", "query_vm_tools_entities"} <= read_usage(usage)


async def test_the_same_tools_answer_behind_a_real_openssh_server(site: Site, tmp_path: Path) -> None:
    vm = site.vm_named("web01")
    force = f"ForceCommand {site.tool_port.forced_command_for('c1-cvm0')}"
    with running_sshd(tmp_path / "sshd", lines=[force]) as sshd:
        async with asyncssh.connect(
            "127.0.0.1",
            sshd.port,
            username=sshd.username,
            client_keys=[str(sshd.key_file)],
            known_hosts=str(sshd.known_hosts),
            config=None,
        ) as connection:
            text = f". /etc/profile; nutanix_guest_tools_cli delete_vm_tools_entity {vm.uuid} 2>/dev/null"
            answer = await connection.run(text)
    assert answer.stdout == "result_vec: kNoError\n"
    assert vm.entity is None
    assert [call.host for call in site.journal.calls("delete_vm_tools_entity")] == ["c1-cvm0"]

"""A site as a whole: how fast it is there, the configuration that it gives, and running in another process."""

import asyncio
import json
import stat
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from app.simulator.control import Control, order
from app.simulator.site import Site
from app.simulator.spec import WAVES, Traits, demo_site, uniform_site
from app.simulator.standalone import CONFIGURATION_FILE, CONTROL_FILE, run_standalone
from tests.simulator.conftest import log_in, run, until

pytestmark = pytest.mark.asyncio


async def test_a_site_with_500_vms_is_there_in_two_seconds(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with Site.running(uniform_site(vms=500), tmp_path) as site:
        assert loop.time() - began < 2
        last = site.vm_named("vm0500")
        answer = await run(site, site.guests[last.uuid], "cat /usr/local/nutanix/ngt/config/ngt_config.json")
        assert answer.exit_status == 0


async def test_the_configuration_names_every_cvm_and_the_way_into_the_guests(site: Site) -> None:
    cluster = tomllib.loads(site.settings_toml())["clusters"]["c1"]
    assert cluster["cvms"] == [cvm.address for cvm in site.cvms["c1"]]
    assert stat.S_IMODE(Path(cluster["key_file"]).stat().st_mode) == 0o600
    assert {guests["match"]["os"] for guests in cluster["guests"]} == {"linux", "windows"}
    assert {guests["port"] for guests in cluster["guests"]} == {site.guests[site.vm_named("web01").uuid].port}


async def test_the_configuration_can_be_changed_for_all_clusters_and_for_one(tmp_path: Path) -> None:
    async with Site.running(uniform_site(vms=1, clusters=2), tmp_path) as site:
        text = site.settings_toml(
            guests=False,
            clusters={"c2": {"restart_agent": "ssh", "commands": {"mount": "ncli ngt mount vm-id={vm_uuid}"}}},
            accept_unverified=True,
        )
    clusters = tomllib.loads(text)["clusters"]
    assert [clusters[name]["restart_agent"] for name in ("c1", "c2")] == ["manual", "ssh"]
    assert all(cluster["accept_unverified"] is True for cluster in clusters.values())
    assert clusters["c2"]["commands"] == {"mount": "ncli ngt mount vm-id={vm_uuid}"}


async def test_two_sites_live_side_by_side(site: Site, tmp_path: Path) -> None:
    async with Site.running(demo_site(), tmp_path / "other") as other:
        for one in (site, other):
            async with await log_in(one, one.cvms["c1"][0]):
                assert one.journal.logins("c1-cvm0") == 1


async def test_an_older_ncli_refuses_the_json_switch(tmp_path: Path) -> None:
    async with Site.running(uniform_site(vms=1, traits=Traits(ncli_json=False)), tmp_path) as site:
        answer = await run(site, site.cvms["c1"][0], ". /etc/profile; ncli vm ls -json=true")
        assert answer.exit_status == 1
        assert str(answer.stdout).startswith("Error: ")


async def test_a_standalone_site_announces_its_configuration_and_takes_orders(tmp_path: Path) -> None:
    announced: list[str] = []
    standing = asyncio.create_task(run_standalone(tmp_path, 2, 1, 1, announced.append))
    try:
        await until(lambda: bool(announced))
        assert (tmp_path / CONFIGURATION_FILE).read_text() == announced[0]
        known = json.loads((tmp_path / CONTROL_FILE).read_text())
        port, vm_uuid = known["control_port"], next(iter(known["vms"]["c1"]))
        await order(port, "vm", vm_uuid=vm_uuid, slot_taken=True, powered_on=False)
        await order(port, "fault", does="refuse", sub_command="delete_vm_tools_entity", words=["kBusy"], times=None)
        await order(port, "host", host="c1-cvm0", gateway_down=True, shell="menu")  # noqa: S604 - No subprocess.
        state = await order(port, "state")
        assert state[vm_uuid]["powered_on"] is False
        assert state[vm_uuid]["renewed"] is False
        assert (await order(port, "summary"))["logins"] == {"c1-cvm0": 0}
        with pytest.raises(RuntimeError, match="no host nowhere"):
            await order(port, "host", host="nowhere", up=False)
    finally:
        standing.cancel()
        await asyncio.gather(standing, return_exceptions=True)


async def test_a_large_site_has_guests_that_expire_in_waves_and_no_server_for_each(tmp_path: Path) -> None:
    traits = Traits(listing_padding_bytes=4500)
    spec = uniform_site(vms=3000, cvms=1, traits=traits, waves=WAVES, guests_reachable=False)
    async with Site.running(spec, tmp_path) as site:
        assert site.guests == {}
        answer = await run(site, site.cvms["c1"][0], ". /etc/profile; ncli vm ls -json=true")
        listing = str(answer.stdout)
        assert len(listing) > 14_000_000
        listed = json.loads(listing)["data"]
    assert len(listed) == 3000
    assert listed[2999]["ipAddresses"] == ["10.1.11.184"]
    expiries = Counter(vm.installed.not_after // 86_400 for vm in site.clusters["c1"].vms.values() if vm.installed)
    assert set(expiries.values()) == {3000 // len(WAVES)}


async def test_the_journal_can_be_read_from_another_process(site: Site) -> None:
    control = Control(site)
    await control.start()
    try:
        await run(site, site.cvms["c1"][0], ". /etc/profile; ncli vm ls")
        calls = await order(control.port, "journal", kind="tool")
        assert [call["sub_command"] for call in calls] == ["vm ls"]
        assert await order(control.port, "journal", kind="tool", after=calls[0]["number"]) == []
        assert (await order(control.port, "summary"))["listings"] == {"c1": 1}
    finally:
        await control.stop()


async def test_the_profile_and_forced_command_serve_another_ssh_server(site: Site) -> None:
    program = site.tool_port.forced_command_for("c1-cvm2")
    process = await asyncio.create_subprocess_exec(
        str(program),
        env={"PATH": "/usr/bin:/bin", "SSH_ORIGINAL_COMMAND": "source /etc/profile; ncli vm list name='会計サーバー'"},
        stdout=asyncio.subprocess.PIPE,
    )
    stdout, _ = await asyncio.wait_for(process.communicate(), 10)
    assert site.vm_named("会計サーバー").uuid in stdout.decode()
    assert site.journal.calls("vm list")[0].host == "c1-cvm2"

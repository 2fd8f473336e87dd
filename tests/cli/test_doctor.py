from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from app.simulator.faults import Shell
from app.simulator.site import Site
from app.simulator.spec import ClusterSpec, SiteSpec, VmSpec
from tests.cli.command import Commands, Ended

# Prints what a CLI without a query prints when it is called without a sub-command.
_CLI_WITHOUT_QUERY = """#!/bin/sh
printf 'Commands:\\n  delete_vm_tools_entity\\n  create_vm_tools_entity\\n  mount_guest_tools\\n'
"""


async def test_a_cluster_in_order_is_called_good_and_left_as_it_is(commands: Commands, site: Site) -> None:
    ended = await commands.run("doctor")
    assert (ended.status, ended.stderr) == (0, "")
    found = ended.stdout.splitlines()
    assert all(line.startswith("ok   ") for line in found)
    for host in site.cvms["c1"]:
        said = [line.partition(f"c1 {host.address}: ")[2] for line in found if host.address in line]
        assert said[:5] == ["reachable", "host key", "login", "bash shell", "tools found"]
        assert "query_vm_tools_entities" in said[5]
    assert "ok   c1: listing: 2 guest VMs" in ended.stdout
    assert "ok   c1: query: 2 VM tools entities" in ended.stdout
    assert "ok   c1: renewals can be proved" in found[-1]
    assert site.journal.changes() == []


async def test_each_failure_is_told_with_its_cause_and_its_next_step(commands: Commands, tmp_path: Path) -> None:
    vms = (VmSpec("web01"),)
    names = ("c1", "tools", "query", "gateway")
    spec = SiteSpec(tuple(ClusterSpec(name, 5 if name == "c1" else 1, vms) for name in names))
    cli = tmp_path / "cli"
    cli.write_text(_CLI_WITHOUT_QUERY)
    cli.chmod(0o755)
    async with Site.running(spec, tmp_path / "site") as site:
        down, wrong_key, refuses, menu, good = site.cvms["c1"]
        await down.down()
        wrong_key.serve_wrong_host_key()
        refuses.faults.login_refused = True
        menu.faults.shell = Shell.MENU
        site.cvms["gateway"][0].faults.gateway_down = True
        commands.configuration.write_text(
            site.settings_toml(
                clusters={
                    "tools": {"commands": {"create": "/opt/nowhere/cli create {vm_uuid}"}},
                    "query": {"commands": {"delete": f"{cli} delete_vm_tools_entity {{vm_uuid}}"}},
                    "gateway": {"mode": "refresh"},
                }
            )
        )
        ended = await commands.run("doctor")
        where = {name: f"{name} {site.cvms[name][0].address}" for name in names}
    assert (ended.status, ended.stderr) == (1, "")
    told = dict(_failures(ended))

    cause, step = told[f"c1 {down.address}"]
    assert cause.startswith("reachable: could not connect to")
    assert "Connection refused" in cause
    assert "SSH must get through" in step

    cause, step = told[f"c1 {wrong_key.address}"]
    assert cause.startswith("host key: ")
    assert f"`ngt-renewal hosts scan {wrong_key.address}`" in step
    assert f"--known-hosts {site.known_hosts_path}`" in step

    cause, step = told[f"c1 {refuses.address}"]
    assert cause.startswith("login: ")
    assert "refused the login of 'nutanix'" in cause
    assert "Cluster Lockdown" in step

    cause, step = told[f"c1 {menu.address}"]
    assert cause.startswith("bash shell: bash access is disabled")
    assert "KB-19114" in step

    cause, step = told[where["tools"]]
    assert cause == f"tools found: /opt/nowhere/cli not found on {site.cvms['tools'][0].address}"
    assert "[clusters.tools.commands]" in step

    cause, step = told[where["query"]]
    assert "no sub-command that lists VM tools entities" in cause
    assert "`query` in [clusters.query.commands]" in step

    cause, step = told["gateway"]
    assert "listing: " in cause
    assert "Prism service" in step
    cause, step = told[where["gateway"]]
    assert "refresh_vm_tools_entity" in cause
    assert 'mode = "recreate"' in step

    # What works is told too, and one good CVM is enough to go on with its cluster.
    assert f"c1 {good.address}" not in told
    assert f"ok   c1 {menu.address}: login" in ended.stdout
    assert f"ok   c1: listing: 1 guest VMs, by {good.address}" in ended.stdout
    assert "ok   c1: renewals can be proved" in ended.stdout


def _failures(ended: Ended) -> Iterator[tuple[str, tuple[str, str]]]:
    """Where, what, and the next step on the line after it."""
    lines = ended.stdout.splitlines()
    for line, after in pairwise(lines):
        if line.startswith("BAD  "):
            assert after.startswith("     -> "), line
            where, _, cause = line.removeprefix("BAD  ").partition(": ")
            yield where, (cause, after.removeprefix("     -> "))


@pytest.mark.parametrize(
    ("configuration", "sentence"),
    [
        ("", "No cluster is configured; add a [clusters.<name>] table to the configuration file."),
        ("[clusters.c1", "is not valid TOML in UTF-8"),
    ],
)
async def test_without_a_usable_configuration_there_is_nothing_to_look_at(
    commands: Commands, configuration: str, sentence: str
) -> None:
    commands.configuration.write_text(configuration)
    ended = await commands.run("doctor")
    assert (ended.status, ended.stdout) == (1, "")
    assert sentence in ended.stderr
    assert len(ended.stderr.splitlines()) == 1

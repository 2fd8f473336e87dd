"""Ansible beside it, where it is installed: the same texts by its shell module, 8 forks, pipelining on."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from app.ngt.tools.change_command import ToolCall, build_change
from app.ngt.tools.command_lines import Tools, for_vm
from app.ngt.tools.query_commands import query_entities
from app.settings import ClusterSettings, split_address
from tests.bench.site import running_bench_site

_FORKS = 8
_VMS = 40
_LIMIT_S = 600.0


def measure_ansible(folder: Path) -> str:
    """A sentence for the page. Only the part on the CVM: the simulated guests have no Python for its modules."""
    program = shutil.which("ansible-playbook", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        return "Ansible was not measured: `ansible-core` is not installed."
    with running_bench_site(folder, clusters=1, vms=_VMS) as site:
        settings = site.settings_of("c1")
        (folder / "inventory.json").write_text(json.dumps(_inventory(settings, site.vms["c1"])))
        (folder / "play.json").write_text(json.dumps(_play()))
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(folder),
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_FORKS": str(_FORKS),
            "ANSIBLE_LOCAL_TEMP": str(folder / "ansible"),
            "LC_ALL": "C.UTF-8",
        }
        command = [program, "-i", str(folder / "inventory.json"), str(folder / "play.json")]
        begun_s = time.monotonic()
        played = subprocess.run(
            command, env=environment, cwd=folder, capture_output=True, text=True, check=False, timeout=_LIMIT_S
        )
        seconds = time.monotonic() - begun_s
    if played.returncode != 0:
        raise RuntimeError(f"ansible-playbook ended with {played.returncode}:\n{played.stdout[-2000:]}{played.stderr}")
    return (
        f"Ansible, {_FORKS} forks and pipelining, the texts for the CVM alone (no guest, no proof): "
        f"{_VMS / seconds:.1f} renewals/s."
    )


def _inventory(settings: ClusterSettings, vm_uuids: list[str]) -> dict[str, Any]:
    address, port = split_address(settings.cvms[0])
    tools = Tools(**settings.commands.overrides()).with_query_of(frozenset({"query_vm_tools_entities"}))
    hosts = {uuid: {f"text_{number}": text for number, text in enumerate(_texts(tools, uuid))} for uuid in vm_uuids}
    shared = {
        "ansible_host": address,
        "ansible_port": port,
        "ansible_user": settings.username,
        "ansible_ssh_private_key_file": str(settings.key_file),
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={settings.known_hosts} -o ControlMaster=auto "
        "-o ControlPersist=60s -o ControlPath=%d/control",
        "ansible_python_interpreter": sys.executable,
    }
    return {"all": {"hosts": hosts, "vars": shared}}


def _texts(tools: Tools, vm_uuid: str) -> list[str]:
    def call(name: str, line: str, *, needs_previous: bool = False) -> ToolCall:
        return ToolCall(name, for_vm(line, vm_uuid), 60, needs_previous)  # type: ignore[arg-type]  # A VM's UUID.

    marker, not_after_s = "ngtr-0123456789abcdef0123", int(time.time()) + int(_LIMIT_S)
    recreate = (call("delete", tools.delete), call("create", tools.create, needs_previous=True))
    look = query_entities(tools, 90).text
    return [
        look,
        build_change("recreate_entity", tools, recreate, marker=marker, not_after_s=not_after_s).text,
        look,
        build_change("mount_iso", tools, (call("mount", tools.mount),), marker=marker, not_after_s=not_after_s).text,
        look,
    ]


def _play() -> list[dict[str, Any]]:
    tasks = [
        {
            "name": f"text {number}",
            "ansible.builtin.shell": f"{{{{ text_{number} }}}}",
            "args": {"executable": "/bin/bash"},
        }
        for number in range(5)
    ]
    return [{"hosts": "all", "gather_facts": False, "tasks": tasks}]

"""The look before a change that tells if the agent's restart can succeed."""

import subprocess
from pathlib import Path

import pytest

from app.ngt.tools.guest_restart import WINDOWS_RESTART, restart_check

_CHECKS = {
    "sudo systemctl restart ngt_guest_agent": (
        "systemctl cat ngt_guest_agent >/dev/null && sudo -n -l systemctl restart ngt_guest_agent >/dev/null"
    ),
    "systemctl restart ngt_guest_agent.service": "systemctl cat ngt_guest_agent.service >/dev/null",
    "sudo -n service ngt_guest_agent restart": "sudo -n -l service ngt_guest_agent restart >/dev/null",
    "sudo sh -c 'systemctl restart a; sleep 1'": None,
    "/opt/restart-agent": None,
    "Restart-Service -Name 'My Agent'": (
        "powershell -NoProfile -NonInteractive -Command \"if (-not (Get-Service -Name 'My Agent' -ErrorAction "
        "SilentlyContinue)) { throw 'Cannot find any service with service name My Agent.' }\""
    ),
}


@pytest.mark.parametrize("restart", _CHECKS)
@pytest.mark.field("B6")
def test_the_look_follows_from_the_restart_and_changes_nothing(restart: str) -> None:
    assert restart_check(restart) == _CHECKS[restart]


@pytest.mark.field("B6")
def test_either_name_of_the_windows_service_is_restarted_and_looked_for() -> None:
    check = restart_check(WINDOWS_RESTART)
    assert check is not None
    for text in (WINDOWS_RESTART, check):
        assert "'Nutanix Guest Tools Agent','Nutanix Guest Agent'" in text
        # PowerShell as the login shell would replace it.
        assert "$" not in text
    assert "Restart-Service" not in check


@pytest.mark.parametrize(("allowed", "exists"), [(True, True), (False, True), (True, False)])
@pytest.mark.field("B6")
def test_a_shell_tells_by_it_if_the_restart_can_succeed(tmp_path: Path, *, allowed: bool, exists: bool) -> None:
    for name, status in (("sudo", not allowed), ("systemctl", not exists)):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >>"{tmp_path}/asked"\nexit {int(status)}\n')
        program.chmod(0o755)
    check = restart_check("sudo systemctl restart ngt_guest_agent")
    assert check is not None
    ended = subprocess.run(["/bin/sh", "-c", check], env={"PATH": str(tmp_path)}, check=False)
    assert (ended.returncode == 0) is (allowed and exists)
    assert (tmp_path / "asked").read_text().startswith("systemctl cat ngt_guest_agent\n")

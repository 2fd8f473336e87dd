"""The restart of the agent in a guest, and a look that tells before any change if that restart can succeed.

The texts for Windows work in cmd.exe and in PowerShell, whichever the guest's SSH server starts: they have no `$`.
"""

import re

WINDOWS_SERVICES = ("Nutanix Guest Tools Agent", "Nutanix Guest Agent")
"""The names of the agent's service, in the order of their age. A guest has one of them."""

_POWERSHELL = "powershell -NoProfile -NonInteractive -Command"
_SYSTEMCTL = re.compile(r"(?P<sudo>sudo (?:-n )?)?(?:/usr)?(?:/s?bin/)?systemctl restart (?P<unit>[\w@.\\-]+)")
_SUDO = re.compile(r"sudo (?:-n )?(?P<command>[\w./@-]+(?: [\w./@:=-]+)*)")
_WINDOWS_NAME = re.compile(r"'([^'\"$`]+)'")


def _services(names: tuple[str, ...] | list[str]) -> str:
    listed = ",".join(f"'{name}'" for name in names)
    return f"(Get-Service -Name {listed} -ErrorAction SilentlyContinue)"


WINDOWS_RESTART = f'{_POWERSHELL} "Restart-Service -Name {_services(WINDOWS_SERVICES)}.Name -ErrorAction Stop"'
"""Without either service the name is empty, which PowerShell refuses."""


def restart_check(restart_command: str) -> str | None:
    """A command that changes nothing and fails where the restart would: no such service, or sudo does not allow it.

    None for a restart of another form.
    """
    if unit := _SYSTEMCTL.fullmatch(restart_command):
        exists = f"systemctl cat {unit['unit']} >/dev/null"
        return f"{exists} && {_allowed(restart_command)}" if unit["sudo"] else exists
    if _SUDO.fullmatch(restart_command):
        return _allowed(restart_command)
    if "Restart-Service" in restart_command and (names := _WINDOWS_NAME.findall(restart_command)):
        missing = f"Cannot find any service with service name {' or '.join(names)}."
        return f"{_POWERSHELL} \"if (-not {_services(names)}) {{ throw '{missing}' }}\""
    return None


def _allowed(restart_command: str) -> str:
    """Asks sudo for the rule that allows the command; `-n` makes it fail where it would ask for a password."""
    return f"sudo -n -l {restart_command.removeprefix('sudo ').removeprefix('-n ')} >/dev/null"

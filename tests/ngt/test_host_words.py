"""The real texts of OpenSSH, PAM, sudo, systemd, Windows and ncli, and what is told of each."""

import pytest

from app.ngt.errors import FaultCode
from app.ngt.host_words import find_known, tell

_EXPIRED = "password of the account has expired"
_STARTING = "starting or stopping"
_SUDO_PASSWORD = "sudo asks for a password"
_NO_SERVICE = "no service of that name"

TEXTS = {
    # OpenSSH's session.c, and PAM.
    "Password change required but no TTY available.\n": _EXPIRED,
    "WARNING: Your password has expired.\nPassword change required but no TTY available.\n": _EXPIRED,
    "You are required to change your password immediately (administrator enforced).\n": _EXPIRED,
    "You are required to change your password immediately (root enforced)\n": _EXPIRED,
    "Your account has expired; please contact your system administrator.\n": "account has expired",
    '"System is booting up. Unprivileged users are not permitted to log in yet. Please come back later. For technical '
    'details, see pam_nologin(8)."\n': _STARTING,
    "System is going down. Unprivileged users are not permitted to log in anymore.\n": _STARTING,
    "The account is locked due to 3 failed logins.\n(10 minutes left to unlock)\n": "locked",
    "This account is currently not available.\n": "no login shell",
    "Too many authentication failures": "more keys or passwords",
    "Not allowed at this time": "refuses this service's address",
    # sudo.
    "sudo: a terminal is required to read the password; either use the -S option to read from standard input or "
    "configure an askpass helper\nsudo: a password is required\n": _SUDO_PASSWORD,
    "sudo: no tty present and no askpass program specified\n": _SUDO_PASSWORD,
    "sudo: a password is required\n": _SUDO_PASSWORD,
    "sudo: sorry, you must have a tty to run sudo\n": "only on a terminal",
    "ngt is not in the sudoers file.\nThis incident has been reported to the administrator.\n": "does not allow",
    "Sorry, user ngt is not allowed to execute '/usr/bin/systemctl restart ngt_guest_agent' as root on web01.\n": (
        "does not allow"
    ),
    "sudo: unable to resolve host web01: Name or service not known\nsudo: a password is required\n": _SUDO_PASSWORD,
    "sudo: Account or password is expired, reset your password and try again\n": _EXPIRED,
    "sudo: account validation failure, is your account locked?\n": "account has expired",
    "bash: line 1: sudo: command not found\n": "no sudo",
    # systemd and its like.
    "Failed to restart ngt_guest_agent.service: Unit ngt_guest_agent.service not found.\n": _NO_SERVICE,
    "Unit ngt_guest_agent.service could not be found.\n": _NO_SERVICE,
    "ngt_guest_agent: unrecognized service\n": _NO_SERVICE,
    "Failed to restart ngt_guest_agent.service: Unit ngt_guest_agent.service is masked.\n": "masked",
    "Failed to restart ngt_guest_agent.service: Interactive authentication required.\n": "only to root",
    "Job for ngt_guest_agent.service failed because the control process exited with error code.\n": "did not start",
    "sudo: systemctl: command not found\n": "does not run systemd",
    "System has not been booted with systemd as init system (PID 1). Can't operate.\n": "does not run systemd",
    # Windows.
    "Restart-Service : Cannot find any service with service name 'Nutanix Guest Tools Agent'.\n": _NO_SERVICE,
    "[SC] EnumQueryServicesStatus:OpenService FAILED 1060:\n\nThe specified service does not exist as an installed "
    "service.\n": _NO_SERVICE,
    "The service name is invalid.\n\nMore help is available by typing NET HELPMSG 2185.\n": _NO_SERVICE,
    "Restart-Service : Service 'Nutanix Guest Agent (Nutanix Guest Agent)' cannot be stopped due to the following "
    "error: Cannot open Nutanix Guest Agent service on computer '.'.\n": "may not do this",
    "System error 5 has occurred.\n\nAccess is denied.\n": "may not do this",
    "'sudo' is not recognized as an internal or external command,\noperable program or batch file.\n": "no sudo",
    "systemctl : The term 'systemctl' is not recognized as the name of a cmdlet": "Windows machine",
    "bash: line 1: powershell: command not found\n": "not a Windows machine",
    "cat: /usr/local/nutanix/ngt/config/client-cert.pem: Permission denied\n": "may not do this",
    # CVMs.
    "Error: Could not connect to Nutanix Gateway\n": "service of Nutanix",
    "rbash: line 1: /dev/null: restricted: cannot redirect output\n": "restricted shell",
    "Nutanix Controller VM\nBash access is disabled on this CVM.\n  1) acli\n  2) ncli\n": "restricted shell",
    "bash: fork: Cannot allocate memory\n": "lacks memory",
    "cat: write error: No space left on device\n": "lacks memory",
}


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.field("B4")
def test_a_text_of_a_host_is_told_with_its_meaning_and_what_to_do(text: str) -> None:
    told = tell(text)
    assert TEXTS[text] in told
    assert ". For the " in told
    assert " ".join(text.split())[:60] in told
    assert told.endswith(".")
    assert tell("Last login: today\n" * 200 + text).endswith(told[-100:])


@pytest.mark.field("B4")
def test_a_text_that_is_not_known_is_told_as_it_is_and_without_secrets() -> None:
    assert find_known("Nutanix Controller VM\nhow do you do\n") is None
    assert tell("password=hunter2 \x1b[2J\n" + "x" * 1000).startswith("it says: password=*** \ufffd[2J xxx")
    assert tell(" ", nothing="it said nothing, status 3") == "it said nothing, status 3"


@pytest.mark.field("B4", "B5")
def test_a_state_that_passes_is_not_a_refused_login() -> None:
    starting = find_known("System is booting up. See pam_nologin(8)")
    expired = find_known("Password change required but no TTY available.")
    assert starting is not None
    assert expired is not None
    assert (starting.passes, starting.refuses_login) == (True, False)
    assert (expired.passes, expired.code) == (False, FaultCode.SSH_AUTH_FAILED)

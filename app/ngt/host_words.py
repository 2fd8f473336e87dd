"""The meaning of texts of OpenSSH, PAM, sudo, systemd, Windows and ncli, who acts, and what to do.

The first row of `KNOWN_TEXTS` that is found in a text counts. Rows with `passes` describe a state that ends without a
person, so the host is asked again.
"""

import re
from dataclasses import dataclass

from app.ngt.errors import Actor, FaultCode
from app.ngt.masking import mask
from app.ngt.printable import printable
from app.ngt.sentences import full_stop

_SHOWN_CHARACTERS = 300
# The calls of a traceback of Python or Java; the line after them tells the cause.
_STACK = re.compile(r"(?<=\(most recent call last\):\n)(?:[ \t][^\n]*\n)+|^\s+at [\w.$]+\([^\n]*\n?", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class KnownText:
    """`code`: the fault that the text is wherever it comes from; None: that of the step that met it."""

    pattern: re.Pattern[str]
    meaning: str
    actor: Actor
    action: str
    passes: bool = False
    code: FaultCode | None = None

    @property
    def refuses_login(self) -> bool:
        """The account may do nothing on the machine, although its key or password may be right."""
        return self.code is FaultCode.SSH_AUTH_FAILED


def _row(
    pattern: str,
    meaning: str,
    actor: Actor,
    action: str,
    *,
    passes: bool = False,
    code: FaultCode | None = None,
) -> KnownText:
    compiled = re.compile(pattern, re.IGNORECASE | re.MULTILINE)
    return KnownText(compiled, meaning, actor, action, passes, code)


_CALLER, _SERVICE, _CLUSTER = Actor.CALLER, Actor.SERVICE_OPERATOR, Actor.CLUSTER_OPERATOR

KNOWN_TEXTS = (
    _row(
        r"system is booting up|not permitted to log in (?:yet|anymore)|system is going down|pam_nologin",
        "the machine is starting or stopping and lets no ordinary user in",
        _CALLER,
        "wait until it has started; the service tries again",
        passes=True,
    ),
    _row(
        r"account is (?:temporarily )?locked|account locked due to|minutes? left to unlock|locked out",
        "the account is locked after failed logins",
        _SERVICE,
        "unlock it (`faillock --user NAME --reset`, on Windows `net user NAME /active:yes`)",
        code=FaultCode.SSH_AUTH_FAILED,
    ),
    _row(
        r"password change required|password has expired|required to change your password|account or password is expired"
        r"|password (?:is|has) expired|must change your password|password must be changed",
        "the password of the account has expired, so that it may do nothing else",
        _SERVICE,
        "change the password, or end its expiry with `chage -M -1 NAME`; a login by key needs this too",
        code=FaultCode.SSH_AUTH_FAILED,
    ),
    _row(
        r"account has expired|account expired|account validation failure|account is disabled|account has been disabled",
        "the account has expired or is disabled",
        _SERVICE,
        "enable it (`chage -E -1 NAME`, on Windows `net user NAME /active:yes`), or use another account",
        code=FaultCode.SSH_AUTH_FAILED,
    ),
    _row(
        r"account is currently not available|^/\S*nologin\b",
        "the account has no login shell",
        _SERVICE,
        "give the account a shell with `usermod -s /bin/bash NAME`, or use another account",
        code=FaultCode.SSH_AUTH_FAILED,
    ),
    _row(
        r"not allowed at this time|exceeded maxstartups|too many connections|maxstartups",
        "its SSH server refuses this service's address or is too busy for now",
        _SERVICE,
        "wait; if it goes on, exempt this service's address (`PerSourcePenaltyExemptList`) or raise `MaxStartups`",
        passes=True,
    ),
    _row(
        r"too many authentication failures",
        "more keys or passwords were tried than its SSH server allows",
        _SERVICE,
        "see that `username` and `key_file` are the right ones",
        code=FaultCode.SSH_AUTH_FAILED,
    ),
    _row(
        r"must have a tty to run sudo",
        "its sudo works only on a terminal (`requiretty`), and this service has none",
        _CALLER,
        "add `Defaults:NAME !requiretty` to the sudoers file of the machine",
    ),
    _row(
        r"not in the sudoers file|is not allowed to (?:execute|run)|may not run sudo",
        "sudo does not allow this command to the account",
        _CALLER,
        "allow it with a line of sudoers such as `NAME ALL=(root) NOPASSWD: COMMAND`",
    ),
    _row(
        r"password is required|terminal is required to (?:read the password|authenticate)|no tty present and no askpass"
        r"|interactive authentication is required",
        "sudo asks for a password, and this service gives none",
        _CALLER,
        "allow the command without a password, with a line of sudoers such as `NAME ALL=(root) NOPASSWD: COMMAND`",
    ),
    _row(
        r"interactive authentication required|access denied as the requested operation requires",
        "systemd allows the restart only to root",
        _CALLER,
        "begin the command with `sudo`, and allow it in sudoers",
    ),
    _row(
        r"sudo: (?:command )?not found|'sudo' is not recognized|term 'sudo' is not recognized|sudo: no such file",
        "the machine has no sudo",
        _SERVICE,
        'write the commands of this `guests` table without it, or set `match.os = "windows"` for a Windows guest',
    ),
    _row(
        r"'(?:systemctl|service|cat|command|test)' is not recognized|term '(?:systemctl|cat)' is not recognized",
        "the guest is a Windows machine, and the commands are those of Linux",
        _SERVICE,
        'set `match.os = "windows"` in a `guests` table for it',
    ),
    _row(
        r"powershell: (?:command )?not found|type: c:\\program files",
        "the guest is not a Windows machine, and the commands are those of Windows",
        _SERVICE,
        'set `match.os = "linux"` in a `guests` table for it',
    ),
    _row(
        r"unit \S+ not found|unit \S+ could not be found|unrecognized service|no such service|unit not found"
        r"|cannot find any service with service name|service does not exist as an installed service"
        r"|service name is invalid|argument on parameter 'name'|no files found for \S+\.service"
        r"|failed to get unit file state",
        "the guest has no service of that name",
        _CALLER,
        "install NGT in the VM, or correct `restart_command` of its `guests` table",
    ),
    _row(
        r"unit \S+ is masked",
        "the service is masked, so that nothing can start it",
        _CALLER,
        "run `systemctl unmask` for it in the VM",
    ),
    _row(
        r"service cannot be started.*disabled|because it is disabled|start type.*disabled",
        "the service is disabled",
        _CALLER,
        "set its start type to automatic in the VM",
    ),
    _row(
        r"not been booted with systemd|systemctl: (?:command )?not found",
        "the guest does not run systemd",
        _SERVICE,
        "set `restart_command` of its `guests` table, such as `sudo service ngt_guest_agent restart`",
    ),
    _row(
        r"job for \S+ failed|control process exited with error|failed to start due to|cannot be started due to"
        r"|failed to start service|did not respond to the start|service could not be started",
        "the service did not start",
        _CALLER,
        "read its own log in the VM (`journalctl -u ngt_guest_agent`, on Windows the event log)",
    ),
    _row(
        r"cannot open \S+.* service on computer|system error 5 has occurred|openservice failed 5|access is denied"
        r"|access denied|permission denied|operation not permitted",
        "the account may not do this",
        _CALLER,
        "let the account do it: with sudo on Linux, as a member of Administrators on Windows",
    ),
    _row(
        r"cannot allocate memory|resource temporarily unavailable|outofmemoryerror|out of memory"
        r"|no space left on device|read-only file system|input/output error",
        "the machine lacks memory, processes or disk",
        _CLUSTER,
        "free what it lacks; the service tries again",
        passes=True,
    ),
    _row(
        r"bad credentials|invalid credentials|authentication failed|invalid username or password|session has expired",
        "ncli could not log in to Prism on its own CVM",
        _CLUSTER,
        "run the command by hand on the CVM, and repair the login of ncli there",
    ),
    _row(
        r"could not connect to nutanix gateway|connection refused",
        "a service of Nutanix on that machine does not answer",
        _CLUSTER,
        "check the services of the cluster (`cluster status`)",
        passes=True,
    ),
    _row(
        r"bash (?:access|shell)\b.*(?:disabled|restricted|denied)|: restricted\b|restricted shell"
        r"|^\s*1[.)] +\S+[^\n]*\n\s*2[.)] +\S",
        "the account gets a menu or a restricted shell, not bash",
        _CLUSTER,
        "allow a bash shell for this service's user on the CVMs; see KB-19114",
        code=FaultCode.CVM_SHELL_DISABLED,
    ),
)


def find_known(text: str) -> KnownText | None:
    """The row that explains a host's text."""
    return next((known for known in KNOWN_TEXTS if known.pattern.search(text)), None)


def tell(text: str, known: KnownText | None = None, *, nothing: str = "it said nothing") -> str:
    """The host's own words, masked and on one line; and what they mean, who acts and what to do, where it is known."""
    known = known or find_known(text)
    text = _STACK.sub("", text)
    words = " ".join(mask(text).split())
    if known is None:
        return f"it says: {printable(words, _SHOWN_CHARACTERS)}" if words else nothing
    found = known.pattern.search(words) or known.pattern.search(text)
    # A login prints much before the words that count.
    begin = max(0, (found.start() if found else 0) - _SHOWN_CHARACTERS // 2)
    quoted = printable(words[begin:], _SHOWN_CHARACTERS)
    return full_stop(f"it says: {quoted} - {known.meaning}. For the {known.actor}: {known.action}")

"""The files of a login, as people have them: saved on Windows, merged by hand, of the wrong kind."""

import getpass
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import asyncssh
import structlog

from app.settings import ClusterSettings, GuestSettings, Settings
from app.settings.text_files import decode_text, read_text_file

_log = structlog.get_logger(__name__)

# By the begin of the file: what it is instead of a private key, and what to do.
_OTHER_KINDS = (
    (re.compile(r"\s*\Z"), "it is empty"),
    (
        re.compile(r"PuTTY-User-Key-File"),
        "it is a key of PuTTY: convert it with `puttygen {path} -O private-openssh -o NEW_FILE`",
    ),
    (
        re.compile(r"(ssh|ecdsa|sk-ssh|sk-ecdsa)-\S+ \S|---- BEGIN SSH2 PUBLIC KEY|-----BEGIN (\w+ )*PUBLIC KEY"),
        "it is a public key: name the file of the private key, which seldom ends in .pub",
    ),
    (re.compile(r"-----BEGIN CERTIFICATE"), "it is a certificate: name the file of the private key"),
)
_ENCRYPTED = (
    "it is encrypted and the service cannot ask for its passphrase: make a key without one, or remove it with "
    "`ssh-keygen -p -N '' -f {path}`"
)


class KeyRefusedError(ValueError):
    """The file holds no private key that can be used; the message says which kind of file it is."""


def read_keys(path: Path) -> list[asyncssh.SSHKeyPair]:
    """The private keys of the file, with the certificate beside it. Raises OSError and KeyRefusedError."""
    content = path.read_bytes()
    try:
        text = decode_text(content)
    except ValueError:
        # A key in DER is not text.
        text = ""
    for kind, said in _OTHER_KINDS:
        if content.strip() and not text:
            break
        if kind.match(text):
            raise KeyRefusedError(said.format(path=path))
    try:
        if not text or text.encode() == content:
            return list(asyncssh.load_keypairs(str(path)))
        certificate = Path(f"{path}-cert.pub")
        certificates = [str(certificate)] if certificate.exists() else []
        return list(asyncssh.load_keypairs(text.encode(), certlist=certificates))
    except asyncssh.KeyEncryptionError:
        raise KeyRefusedError(_ENCRYPTED.format(path=path)) from None
    except (asyncssh.KeyImportError, ValueError) as wrong:
        is_encrypted = "assphrase" in str(wrong)
        raise KeyRefusedError(
            _ENCRYPTED.format(path=path) if is_encrypted else f"it holds no private key ({wrong})"
        ) from None


class KnownHosts:
    """The host keys of a `known_hosts` file. `unread`: the numbers of the lines that are none."""

    def __init__(self, path: Path) -> None:
        good, unread = [], []
        for number, line in enumerate(read_text_file(path).split("\n"), 1):
            if _is_entry_or_comment(line.strip()):
                good.append(line)
            else:
                unread.append(number)
        self.keys = asyncssh.import_known_hosts("\n".join(good))
        self.unread = tuple(unread)


def remark_on_known_hosts(path: Path) -> str:
    """Such as `; line 3 of it is not a host key`, or nothing."""
    try:
        unread = read_known_hosts(path).unread
    except (OSError, ValueError):
        return ""
    shown = ", ".join(map(str, unread[:5])) + (", …" if unread[5:] else "")
    return f"; lines of it that are not host keys: {shown}" if unread else ""


def read_known_hosts(path: Path) -> KnownHosts:
    """Good lines count, whatever stands in the others. Raises OSError and ValueError."""
    stat = path.stat()
    return _read_known_hosts(path, (stat.st_ino, stat.st_mtime_ns, stat.st_size))


@lru_cache(maxsize=64)
def _read_known_hosts(path: Path, _version: tuple[int, int, int]) -> KnownHosts:
    """Read once for each version of the file: with the keys of many guests it takes longer than a login."""
    read = KnownHosts(path)
    if read.unread:
        _log.warning("a known_hosts file has lines that are not host keys", file=str(path), lines=list(read.unread))
    return read


def _is_entry_or_comment(line: str) -> bool:
    if not line or line.startswith("#"):
        return True
    marked = line.startswith("@")
    if marked and line.split(None, 1)[0] not in {"@cert-authority", "@revoked"}:
        return False
    _, _, key = (line.partition(" ")[2].lstrip() if marked else line).replace("\t", " ").partition(" ")
    try:
        asyncssh.import_public_key(key.strip())
    except ValueError:
        return False
    return True


def find_unusable_login_files(settings: Settings) -> Iterator[str]:
    """A sentence for each key file and known_hosts file that no login can use."""
    accesses: list[tuple[str, ClusterSettings | GuestSettings]] = []
    for name, cluster in settings.clusters.items():
        accesses.append((f"clusters.{name}", cluster))
        accesses += [(f"clusters.{name}.guests[{number}]", guest) for number, guest in enumerate(cluster.guests)]
    for where, access in accesses:
        for setting, path, read in (
            ("key_file", access.key_file, read_keys),
            ("known_hosts", access.known_hosts, read_known_hosts),
        ):
            try:
                read(path)
            except OSError as wrong:
                yield f"`{where}.{setting}` is refused: {path} cannot be read: {wrong.strerror}."
            except ValueError as wrong:
                yield f"`{where}.{setting}` is refused: {path} cannot be used: {wrong}."


def ensure_local_user() -> None:
    """Give a user that is only a number a name and a home: asyncssh asks for both, and uses neither of them here."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = f"user-{os.getuid()}"
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = "/nonexistent"

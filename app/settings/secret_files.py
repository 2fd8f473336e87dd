"""Secrets stand in files that nobody else can read, and are read when they are needed.

So they are in no setting, and a file that is written anew counts from the next use on, without a restart.
"""

import base64
import binascii
import os
import stat
from pathlib import Path

_MAX_BYTES = 8192
_SIGNING_PREFIX = "whsec_"
# The limits of Standard Webhooks for a secret.
_MIN_KEY_BYTES, _MAX_KEY_BYTES = 24, 64


class SecretRefusedError(Exception):
    """The file holds no secret that can be used; the message says why, and never what stands in it."""


def read_secret_file(path: Path) -> str:
    """The one line of the file, without the white space around it. Raises SecretRefusedError."""
    try:
        with path.open("rb") as opened:
            found = os.fstat(opened.fileno())
            content = opened.read(_MAX_BYTES + 1)
    except OSError as wrong:
        raise SecretRefusedError(f"{path} cannot be read: {os.strerror(wrong.errno or 0)}") from None
    if is_open_to_others(found):
        raise SecretRefusedError(f"{path} can be read by others; run `chmod 600 {path}`")
    try:
        secret = content.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise SecretRefusedError(f"{path} is not in UTF-8") from None
    if not secret or len(content) > _MAX_BYTES or not secret.isprintable():
        raise SecretRefusedError(f"{path} does not hold one line with a secret")
    return secret


def read_header_file(path: Path) -> str:
    """As `read_secret_file`, for what goes into a header as it is."""
    secret = read_secret_file(path)
    if not secret.isascii():
        raise SecretRefusedError(f"{path} holds what cannot stand in a header: use ASCII")
    return secret


def read_signing_file(path: Path) -> str:
    """As `read_secret_file`, for a secret of Standard Webhooks: `whsec_` and 24 to 64 bytes in base64."""
    secret = read_secret_file(path)
    try:
        key = base64.b64decode(secret.removeprefix(_SIGNING_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not secret.startswith(_SIGNING_PREFIX) or not _MIN_KEY_BYTES <= len(key) <= _MAX_KEY_BYTES:
        raise SecretRefusedError(f"{path} holds no secret for signing: it is `whsec_` and 24 to 64 bytes in base64")
    return secret


def is_open_to_others(found: os.stat_result) -> bool:
    """As OpenSSH has it: a group may read a file of somebody else, since that is how clusters mount secrets."""
    forbidden = stat.S_IRWXO | (stat.S_IRWXG if found.st_uid == os.geteuid() else 0)
    return bool(found.st_mode & forbidden)

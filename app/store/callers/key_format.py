"""The form of an API key: `ngtr_<id>_<secret><check>` in digits of base 62, which are 8, 40 and 6.

The check is a CRC-32 of the rest, so a mistyped or invented token is refused without a query.
"""

import hmac
import re
import secrets
import string
from zlib import crc32

PREFIX = "ngtr"

_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_ID_DIGITS = 8
_SECRET_DIGITS = 40
_CHECK_DIGITS = 6
_TOKEN = re.compile(rf"{PREFIX}_([0-9A-Za-z]{{{_ID_DIGITS}}})_([0-9A-Za-z]{{{_SECRET_DIGITS + _CHECK_DIGITS}}})")


def new_key() -> tuple[str, str]:
    """A random id, and a random secret with its check digits."""
    key_id, secret = _random_digits(_ID_DIGITS), _random_digits(_SECRET_DIGITS)
    return key_id, secret + check_digits(key_id, secret)


def write_token(key_id: str, secret: str) -> str:
    return f"{PREFIX}_{key_id}_{secret}"


def read_token(token: str) -> tuple[str, str] | None:
    """The id and the secret with its check digits; None when the token is not one of this service."""
    parts = _TOKEN.fullmatch(token)
    if parts is None:
        return None
    key_id, secret = parts.groups()
    expected = check_digits(key_id, secret[:_SECRET_DIGITS])
    return (key_id, secret) if hmac.compare_digest(expected, secret[_SECRET_DIGITS:]) else None


def check_digits(key_id: str, secret: str) -> str:
    rest = crc32(f"{PREFIX}_{key_id}_{secret}".encode())
    digits = ""
    for _ in range(_CHECK_DIGITS):
        rest, digit = divmod(rest, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits


def _random_digits(number: int) -> str:
    return "".join(secrets.choice(_DIGITS) for _ in range(number))

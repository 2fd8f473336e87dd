"""Masks private keys, passwords, tokens, and credentials in headers and URLs, before a text is logged or shown.

Certificates are public and stay. Masking is idempotent, and its time is linear in the length of the text.
"""

import re

_KEY_END = r"END[ A-Z0-9]{0,40}PRIVATE KEY-{0,5}"
_WHOLE_KEY = re.compile(rf"-{{0,5}}BEGIN[ A-Z0-9]{{0,40}}PRIVATE KEY.*?(?:{_KEY_END}|\Z)", re.DOTALL)
_END_OF_KEY = re.compile(rf"-{{0,5}}{_KEY_END}")
_LINE_OF_KEY = re.compile(r"[^\S\n]*+[A-Za-z0-9+/=]*+[^\S\n]*+")
_KEY_MASK = "[private key masked]"
_MASK = "***"

# A value in quotes, even in the escaped ones of nested JSON, to the end of the line where they stay open; or a word.
_VALUE = r"""(?P<value>\\?"(?:[^"\\\n]|\\[^"\n])*+(?:\\?")?|'[^'\n]*+'?|[^\s"']\S*+)"""
_SECRETS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # Matches inside longer words too, such as admin_password, newPassword and sessionPasswd.
        rf"""(?P<kept>(?:passw(?:or)?d|passphrase|secret)\\?["']?[^\S\n]*+[=:][^\S\n]*+){_VALUE}""",
        rf"(?P<kept>--?passw(?:or)?d[^\S\n]++){_VALUE}",
        r"""(?P<kept>(?:authorization|x-api-key)\\?["']?[^\S\n]*+[=:][^\S\n]*+)(?P<value>\S[^\n]*+)""",
        r"(?P<kept>\bbearer[^\S\n]++)(?P<value>[a-z0-9+/=._~-]{8,}+)",
        r"(?P<kept>(?:ngtr_|whsec_))(?P<value>[a-z0-9+/=_-]++)",
        r"(?P<kept>://[^\s/:@]{0,256}+:)(?P<value>[^\s/@]++)(?=@)",
    )
)


def mask(text: str) -> str:
    """The text without its secrets. A key that is cut off at either end is masked too."""
    masked = _mask_ends_of_keys(_WHOLE_KEY.sub(_KEY_MASK, text))
    for secret in _SECRETS:
        masked = secret.sub(_mask_value, masked)
    return masked


def _mask_value(secret: re.Match[str]) -> str:
    quotes = re.match(r"""\\?["']""", secret["value"])
    quote = quotes[0] if quotes else ""
    return f"{secret['kept']}{quote}{_MASK}{quote}"


def _mask_ends_of_keys(text: str) -> str:
    """A cut answer can begin within a key: mask the end line, and the lines of base64 before it."""
    shown: list[str] = []
    position = 0
    for end in _END_OF_KEY.finditer(text):
        lines = text[position : end.start()].split("\n")
        while lines and _LINE_OF_KEY.fullmatch(lines[-1]):
            lines.pop()
        shown += [*(f"{line}\n" for line in lines), _KEY_MASK]
        position = end.end()
    return "".join([*shown, text[position:]])

"""Credentials in every form: those that are taken, and those that name nobody."""

import base64
from typing import Any

from app.store.callers.key_format import check_digits


def basic(text: str | bytes) -> str:
    return "Basic " + base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


def unusable(token: str) -> dict[str, dict[str, Any]]:
    """Headers that name nobody, made from a good token: each is wrong in one way."""
    prefix, key_id, secret = token.split("_")
    wrong_digit = "1" if secret[0] == "0" else "0"
    other_secret = wrong_digit + secret[1:40]
    bad_check = f"{prefix}_{key_id}_{other_secret}{secret[40:]}"
    wrong_secret = f"{prefix}_{key_id}_{other_secret}{check_digits(key_id, other_secret)}"
    unknown_id = f"{prefix}_00000000_{secret[:40]}{check_digits('00000000', secret[:40])}"
    tokens: dict[str, str | bytes] = {
        "a check that does not fit": bad_check,
        "the secret of nobody": wrong_secret,
        "an id of nobody": unknown_id,
        "no token": "letmein",
        "a cut token": token[:-1],
        "a token with more behind it": token + "A",
        "two tokens": f"{token},{token}",
        "a quoted token": f'"{token}"',
        "an unsigned JWT": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb290In0.",
        "a NUL": "\0",
        "letters of no alphabet": "ngtr_ÄÖÜ".encode(),
        "ten thousand digits": "0" * 10_000,
    }
    authorizations = {
        "an empty Authorization": "",
        "an empty Bearer": "Bearer",
        "a blank Bearer": "Bearer  ",
        "a token without a scheme": token,
        "another scheme": f"Token {token}",
        "a Digest": f'Digest username="{key_id}"',
        "a scheme with a comma": f"Bearer, {token}",
        "an empty Basic": "Basic",
        "a Basic that is not base64": "Basic !!!",
        "a Basic whose base64 is cut": basic(f"{key_id}:{token}")[:-3],
        "a Basic that is not UTF-8": basic(b"\xff\xfe:\xff"),
        "a Basic without a colon": basic(token),
        "a Basic of nothing": basic(":"),
        "a Basic without its id": basic(f":{token}"),
        "a Basic without its secret": basic(f"{key_id}:"),
        "a Basic of another's id": basic(f"00000000:{token}"),
        "a Basic of a wrong secret": basic(f"{key_id}:{other_secret}{secret[40:]}"),
        "a Basic with a NUL": basic(f"{key_id}\0:{token}"),
    }
    named = {f"{what} in X-API-Key": {"X-API-Key": text} for what, text in tokens.items()}
    named |= {
        f"{what} in Bearer": {"Authorization": b"Bearer " + (text if isinstance(text, bytes) else text.encode())}
        for what, text in tokens.items()
    }
    named |= {what: {"Authorization": text} for what, text in authorizations.items()}
    good = {"Authorization": f"Bearer {token}"}
    return named | {
        "an empty X-API-Key": {"X-API-Key": ""},
        "an empty X-API-Key beside a good token": {"X-API-Key": "", **good},
        "a wrong X-API-Key beside a good token": {"X-API-Key": bad_check, **good},
        "a token in a cookie": {"Cookie": f"X-API-Key={token}"},
        "a token in X-Auth-Token": {"X-Auth-Token": token},
    }


def forms(token: str) -> list[dict[str, str]]:
    """The same good credential in each form in which it is taken."""
    _, key_id, secret = token.split("_")
    schemes = (f"Bearer {token}", f"bearer  {token} ", basic(f"{key_id}:{token}"), basic(f"{key_id}:{secret}"))
    return [{"X-API-Key": token}, *({"Authorization": scheme} for scheme in schemes)]

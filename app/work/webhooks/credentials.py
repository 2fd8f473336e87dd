"""The headers that log in to a target, from the files that hold its secrets."""

import asyncio
import base64
import time
from dataclasses import dataclass
from urllib.parse import urlencode

import httpx

from app.settings.secret_files import read_header_file, read_secret_file
from app.settings.webhooks import OAuthAuth, WebhookTarget
from app.work.webhooks.http_exchange import exchange

_FORM = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
# A token is not used in the last part of its life, so that none ends on its way.
_USED_PART = 0.9
_LIFETIME_S = 300.0


class TokenRefusedError(Exception):
    """There is no access token; the message is a clause for a person. `retry_after_s` as the answer had it."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class _Token:
    header: str
    used_until_s: float


class Credentials:
    """Keeps the access tokens of OAuth, by the name of the target, until they expire; other secrets are read anew."""

    def __init__(self) -> None:
        self._tokens: dict[str, _Token] = {}

    async def headers(self, target: WebhookTarget, client: httpx.AsyncClient) -> tuple[dict[str, str], bool]:
        """The headers, and whether they hold a token from before, which may have been withdrawn.

        Raises SecretRefusedError, TokenRefusedError and what `exchange` raises.
        """
        if target.header is not None:
            return {target.header.name: await asyncio.to_thread(read_header_file, target.header.value_file)}, False
        if target.basic is not None:
            password = await asyncio.to_thread(read_secret_file, target.basic.password_file)
            pair = f"{target.basic.username}:{password}".encode()
            return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}, False
        if target.oauth is None:
            return {}, False
        kept = self._tokens.get(target.name)
        if kept is not None and time.monotonic() < kept.used_until_s:
            return {"Authorization": kept.header}, True
        token = self._tokens[target.name] = await _new_token(target.oauth, client)
        return {"Authorization": token.header}, False

    def forget_token(self, target: WebhookTarget) -> None:
        """The next headers have a new one."""
        self._tokens.pop(target.name, None)


async def _new_token(oauth: OAuthAuth, client: httpx.AsyncClient) -> _Token:
    """RFC 6749, 4.4; ServiceNow takes the client's secret in the body."""
    secret = await asyncio.to_thread(read_secret_file, oauth.client_secret_file)
    form = {"grant_type": "client_credentials", "client_id": oauth.client_id, "client_secret": secret}
    if oauth.scope is not None:
        form["scope"] = oauth.scope
    asked_s = time.monotonic()
    answer = await exchange(client, "POST", oauth.token_url, _FORM, urlencode(form).encode())
    if not answer.is_success:
        raise TokenRefusedError(f"no access token: asked for one, {answer.meaning()}", answer.retry_after_s)
    found = answer.json()
    token, lifetime_s = found.get("access_token"), found.get("expires_in")
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token or " " in token:
        raise TokenRefusedError("no access token: the answer to the request for one has none")
    if isinstance(lifetime_s, str) and lifetime_s.isdecimal():
        lifetime_s = int(lifetime_s)
    lifetime_s = float(lifetime_s) if isinstance(lifetime_s, int | float) else _LIFETIME_S
    return _Token(f"Bearer {token}", asked_s + lifetime_s * _USED_PART)

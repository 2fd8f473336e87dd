"""The caller of a request: an API key in one of three forms, or a token of the issuer; and the limits of logins.

A failed login counts for the client's address, and for the API key that it named. An address with too many of them
may still send a good credential, because it may be shared; a bad one is answered with 429. A key that too many have
guessed at is looked up no more, except for those who have shown its secret to this process before: who only knows a
key's id can neither guess on, nor lock its owner out. Decision 6 has the reasons.
"""

import base64
import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum

from fastapi import Request

from app.api.callers.oidc import Issuer
from app.api.callers.rate_limits import CallLimits, RateLimited
from app.ngt.errors import Fault, FaultCode
from app.store.callers.api_keys import Keys
from app.store.records.callers import Caller
from app.telemetry.metrics import Metrics

_KEY_ID = re.compile(r"[0-9A-Za-z]{8}")
_JWT_DOTS = 2


class Method(StrEnum):
    """The method of a login, as the metric names it."""

    API_KEY = "api_key"
    BASIC = "basic"
    JWT = "jwt"


@dataclass(frozen=True, slots=True)
class Credential:
    """The credential of a request. `user` is that of Basic; `key_id` the API key that it names, if any."""

    method: Method
    secret: str = ""
    user: str = ""
    key_id: str | None = None

    def sha256(self) -> bytes:
        return hashlib.sha256(f"{self.method}:{self.user}:{self.secret}".encode()).digest()


class NoCredential(Fault):
    """The request shows nothing that could be a credential: the answer only says how to log in (RFC 6750, 3.1)."""

    def __init__(self, message: str) -> None:
        super().__init__(FaultCode.UNAUTHENTICATED, message)


class Authenticator:
    """`issuer` None: only API keys are taken."""

    def __init__(self, keys: Keys, issuer: Issuer | None, limits: CallLimits, metrics: Metrics) -> None:
        self._keys = keys
        self._issuer = issuer
        self._limits = limits
        self._failures_total = metrics.auth_failures_total
        # Grows with the keys that there are, since only good ones come here.
        self._good_before: set[bytes] = set()

    async def authenticate(self, request: Request) -> Caller:
        """The caller of the request; the request keeps the caller and the quota.

        Raises Fault `unauthenticated`, `token-expired`, `token-revoked`, `rate-limited`, `issuer-unavailable` and
        `database-unavailable`.
        """
        try:
            credential = read_credential(request)
        except NoCredential as fault:
            self._failures_total.labels("none", fault.code).inc()
            raise
        try:
            caller = await self._verify(credential)
        except Fault as fault:
            refused = await self._refusal(fault, request, credential)
            self._failures_total.labels(credential.method, refused.code).inc()
            raise refused from fault
        request.state.caller = caller
        request.state.quota = quota = await self._limits.count_request(caller.id)
        if quota is not None and quota.exceeded:
            raise RateLimited(f"There were more than {quota.limit} requests in {quota.window_s} s.", quota.reset_s)
        return caller

    async def _verify(self, credential: Credential) -> Caller:
        if credential.method is Method.JWT:
            if self._issuer is None:
                raise Fault(FaultCode.UNAUTHENTICATED, "Tokens are not taken here: no issuer is configured.")
            return await self._issuer.verify(credential.secret)
        if credential.method is Method.BASIC and not credential.user:
            raise Fault(FaultCode.UNAUTHENTICATED, "The Basic credential is not `id:secret` in base64.")
        known = credential.sha256()
        if credential.key_id is not None and known not in self._good_before:
            await self._limits.check_key(credential.key_id)
        if credential.method is Method.BASIC:
            caller = await self._keys.verify_basic(credential.user, credential.secret)
        else:
            caller = await self._keys.verify(credential.secret)
        self._good_before.add(known)
        return caller

    async def _refusal(self, fault: Fault, request: Request, credential: Credential) -> Fault:
        # A caller whose credential expired or was revoked does not guess, and needs to read that.
        if fault.code is not FaultCode.UNAUTHENTICATED:
            return fault
        address = request.client.host if request.client is not None else ""
        return await self._limits.note_failure(address, credential.key_id) or fault


def read_credential(request: Request) -> Credential:
    """By `X-API-Key`, else `Authorization: Bearer`, else HTTP Basic with the key's id. Raises NoCredential."""
    if (key := request.headers.get("x-api-key")) is not None:
        return _api_key(key.strip())
    scheme, _, credential = request.headers.get("authorization", "").strip().partition(" ")
    credential = credential.strip()
    match scheme.lower():
        case "bearer" if credential.count(".") == _JWT_DOTS:
            return Credential(Method.JWT, credential)
        case "bearer":
            return _api_key(credential)
        case "basic":
            return _basic(credential)
        case "":
            raise NoCredential("The request has no credential.")
        case _:
            raise NoCredential("The scheme of `Authorization` is neither Bearer nor Basic.")


def _api_key(token: str) -> Credential:
    _, _, rest = token.partition("_")
    return Credential(Method.API_KEY, token, key_id=_key_id(rest.partition("_")[0]))


def _basic(credential: str) -> Credential:
    try:
        decoded = base64.b64decode(credential, validate=True).decode()
    except ValueError:
        decoded = ""
    user, colon, password = decoded.partition(":")
    if not colon:
        return Credential(Method.BASIC)
    return Credential(Method.BASIC, password, user, _key_id(user))


def _key_id(text: str) -> str | None:
    return text if _KEY_ID.fullmatch(text) else None

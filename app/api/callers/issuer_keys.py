"""The public keys of an OIDC issuer, fetched when they are needed; the last good copy counts until the next good one.

Invalid tokens cannot make this service ask the issuer more often than the settings allow.
"""

import asyncio
import json
import ssl
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

import httpx
import jwt
import structlog

from app.ngt.errors import Fault, FaultCode
from app.settings import Oidc

log = structlog.get_logger(__name__)

# Far more than an issuer's keys need.
_MAX_BYTES = 512 * 1024
# Without any copy callers cannot log in, so that is tried again as soon as they are told to.
_FIRST_INTERVAL_S = 5

# The library checks the kind of a key, but takes a key of any curve for these.
_CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "EdDSA": "Ed25519"}

Keys = Mapping[str, Mapping[str, jwt.PyJWK]]
"""By `kid`, then by algorithm."""


class _Unusable(Exception):
    """The answer of the issuer is not usable; the message says why, for the log."""


class IssuerKeys:
    """To be entered before use. Any number of requests may ask at once: they share one fetch."""

    def __init__(self, settings: Oidc) -> None:
        self._settings = settings
        trust: ssl.SSLContext | bool = True
        if settings.ca_file is not None:
            trust = ssl.create_default_context(cafile=settings.ca_file)
        # An encoded answer could be many times as large as what was read of it.
        headers = {"Accept": "application/json, application/jwk-set+json", "Accept-Encoding": "identity"}
        self._http = httpx.AsyncClient(verify=trust, headers=headers, timeout=settings.timeout_s)
        self._keys: Keys | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._fetch_at = 0.0
        self._fetch_unknown_at = 0.0
        self._failed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)
        await self._http.aclose()

    async def find(self, kid: str) -> Mapping[str, jwt.PyJWK] | None:
        """The key by each algorithm that it may be used with; None when the issuer has none of that name.

        Raises Fault `issuer-unavailable` when that is not known, since its keys could not be fetched.
        """
        now = time.monotonic()
        if now >= self._fetch_at:
            await self._fetched()
        elif self._keys is None or kid not in self._keys:
            if now >= self._fetch_unknown_at and self._keys is not None:
                self._fetch_unknown_at = now + self._settings.keys_interval_s
                await self._fetched()
            elif self._fetching is not None:
                await self._fetched()
        if self._keys is None or (kid not in self._keys and self._failed):
            raise Fault(FaultCode.ISSUER_UNAVAILABLE, "The keys of the token's issuer cannot be fetched at the moment.")
        return self._keys.get(kid)

    async def _fetched(self) -> None:
        """A request that goes away does not take the fetch away from the others."""
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch(), name="issuer keys")
        await asyncio.shield(self._fetching)

    async def _fetch(self) -> None:
        settings = self._settings
        try:
            async with asyncio.timeout(settings.timeout_s):
                url = settings.jwks_url or await self._discover()
                self._keys = read_keys(await self._get(url), settings.algorithms)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, _Unusable) as wrong:
            self._failed = True
            reason = "it did not answer in time" if isinstance(wrong, TimeoutError) else str(wrong) or repr(wrong)
            kept = self._keys is not None
            log.warning("the issuer's keys could not be fetched", issuer=settings.issuer, reason=reason, kept=kept)
            after_s = settings.keys_interval_s if kept else min(_FIRST_INTERVAL_S, settings.keys_interval_s)
        else:
            self._failed = False
            after_s = settings.keys_max_age_s
        finally:
            self._fetching = None
        self._fetch_at = time.monotonic() + after_s

    async def _discover(self) -> str:
        """OpenID Connect Discovery 1.0: the document must name the very issuer that was asked."""
        settings = self._settings
        document = await self._get(settings.issuer.rstrip("/") + "/.well-known/openid-configuration")
        if document.get("issuer") != settings.issuer:
            raise _Unusable(f"its configuration is that of the issuer {document.get('issuer')!r}")
        url = document.get("jwks_uri")
        schemes = ("https://", "http://") if settings.allow_http else ("https://",)
        if not isinstance(url, str) or not url.startswith(schemes):
            raise _Unusable(f"its jwks_uri {url!r} is none that may be used")
        return url

    async def _get(self, url: str) -> dict[str, Any]:
        body = bytearray()
        async with self._http.stream("GET", url) as answer:
            if answer.status_code != httpx.codes.OK:
                raise _Unusable(f"{url} answers {answer.status_code}")
            async for chunk in answer.aiter_raw():
                body += chunk
                if len(body) > _MAX_BYTES:
                    raise _Unusable(f"{url} answers with more than {_MAX_BYTES} bytes")
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            raise _Unusable(f"{url} does not answer with JSON") from None
        if not isinstance(document, dict):
            raise _Unusable(f"{url} does not answer with a JSON object")
        return document


def read_keys(document: Mapping[str, Any], algorithms: Iterable[str]) -> Keys:
    """The keys of a JWK Set (RFC 7517) that can prove a signature; what else it has is passed over.

    Raises _Unusable when there is none.
    """
    listed = document.get("keys")
    keys: dict[str, dict[str, jwt.PyJWK]] = {}
    for jwk in listed if isinstance(listed, list) else ():
        if not isinstance(jwk, dict) or not isinstance(kid := jwk.get("kid"), str) or not _is_for_signatures(jwk):
            continue
        for algorithm in algorithms:
            if (key := _key(jwk, algorithm)) is not None:
                keys.setdefault(kid, {}).setdefault(algorithm, key)
    if not keys:
        raise _Unusable("its key set has no key that could be used")
    return keys


def _is_for_signatures(jwk: Mapping[str, Any]) -> bool:
    """A key that shows its private part proves nothing, and one for encryption says nothing of signatures."""
    operations = jwk.get("key_ops", ["verify"])
    return "d" not in jwk and jwk.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations


def _key(jwk: dict[str, Any], algorithm: str) -> jwt.PyJWK | None:
    if jwk.get("alg", algorithm) != algorithm or jwk.get("crv") != _CURVES.get(algorithm):
        return None
    try:
        key = jwt.PyJWK(jwk, algorithm)
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError):
        return None
    return None if key.Algorithm.check_key_length(key.key) else key

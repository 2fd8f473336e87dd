"""The caller of a token of the issuer. No claim counts before the signature is verified.

RFC 7519, 8725 and 9068. The algorithm is one of those that the settings name and that fits the issuer's key, never
one that only the token names.
"""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, TypeGuard

import jwt

from app.api.callers.issuer_keys import IssuerKeys
from app.ngt.errors import Fault, FaultCode
from app.settings import Oidc
from app.settings.callers.scopes import Scope
from app.store.records.callers import Caller

# Those of real issuers have 1 to 4 kB, and those of people in many groups a few more.
_MAX_CHARACTERS = 16 * 1024
_MAX_NAME = 255
# RFC 9068 wants `at+jwt`; most issuers still write `JWT` or nothing. Any other type is a token for something else.
_TYPES = frozenset({"at+jwt", "application/at+jwt", "jwt", "application/jwt"})
_TIMES = ("exp", "nbf", "iat")
_OPTIONS: Any = {"require": ["exp", "iss", "aud", "sub"], "enforce_minimum_key_length": True}
_ALL_CLUSTERS = "*"
_SCOPES = frozenset(Scope)

# The fault of a token, by the exception of the library; the first one that fits counts.
_REASONS: tuple[tuple[type[jwt.PyJWTError], str], ...] = (
    (jwt.ImmatureSignatureError, "The token is not valid yet."),
    (jwt.InvalidAudienceError, "The token is for another audience."),
    (jwt.InvalidIssuerError, "The token is of another issuer."),
    (jwt.InvalidSignatureError, "The token's signature is not good."),
    (jwt.MissingRequiredClaimError, "The token lacks a claim: `exp`, `iss`, `aud` and `sub` are needed."),
)


class Issuer:
    """To be entered before use."""

    def __init__(self, settings: Oidc) -> None:
        self._settings = settings
        self._keys = IssuerKeys(settings)

    async def __aenter__(self) -> Self:
        await self._keys.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._keys.__aexit__(kind, raised, trace)

    async def verify(self, token: str) -> Caller:
        """The caller of the token. Raises Fault `unauthenticated`, `token-expired` and `issuer-unavailable`."""
        claims = self._claims(token, await self._key(token))
        subject, name = claims["sub"], self._find(claims, self._settings.name_claim)
        if not _may_be_shown(subject):
            raise _unauthenticated("The token's `sub` is not a name.")
        shown = name if _may_be_shown(name) else subject
        return Caller(f"oidc:{subject}", shown, self._scopes(claims), self._clusters(claims))

    async def _key(self, token: str) -> jwt.PyJWK:
        if len(token) > _MAX_CHARACTERS:
            raise _unauthenticated(f"The token is longer than {_MAX_CHARACTERS} characters.")
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError) as wrong:
            raise _unauthenticated("The token is not a readable JWT.") from wrong
        algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
        if algorithm not in self._settings.algorithms:
            raise _unauthenticated("The token's algorithm is not accepted.")
        if not isinstance(kind, str) or kind.lower() not in _TYPES:
            raise _unauthenticated("The token's `typ` is not that of an access token.")
        if "crit" in header:
            raise _unauthenticated("The token has a `crit` header, and no extension is known here.")
        if not isinstance(kid, str):
            raise _unauthenticated("The token has no `kid`, so nobody can say which key has signed it.")
        by_algorithm = await self._keys.find(kid)
        if by_algorithm is None:
            raise _unauthenticated("The token is signed with a key that its issuer does not name.")
        if (key := by_algorithm.get(algorithm)) is None:
            raise _unauthenticated("The token's algorithm is not that of its key.")
        return key

    def _claims(self, token: str, key: jwt.PyJWK) -> Mapping[str, Any]:
        settings = self._settings
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=settings.algorithms,
                audience=settings.audience,
                issuer=settings.issuer,
                leeway=settings.leeway_s,
                options=_OPTIONS,
            )
        except jwt.ExpiredSignatureError as expired:
            raise Fault(FaultCode.TOKEN_EXPIRED, "The token has expired.") from expired
        except (jwt.PyJWTError, ValueError) as wrong:
            reason = next((said for kind, said in _REASONS if isinstance(wrong, kind)), "A claim has no usable value.")
            raise _unauthenticated(reason) from wrong
        # The library also takes `"exp": "1780000000"` and `"exp": true` for times.
        if any(type(claims.get(name, 0)) not in {int, float} for name in _TIMES):
            raise _unauthenticated("A time of the token is not a number.")
        return claims

    def _scopes(self, claims: Mapping[str, Any]) -> frozenset[Scope]:
        settings = self._settings
        granted = {Scope(word) for word in _words(self._find(claims, settings.scopes_claim)) if word in _SCOPES}
        if settings.roles_claim is not None:
            roles = self._find(claims, settings.roles_claim)
            # The name of a group may have blanks.
            for role in (roles,) if isinstance(roles, str) else _words(roles):
                granted |= set(settings.roles.get(role, ()))
        return frozenset(granted)

    def _clusters(self, claims: Mapping[str, Any]) -> frozenset[str] | None:
        if self._settings.clusters_claim is None:
            return None
        named = frozenset(_words(self._find(claims, self._settings.clusters_claim)))
        return None if _ALL_CLUSTERS in named else named

    @staticmethod
    def _find(claims: Mapping[str, Any], path: str) -> object:
        if path in claims:
            return claims[path]
        found: object = claims
        for name in path.split("."):
            found = found.get(name) if isinstance(found, Mapping) else None
        return found


def _words(value: object) -> tuple[str, ...]:
    """A claim's words; one of another type has none, so that it grants nothing."""
    if isinstance(value, str):
        return tuple(value.split())
    return tuple(word for word in value if isinstance(word, str)) if isinstance(value, list) else ()


def _may_be_shown(name: object) -> TypeGuard[str]:
    """It goes into the database, the log and the answers."""
    return isinstance(name, str) and 0 < len(name) <= _MAX_NAME and name.isprintable()


def _unauthenticated(reason: str) -> Fault:
    return Fault(FaultCode.UNAUTHENTICATED, reason)

"""`[oidc]`: the one issuer whose tokens are taken beside API keys, and what they may do here."""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from app.settings.callers.rate_limits import at_commas
from app.settings.limits import Seconds, Table, at_least_one

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Signatures by a private key alone: with a shared secret, or none, anybody who may check a token could make one."""

# The same words as `app.store.records.callers.Scope`, which the settings must not know.
ScopeWord = Literal["vms:read", "jobs:read", "renew", "jobs:cancel", "certificates:write", "clusters:scan", "admin"]

_Url = Annotated[str, Field(pattern=r"^https?://[^/\s?#]+(/[^\s#]*)?$")]
_Claim = Annotated[str, Field(min_length=1)]


def _has_certificates(path: Path) -> Path:
    try:
        ssl.create_default_context(cafile=path)
    except (OSError, ValueError) as wrong:
        raise ValueError(f"no certificates can be read from {path}") from wrong
    return path


class Oidc(Table):
    """Names of claims may be paths such as `realm_access.roles`; a claim with that very name comes first.

    Raises ValueError for plain HTTP that was not asked for.
    """

    issuer: _Url
    audience: Annotated[tuple[str, ...], BeforeValidator(at_commas), AfterValidator(at_least_one)]
    algorithms: Annotated[tuple[Algorithm, ...], BeforeValidator(at_commas), AfterValidator(at_least_one)] = (
        "RS256",
        "PS256",
        "ES256",
        "EdDSA",
    )
    jwks_url: _Url | None = None
    ca_file: Annotated[Path, AfterValidator(_has_certificates)] | None = None
    allow_http: bool = False

    leeway_s: Annotated[int, Field(ge=0, le=300)] = 60
    timeout_s: Seconds = 5
    # Keys are fetched again when they are this old, and when a token names one that is not among them; the latter, and
    # trying again what failed, only so often.
    keys_max_age_s: Seconds = 3600
    keys_interval_s: Seconds = 60

    scopes_claim: _Claim = "scope"
    roles_claim: _Claim | None = None
    roles: Mapping[str, tuple[ScopeWord, ...]] = Field(default_factory=dict)
    clusters_claim: _Claim | None = None
    name_claim: _Claim = "client_id"

    @model_validator(mode="after")
    def _is_not_overheard(self) -> Self:
        plain = [url for url in (self.issuer, self.jwks_url) if url is not None and url.startswith("http://")]
        if plain and not self.allow_http:
            raise ValueError(f"{plain[0]} is plain HTTP, where anybody between could swap the keys: use https")
        return self

    @model_validator(mode="after")
    def _roles_are_read(self) -> Self:
        if self.roles and self.roles_claim is None:
            raise ValueError("`roles` are set, and no `roles_claim` says where a token has them")
        return self

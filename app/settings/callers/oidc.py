"""`[oidc]`: the issuer whose tokens are accepted beside API keys, and the scopes that they grant."""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from app.settings.callers.scopes import Scope
from app.settings.table import Table
from app.settings.value_types import COMMA_SEPARATED, NOT_EMPTY, Seconds

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Asymmetric signatures alone: with a shared secret, everybody who can verify a token could also issue one."""

_Url = Annotated[str, Field(pattern=r"^https?://[^/\s?#]+(/[^\s#]*)?$")]
_Claim = Annotated[str, Field(min_length=1)]


def _validate_ca_file(path: Path) -> Path:
    try:
        ssl.create_default_context(cafile=path)
    except (OSError, ValueError) as error:
        raise ValueError(f"no certificates can be read from {path}") from error
    return path


class Oidc(Table):
    """Names of claims may be paths such as `realm_access.roles`; a claim with that exact name takes precedence."""

    issuer: _Url
    audience: Annotated[tuple[str, ...], COMMA_SEPARATED, NOT_EMPTY]
    algorithms: Annotated[tuple[Algorithm, ...], COMMA_SEPARATED, NOT_EMPTY] = ("RS256", "PS256", "ES256", "EdDSA")
    jwks_url: _Url | None = None
    ca_file: Annotated[Path, AfterValidator(_validate_ca_file)] | None = None
    allow_http: bool = False

    leeway_s: Annotated[int, Field(ge=0, le=300)] = 60
    timeout_s: Seconds = 5
    # Keys are fetched again at this age. An unknown key, or a failed fetch, leads to another fetch after the interval.
    keys_max_age_s: Seconds = 3600
    keys_interval_s: Seconds = 60

    scopes_claim: _Claim = "scope"
    roles_claim: _Claim | None = None
    roles: Mapping[str, tuple[Scope, ...]] = Field(default_factory=dict)
    clusters_claim: _Claim | None = None
    name_claim: _Claim = "client_id"

    @model_validator(mode="after")
    def _validate_https(self) -> Self:
        plain = [url for url in (self.issuer, self.jwks_url) if url is not None and url.startswith("http://")]
        if plain and not self.allow_http:
            raise ValueError(f"{plain[0]} is plain HTTP, where an attacker could replace the keys: use https")
        return self

    @model_validator(mode="after")
    def _validate_roles_claim(self) -> Self:
        if self.roles and self.roles_claim is None:
            raise ValueError("`roles` are set, but no `roles_claim` names the claim that holds them")
        return self

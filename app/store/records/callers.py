"""Callers: API keys, their scopes, and the caller that a request stands for."""

from dataclasses import dataclass
from datetime import datetime

from app.settings.callers.scopes import Scope


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller of a request: its key, scopes and clusters (`None`: all)."""

    id: str
    name: str
    scopes: frozenset[Scope]
    clusters: frozenset[str] | None

    def may_use(self, cluster: str) -> bool:
        return self.clusters is None or cluster in self.clusters


THIS_SERVICE = Caller("", "this service", frozenset(), None)


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """An API key as the operator sees it: never the secret."""

    id: str
    description: str
    scopes: tuple[Scope, ...]
    clusters: tuple[str, ...] | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None

"""`Settings`: the root of the configuration."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator

from app.ngt.errors import Fault, FaultCode
from app.settings.callers.oidc import Oidc
from app.settings.callers.rate_limits import Callers
from app.settings.clusters.cluster import ClusterSettings
from app.settings.limits import Limits
from app.settings.retention import Retention
from app.settings.scans import ScanSettings
from app.settings.table import Table
from app.settings.value_types import Seconds
from app.settings.warnings import Warnings
from app.settings.webhooks import WebhookTarget

_SCHEMES = ("postgresql://", "postgres://", "postgresql+psycopg://")


def default_data_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """`/var/lib/ngt-renewal` for root, else `ngt-renewal` in the user's data directory."""
    if os.geteuid() == 0:
        return Path("/var/lib/ngt-renewal")
    base = environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "ngt-renewal"


class Settings(Table):
    """Made by `load_settings`.

    `database_url` None: an embedded PostgreSQL in `data_dir`. `port` 0: any free one. `public_url`: the address that
    callers use, for links and documents. `metrics_per_vm` False: no series for each VM, only the counts of clusters.
    """

    database_url: SecretStr | None = None
    data_dir: Path = Field(default_factory=default_data_dir)
    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    public_url: Annotated[str, Field(pattern=r"^https?://[^/\s?#]+(/[^\s?#]*)?$")] | None = None
    log_format: Literal["json", "text"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    worker_concurrency: Annotated[int, Field(ge=1, le=200)] = 16
    drain_timeout_s: Seconds = 60
    max_body_bytes: Annotated[int, Field(ge=1024)] = 1024 * 1024
    metrics_per_vm: bool = True
    limits: Limits = Limits()
    callers: Callers = Callers()
    oidc: Oidc | None = None
    retention: Retention = Retention()
    scan: ScanSettings = ScanSettings()
    warnings: Warnings = Warnings()
    clusters: Mapping[str, ClusterSettings] = Field(default_factory=dict)
    webhooks: Mapping[str, WebhookTarget] = Field(default_factory=dict)

    @field_validator("database_url")
    @classmethod
    def _validate_database_url(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not url.get_secret_value().startswith(_SCHEMES):
            raise ValueError("it must begin with postgresql://")
        return url

    @field_validator("webhooks", mode="before")
    @classmethod
    def _add_names(cls, webhooks: object) -> object:
        """The name of a target is that of its table."""
        if not isinstance(webhooks, dict):
            return webhooks
        named = [name for name, table in webhooks.items() if isinstance(table, dict) and "name" in table]
        if named:
            raise ValueError(f"{named[0]} has its name already, as `[webhooks.{named[0]}]`: leave out `name`")
        return {name: {**table, "name": name} if isinstance(table, dict) else table for name, table in webhooks.items()}

    def cluster(self, name: str) -> ClusterSettings:
        """Raises Fault `cluster-not-found`."""
        try:
            return self.clusters[name]
        except KeyError:
            raise Fault(FaultCode.CLUSTER_NOT_FOUND, f"The cluster {name!r} is not configured.") from None

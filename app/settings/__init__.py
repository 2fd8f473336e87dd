"""The configuration: one frozen `Settings`, read once at start from a TOML file and the environment.

Everything that can be checked without the network is checked at start, and a wrong configuration is refused.
"""

from app.settings.auto_renew import AutoRenew, RenewWindow
from app.settings.callers.oidc import Oidc
from app.settings.callers.rate_limits import Callers
from app.settings.clusters.cluster import ClusterSettings, split_address
from app.settings.clusters.commands import CommandSettings
from app.settings.clusters.guests import GuestMatch, GuestSettings
from app.settings.limits import Limits
from app.settings.load import SettingsError, load_settings
from app.settings.retention import Retention
from app.settings.scans import ScanSettings
from app.settings.settings import Settings, default_data_dir
from app.settings.warnings import Warnings
from app.settings.webhooks import WebhookTarget

__all__ = [
    "AutoRenew",
    "Callers",
    "ClusterSettings",
    "CommandSettings",
    "GuestMatch",
    "GuestSettings",
    "Limits",
    "Oidc",
    "RenewWindow",
    "Retention",
    "ScanSettings",
    "Settings",
    "SettingsError",
    "Warnings",
    "WebhookTarget",
    "default_data_dir",
    "load_settings",
    "split_address",
]

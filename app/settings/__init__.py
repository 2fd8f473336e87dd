"""One frozen `Settings`, read once at start from one TOML file and the environment, and refused as a whole when wrong.

A mistake in a configuration must not wait for the night of the first renewal: everything that can be checked without
the network is checked here, and all faults are told at once, one sentence each.
"""

from app.settings.auto_renew import AutoRenew, RenewWindow
from app.settings.callers.oidc import Oidc
from app.settings.callers.rate_limits import Callers
from app.settings.clusters import (
    ClusterSettings,
    CommandSettings,
    GuestMatch,
    GuestSettings,
    guest_for,
    split_address,
)
from app.settings.limits import Limits
from app.settings.load import SettingsError, load_settings
from app.settings.retention import Retention
from app.settings.scans import ScanSettings
from app.settings.service import Settings, default_data_dir
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
    "guest_for",
    "load_settings",
    "split_address",
]

"""The option `--config`, and the settings and logs that it leads to."""

import os
from pathlib import Path
from typing import Annotated

import typer

from app.settings import Settings, load_settings
from app.telemetry.logs import configure_logging

_PLACES = "The TOML file; else that of NGT_RENEWAL_CONFIG, ./ngt-renewal.toml or /etc/ngt-renewal/ngt-renewal.toml."
Config = Annotated[Path | None, typer.Option("--config", "-c", help=_PLACES)]


def configure(config: Path | None) -> Settings:
    """Loads the settings, and configures logging as they say."""
    settings = load_settings(config, os.environ)
    configure_logging(settings.log_level, settings.log_format)
    return settings

"""The option `--config`, and the settings and logs that it leads to."""

import os
from pathlib import Path
from typing import Annotated

import typer

from app.settings import Settings, load_settings
from app.telemetry.logs import configure_logging

Config = Annotated[Path | None, typer.Option("--config", "-c", help="The TOML file. Else NGT_RENEWAL_CONFIG.")]


def configure(config: Path | None) -> Settings:
    """Loads the settings, and configures logging as they say."""
    settings = load_settings(config, os.environ)
    configure_logging(settings.log_level, settings.log_format)
    return settings

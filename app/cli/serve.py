"""`ngt-renewal serve` and `ngt-renewal worker`."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from app.cli.configuration import Config, configure
from app.cli.database import migrated_url
from app.cli.failures import fail, reported_failures
from app.settings import Settings, SettingsError


def serve(
    config: Config = None,
    *,
    no_worker: Annotated[bool, typer.Option("--no-worker", help="HTTP only; run `worker` elsewhere.")] = False,
) -> None:
    """Run the HTTP API, and a worker unless --no-worker is given, until SIGTERM."""
    import uvloop

    from app.serve import CannotListenError, serve_until_stopped

    with reported_failures():
        settings = _configure(config)
        with migrated_url(settings) as url:
            _refuse_lost_notifications(settings, url)
            try:
                uvloop.run(serve_until_stopped(settings, url, with_worker=not no_worker))
            except CannotListenError as error:
                fail(str(error))


def worker(config: Config = None) -> None:
    """Run a worker without HTTP until SIGTERM; several may share one database."""
    import uvloop

    from app.serve import work_until_stopped

    with reported_failures():
        settings = _configure(config)
        with migrated_url(settings) as url:
            _refuse_lost_notifications(settings, url)
            uvloop.run(work_until_stopped(settings, url))


def _configure(config: Path | None) -> Settings:
    from app.ssh.login_files import find_unusable_login_files

    settings = configure(config)
    if faults := list(find_unusable_login_files(settings)):
        raise SettingsError(faults)
    return settings


def _refuse_lost_notifications(settings: Settings, url: str) -> None:
    from app.store.postgres.notifications import find_lost_notifications

    if settings.database_url is not None and (fault := asyncio.run(find_lost_notifications(url))):
        fail(fault)

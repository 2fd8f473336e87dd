"""`ngt-renewal doctor`."""

import asyncio

import typer

from app.cli.configuration import Config, configure
from app.cli.failures import fail, reported_failures
from app.settings import Settings
from app.telemetry.logs import configure_logging

_SIGNS = {True: "ok  ", False: "BAD ", None: "note"}


def doctor(config: Config = None) -> None:
    """Check every cluster and CVM: reachable, host key, login, shell, tools, one listing. Changes nothing."""
    with reported_failures():
        settings = configure(config)
        if not settings.clusters:
            fail("No cluster is configured; add a [clusters.<name>] table to the configuration file.")
        # The results repeat the warnings of the connections.
        configure_logging("error", settings.log_format)
        if not asyncio.run(_examine(settings)):
            raise typer.Exit(1)


async def _examine(settings: Settings) -> bool:
    from app.work.doctor import examine

    all_good = True
    async for finding in examine(settings):
        typer.echo(f"{_SIGNS[finding.good]} {finding.where}: {finding.what}")
        if finding.next_step:
            typer.echo(f"     -> {finding.next_step}")
        all_good = all_good and finding.good is not False
    return all_good

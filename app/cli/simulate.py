"""`ngt-renewal simulate`."""

import asyncio
import signal
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from app.cli.failures import fail, os_reason


def simulate(
    directory: Annotated[Path, typer.Option(help="Where keys and the configuration are written.")] = Path("var/site"),
    vms: Annotated[int, typer.Option(min=0, help="VMs per cluster, all alike; 0: one of each sort.")] = 0,
    cvms: Annotated[int, typer.Option(min=1, max=16)] = 3,
    clusters: Annotated[int, typer.Option(min=1, max=50)] = 1,
) -> None:
    """Run a simulated cluster on loopback and print the configuration for it, until interrupted."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        asyncio.run(_simulate(directory, vms, cvms, clusters))
    except OSError as error:
        fail(f"The simulated cluster cannot run: {os_reason(error)}.")
    typer.echo("stopped", err=True)


async def _simulate(directory: Path, vms: int, cvms: int, clusters: int) -> None:
    from app.simulator.standalone import run_standalone

    running = asyncio.ensure_future(run_standalone(directory, vms, cvms, clusters, typer.echo))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    with suppress(asyncio.CancelledError):
        await running

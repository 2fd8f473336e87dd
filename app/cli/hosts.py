"""`ngt-renewal hosts`: SSH host keys of CVMs and guests."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from app.cli.failures import fail, os_reason, reported_failures
from app.settings import split_address

_SCAN_TIMEOUT_S = 10

cli = typer.Typer(help="Host keys of CVMs and guests.", no_args_is_help=True, rich_markup_mode=None)
_Address = Annotated[str, typer.Argument(help="host or host:port")]


@cli.command()
def scan(address: _Address) -> None:
    """Print the fingerprints of a machine's host keys. Compare them with those that its administrator gives you."""
    from app.ssh.host_keys import scan_host_keys

    with reported_failures():
        for key in asyncio.run(scan_host_keys(*_parse(address), timeout_s=_SCAN_TIMEOUT_S)):
            typer.echo(f"{key.fingerprint}  {key.algorithm}")
    typer.echo(f"To trust one: ngt-renewal hosts trust {address} SHA256:… --known-hosts FILE", err=True)


@cli.command()
def trust(
    address: _Address,
    fingerprint: Annotated[str, typer.Argument(help="SHA256:… as its administrator gave it to you")],
    known_hosts: Annotated[Path, typer.Option(help="The cluster's `known_hosts` file.")],
) -> None:
    """Pin the host key with this fingerprint, if the machine shows it now."""
    from app.ssh.host_keys import pin, scan_host_keys

    with reported_failures():
        shown = asyncio.run(scan_host_keys(*_parse(address), timeout_s=_SCAN_TIMEOUT_S))
        key = next((key for key in shown if key.fingerprint == fingerprint), None)
        if key is None:
            seen = ", ".join(key.fingerprint for key in shown)
            fail(f"{address} does not show {fingerprint}; it shows {seen}. Nothing was pinned.")
        try:
            done = "is pinned" if pin(known_hosts, key) else "was pinned already"
        except OSError as error:
            fail(f"{known_hosts} cannot be written: {os_reason(error)}. Nothing was pinned.")
        except UnicodeDecodeError as error:
            fail(f"{known_hosts} cannot be written: {error}. Nothing was pinned.")
    typer.echo(f"{key.fingerprint} of {address} {done} in {known_hosts}.")


def _parse(address: str) -> tuple[str, int]:
    try:
        return split_address(address)
    except ValueError as error:
        fail(f"{error}.")

"""`ngt-renewal serve` and `ngt-renewal worker`."""

from typing import Annotated

import typer

from app.cli.configuration import Config, configure
from app.cli.database import migrated_url
from app.cli.failures import fail, reported_failures


def serve(
    config: Config = None,
    *,
    no_worker: Annotated[bool, typer.Option("--no-worker", help="HTTP only; run `worker` elsewhere.")] = False,
) -> None:
    """Run the HTTP API, and a worker unless --no-worker is given, until SIGTERM."""
    import uvloop

    from app.serve import CannotListenError, serve_until_stopped

    with reported_failures():
        settings = configure(config)
        with migrated_url(settings) as url:
            try:
                uvloop.run(serve_until_stopped(settings, url, with_worker=not no_worker))
            except CannotListenError as error:
                fail(str(error))


def worker(config: Config = None) -> None:
    """Run a worker without HTTP until SIGTERM; several may share one database."""
    import uvloop

    from app.serve import work_until_stopped

    with reported_failures():
        settings = configure(config)
        with migrated_url(settings) as url:
            uvloop.run(work_until_stopped(settings, url))

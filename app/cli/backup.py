"""`ngt-renewal backup` and `ngt-renewal restore`."""

from pathlib import Path
from typing import Annotated

import typer

from app.cli.configuration import Config, configure
from app.cli.database import database_url, migrated_url
from app.cli.failures import reported_failures

_File = Annotated[Path, typer.Argument(help="The file of the backup.")]


def backup(file: _File, config: Config = None) -> None:
    """Write the database into a file, also while the service runs. The file holds the hashes of API keys."""
    from app.store.backup import write_backup

    with reported_failures():
        with migrated_url(configure(config)) as url:
            write_backup(url, file)
        typer.echo(f"The database was written into {file}.")


def restore(file: _File, config: Config = None) -> None:
    """Restore a backup into an empty database. The service starts paused on it."""
    from app.store.backup import restore_backup

    with reported_failures():
        with database_url(configure(config), is_migrated=False) as url:
            open_jobs = restore_backup(url, file)
        typer.echo(
            f"{file} was restored, and the service is paused. Jobs that had changed nothing were ended; {open_jobs} "
            "had begun a change and look at their VM first. API keys that were revoked after the backup are valid "
            "again: revoke them. Run `ngt-renewal migrate` if the backup is of an older version. Then start the "
            "service, scan every cluster, and call POST /admin/resume."
        )

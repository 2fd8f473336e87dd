"""The command line: `ngt-renewal …`, the same as `python -m app …`. Each group of commands is a module of `app.cli`."""

import typer

from app.cli import database, doctor, hosts, keys, openapi, serve, simulate

cli = typer.Typer(
    name="ngt-renewal",
    help="Renews the client certificates of Nutanix Guest Tools over one HTTP call, and proves each renewal.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for command in (serve.serve, serve.worker, database.migrate, openapi.openapi, simulate.simulate, doctor.doctor):
    cli.command()(command)
cli.add_typer(keys.cli, name="keys")
cli.add_typer(hosts.cli, name="hosts")


def main() -> None:
    """The entry point of `ngt-renewal`."""
    cli()


if __name__ == "__main__":
    main()

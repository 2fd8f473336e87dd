"""The command line: `ngt-renewal …`, the same as `python -m app …`.

Every failure that an operator can mend is one sentence on stderr and exit status 1; 2 is a wrong command line.
Each command imports what it needs by itself: all of it takes seconds, which `hosts scan` or `--help` should not.
"""
# ruff: noqa: PLC0415 - As the line above says.

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn
from urllib.parse import urlsplit

import typer

from app.ngt.errors import Fault, FaultCode
from app.settings import Settings, SettingsError, load_settings, split_address
from app.settings.callers.scopes import Scope
from app.store.embedded.server import EmbeddedPostgresError, start_embedded
from app.store.records.callers import KeyRecord
from app.telemetry.logs import configure_logging

if TYPE_CHECKING:
    from app.store.callers.api_keys import Keys

cli = typer.Typer(
    name="ngt-renewal",
    help="Renews the client certificates of Nutanix Guest Tools over one HTTP call, and proves that it did.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
keys_cli = typer.Typer(help="API keys of this service.", no_args_is_help=True, rich_markup_mode=None)
hosts_cli = typer.Typer(help="Host keys of CVMs and guests.", no_args_is_help=True, rich_markup_mode=None)
cli.add_typer(keys_cli, name="keys")
cli.add_typer(hosts_cli, name="hosts")

# The rules of these faults speak to callers over HTTP; here is who runs the command.
_NEXT_STEPS = {
    FaultCode.DATABASE_UNAVAILABLE: "Check that PostgreSQL runs, and DATABASE_URL.",
    FaultCode.CVM_UNREACHABLE: "Check the address, and that an SSH server is reached there.",
}

Config = Annotated[Path | None, typer.Option("--config", "-c", help="The TOML file. Else NGT_RENEWAL_CONFIG.")]


def main() -> None:
    """The entry point of `ngt-renewal`."""
    cli()


@contextmanager
def _told() -> Iterator[None]:
    """Turns what an operator can mend into a sentence."""
    try:
        yield
    except (SettingsError, EmbeddedPostgresError) as refused:
        _fail(str(refused))
    except Fault as fault:
        _fail(f"{fault.message.rstrip('.')}{_cause(fault)}. {_NEXT_STEPS.get(fault.code, fault.rule.action)}")


def _cause(fault: Fault) -> str:
    """What PostgreSQL's own library said; callers over HTTP are not told, who runs the command has to know it."""
    said = str(getattr(fault.__cause__, "orig", "")).strip().splitlines()
    return f" ({said[0]})" if said and said[0] not in fault.message else ""


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)


def _settings(config: Path | None) -> Settings:
    settings = load_settings(config, os.environ)
    configure_logging(settings.log_level, settings.log_format)
    return settings


@contextmanager
def _database_url(settings: Settings) -> Iterator[str]:
    """The configured database, or the embedded one for as long as it is needed; that one is migrated by itself."""
    from app.store.postgres.schema import migrate as bring_to_head

    if settings.database_url is not None:
        url = settings.database_url.get_secret_value()
        _refuse_malformed(url)
        yield url
        return
    embedded = start_embedded(settings.data_dir)
    try:
        bring_to_head(embedded.url)
        yield embedded.url
    finally:
        embedded.close()


def _refuse_malformed(url: str) -> None:
    try:
        _ = urlsplit(url).port
    except ValueError:
        # What is wrong may be a part of the password, so it is not shown.
        _fail(
            "DATABASE_URL is malformed; it looks like postgresql://user:password@host:5432/name, with the special "
            "characters of the password percent-encoded."
        )


@contextmanager
def _migrated_url(settings: Settings) -> Iterator[str]:
    """As `_database_url`, refused in one sentence when it does not have this version's tables."""
    with _database_url(settings) as url:
        asyncio.run(_refuse_old_schema(url))
        yield url


async def _refuse_old_schema(url: str) -> None:
    from app.store.postgres.database import Database
    from app.store.postgres.schema import is_at_head

    database = Database(url)
    try:
        if not await is_at_head(database):
            _fail("The database does not have this version's tables. Run `ngt-renewal migrate`, then try again.")
    finally:
        await database.close()


@cli.command()
def serve(
    config: Config = None,
    *,
    no_worker: Annotated[bool, typer.Option("--no-worker", help="HTTP only; run `worker` elsewhere.")] = False,
) -> None:
    """Run the HTTP API, and a worker unless --no-worker is given, until SIGTERM."""
    import uvloop

    from app.main import CannotListenError, serve_until_stopped

    with _told():
        settings = _settings(config)
        with _migrated_url(settings) as url:
            try:
                uvloop.run(serve_until_stopped(settings, url, with_worker=not no_worker))
            except CannotListenError as refused:
                _fail(str(refused))


@cli.command()
def worker(config: Config = None) -> None:
    """Run a worker without HTTP until SIGTERM; several may share one database."""
    import uvloop

    from app.main import work_until_stopped

    with _told():
        settings = _settings(config)
        with _migrated_url(settings) as url:
            uvloop.run(work_until_stopped(settings, url))


@cli.command()
def migrate(config: Config = None) -> None:
    """Bring the database to this version's tables. Safe to repeat."""
    from app.store.postgres.schema import migrate as bring_to_head

    with _told():
        with _database_url(_settings(config)) as url:
            bring_to_head(url)
        typer.echo("The database has this version's tables.")


@cli.command()
def openapi(
    *,
    plain: Annotated[bool, typer.Option("--plain", help="OpenAPI 3.0.3 for ServiceNow and other importers.")] = False,
    url: Annotated[str | None, typer.Option(help="With --plain: how callers reach the service.")] = None,
) -> None:
    """Print the OpenAPI 3.1 document, or the plain 3.0.3 one."""
    from app.main import openapi_document, plain_openapi_document

    if url is not None and not url.startswith(("https://", "http://")):
        _fail(f"{url!r} is no address of a service; one looks like https://ngt-renewal.example.org.")
    document = (plain_openapi_document(url) if url else plain_openapi_document()) if plain else openapi_document()
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


@cli.command()
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
    except OSError as refused:
        _fail(f"The simulated cluster cannot run: {_reason(refused)}.")
    typer.echo("stopped", err=True)


async def _simulate(directory: Path, vms: int, cvms: int, clusters: int) -> None:
    from app.simulator.standalone import run_standalone

    running = asyncio.ensure_future(run_standalone(directory, vms, cvms, clusters, typer.echo))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    with suppress(asyncio.CancelledError):
        await running


@cli.command()
def doctor(config: Config = None) -> None:
    """Look at every cluster and CVM: reachable, host key, login, shell, tools, one listing. Changes nothing."""
    with _told():
        settings = _settings(config)
        if not settings.clusters:
            _fail("No cluster is configured; add a [clusters.<name>] table to the configuration file.")
        # The results repeat the warnings of the connections.
        configure_logging("error", settings.log_format)
        if not asyncio.run(_doctor(settings)):
            raise typer.Exit(1)


async def _doctor(settings: Settings) -> bool:
    from app.work.doctor import examine

    all_good = True
    async for finding in examine(settings):
        sign = {True: "ok  ", False: "BAD ", None: "note"}[finding.good]
        typer.echo(f"{sign} {finding.where}: {finding.what}")
        if finding.next_step:
            typer.echo(f"     -> {finding.next_step}")
        all_good = all_good and finding.good is not False
    return all_good


@keys_cli.command("create")
def keys_create(
    scopes: Annotated[str, typer.Option(help=f"Separated by commas: {', '.join(Scope)}.")],
    description: Annotated[str, typer.Option(help="Who uses the key, for example `ServiceNow production`.")] = "",
    clusters: Annotated[str, typer.Option(help="Separated by commas; empty: all clusters.")] = "",
    expires_days: Annotated[int, typer.Option(min=1, max=3650)] = 90,
    config: Config = None,
    *,
    never_expires: Annotated[bool, typer.Option("--never-expires")] = False,
) -> None:
    """Make an API key and print it, once: only its hash is stored."""
    with _told():
        settings = _settings(config)
        wanted = _scopes(scopes)
        allowed = frozenset(filter(None, (name.strip() for name in clusters.split(",")))) or None
        if unknown := sorted((allowed or frozenset()) - set(settings.clusters)):
            known = ", ".join(sorted(settings.clusters)) or "none"
            _fail(f"There is no cluster {unknown[0]!r} in the configuration; it has {known}.")
        lifetime = None if never_expires else timedelta(days=expires_days)
        with _migrated_url(settings) as url:
            key, token = asyncio.run(_create_key(url, description, wanted, allowed, lifetime))
    typer.echo(token)
    ends = f"until {key.expires_at:%Y-%m-%d}" if key.expires_at is not None else "for ever"
    typer.echo(
        f"Keep it now: it is not stored and cannot be shown again. Its id is {key.id}, it is good {ends}.", err=True
    )


def _scopes(scopes: str) -> frozenset[Scope]:
    names = [name.strip() for name in scopes.split(",") if name.strip()]
    unknown = sorted(set(names) - set(Scope))
    if unknown or not names:
        refusal = f"{unknown[0]!r} is no scope" if unknown else "No scope is given"
        _fail(f"{refusal}; there are {', '.join(Scope)}.")
    return frozenset(Scope(name) for name in names)


@asynccontextmanager
async def _keys(url: str) -> AsyncIterator["Keys"]:
    from app.store.callers.api_keys import Keys
    from app.store.postgres.database import Database

    database = Database(url)
    try:
        yield Keys(database)
    finally:
        await database.close()


async def _create_key(
    url: str, description: str, scopes: frozenset[Scope], clusters: frozenset[str] | None, lifetime: timedelta | None
) -> tuple[KeyRecord, str]:
    async with _keys(url) as keys:
        return await keys.create(description, scopes, clusters, lifetime)


@keys_cli.command("list")
def keys_list(config: Config = None) -> None:
    """List the API keys: never the secrets."""
    with _told(), _migrated_url(_settings(config)) as url:
        asyncio.run(_list_keys(url))


async def _list_keys(url: str) -> None:
    async with _keys(url) as keys:
        for key in await keys.list():
            ends = f"expires {key.expires_at:%Y-%m-%d}" if key.expires_at is not None else "never expires"
            ends = f"revoked {key.revoked_at:%Y-%m-%d}" if key.revoked_at is not None else ends
            used = f"last used {key.last_used_at:%Y-%m-%d}" if key.last_used_at is not None else "never used"
            where = ",".join(key.clusters) if key.clusters is not None else "all clusters"
            typer.echo(f"{key.id}  {','.join(key.scopes)}  {where}  {ends}  {used}  {key.description}".rstrip())


@keys_cli.command("revoke")
def keys_revoke(key_id: str, config: Config = None) -> None:
    """End a key at once."""
    with _told(), _migrated_url(_settings(config)) as url:
        if not asyncio.run(_revoke_key(url, key_id)):
            _fail(f"There is no key {key_id!r} that could be revoked; `ngt-renewal keys list` shows them.")
    typer.echo(f"{key_id} is revoked.")


async def _revoke_key(url: str, key_id: str) -> bool:
    async with _keys(url) as keys:
        return await keys.revoke(key_id)


@hosts_cli.command("scan")
def hosts_scan(address: Annotated[str, typer.Argument(help="host or host:port")]) -> None:
    """Print the fingerprints of a machine's host keys. Compare them with what its administrator tells you."""
    from app.ssh.host_keys import scan_host_keys

    with _told():
        host, port = _address(address)
        for key in asyncio.run(scan_host_keys(host, port, timeout_s=10)):
            typer.echo(f"{key.fingerprint}  {key.algorithm}")
    typer.echo(f"To trust one: ngt-renewal hosts trust {address} SHA256:… --known-hosts FILE", err=True)


@hosts_cli.command("trust")
def hosts_trust(
    address: Annotated[str, typer.Argument(help="host or host:port")],
    fingerprint: Annotated[str, typer.Argument(help="SHA256:… as its administrator told you")],
    known_hosts: Annotated[Path, typer.Option(help="The cluster's `known_hosts` file.")],
) -> None:
    """Pin the host key with this fingerprint, if the machine shows it now."""
    from app.ssh.host_keys import pin, scan_host_keys

    with _told():
        host, port = _address(address)
        shown = asyncio.run(scan_host_keys(host, port, timeout_s=10))
        key = next((key for key in shown if key.fingerprint == fingerprint), None)
        if key is None:
            seen = ", ".join(key.fingerprint for key in shown)
            _fail(f"{address} does not show {fingerprint}; it shows {seen}. Nothing was pinned.")
        try:
            done = "is pinned" if pin(known_hosts, key) else "was pinned already"
        except (OSError, UnicodeDecodeError) as refused:
            _fail(f"{known_hosts} cannot be written: {_reason(refused)}. Nothing was pinned.")
    typer.echo(f"{key.fingerprint} of {address} {done} in {known_hosts}.")


def _address(address: str) -> tuple[str, int]:
    try:
        return split_address(address)
    except ValueError as wrong:
        _fail(f"{wrong}.")


def _reason(refused: OSError | UnicodeDecodeError) -> str:
    if isinstance(refused, OSError) and refused.strerror:
        return f"{refused.strerror} ({refused.filename})" if refused.filename else refused.strerror
    return str(refused)


if __name__ == "__main__":
    main()

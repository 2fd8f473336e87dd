"""From a TOML file and the environment to `Settings`, or to one sentence for each fault, all of them at once."""

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from app.settings.auto_renew import AutoRenew, RenewWindow
from app.settings.callers.oidc import Oidc
from app.settings.callers.rate_limits import Callers
from app.settings.checks import faults_between_tables, faults_of_files
from app.settings.clusters import ClusterSettings, CommandSettings, GuestMatch, GuestSettings
from app.settings.limits import Limits, Table
from app.settings.retention import Retention
from app.settings.scans import ScanSettings
from app.settings.service import Settings, default_data_dir
from app.settings.warnings import Warnings
from app.settings.webhooks import BasicAuth, HeaderAuth, OAuthAuth, WebhookTarget

ENV_PREFIX = "NGT_RENEWAL_"
DEFAULT_FILES = (Path("ngt-renewal.toml"), Path("/etc/ngt-renewal/ngt-renewal.toml"))

_CONFIG = f"{ENV_PREFIX}CONFIG"
# Names that platforms set, which mean the same as the ones with the prefix.
_PLAIN_NAMES = ("DATABASE_URL", "DATABASE_URL_FILE", "PUBLIC_URL")
_SECRETS = frozenset({"database_url"})
# What a person may have put a credential into by mistake is not shown either.
_NOT_SHOWN = frozenset({"url", "token_url"})
# The tables that a variable can set a key of, as in `NGT_RENEWAL_LIMITS__LEASE_S`.
_OWN_TABLES: dict[str, type[Table]] = {
    "limits": Limits,
    "callers": Callers,
    "oidc": Oidc,
    "retention": Retention,
    "scan": ScanSettings,
    "warnings": Warnings,
}
_TABLES = frozenset({*_OWN_TABLES, "clusters", "webhooks"})
_TABLES_OF_WEBHOOKS: dict[tuple[int | str, ...], type[Table]] = {
    ("header",): HeaderAuth,
    ("basic",): BasicAuth,
    ("oauth",): OAuthAuth,
}


class SettingsError(Exception):
    """The configuration is refused; the message has a line for each fault."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(dict.fromkeys(faults))
        super().__init__("\n".join(self.faults))


def load_settings(toml_path: Path | None, environ: Mapping[str, str]) -> Settings:
    """The settings of one TOML file and of the environment, which wins. Raises SettingsError with every fault.

    `toml_path` None: the file that `NGT_RENEWAL_CONFIG` names, else the first of `DEFAULT_FILES` that there is, if any.
    `NGT_RENEWAL_PORT` sets `port`, `NGT_RENEWAL_LIMITS__LEASE_S` sets `limits.lease_s`, `NGT_RENEWAL_DATABASE_URL_FILE`
    names a file that holds `database_url`. A variable that is set to nothing counts as not set.
    """
    faults: list[str] = []
    tables = _read_toml(toml_path, environ, faults)
    _add_environment(tables, environ, faults)
    tables.setdefault("data_dir", str(default_data_dir(environ)))
    settings = None
    try:
        settings = Settings.model_validate(tables)
    except ValidationError as refused:
        faults += map(_sentence, refused.errors())
    faults += faults_between_tables(tables)
    faults += faults_of_files(tables)
    if faults or settings is None:
        raise SettingsError(faults)
    return settings


def _read_toml(toml_path: Path | None, environ: Mapping[str, str], faults: list[str]) -> dict[str, Any]:
    named = toml_path or (Path(environ[_CONFIG]) if environ.get(_CONFIG) else None)
    path = named or next((path for path in DEFAULT_FILES if path.is_file()), None)
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as wrong:
        faults.append(f"The configuration file {path} cannot be read: {os.strerror(wrong.errno or 0)}.")
    except ValueError as wrong:
        faults.append(f"The configuration file {path} is no TOML in UTF-8: {wrong}.")
    return {}


def _add_environment(tables: dict[str, Any], environ: Mapping[str, str], faults: list[str]) -> None:
    names = {key: key.removeprefix(ENV_PREFIX) for key in environ if key.startswith(ENV_PREFIX) and key != _CONFIG}
    names |= {key: key for key in _PLAIN_NAMES}
    given: dict[tuple[str, ...], str] = {}
    for variable, name in names.items():
        text = environ.get(variable)
        if not text:
            continue
        path = tuple(name.lower().split("__"))
        if path[-1].removesuffix("_file") in _SECRETS and path[-1].endswith("_file"):
            path = (path[-1].removesuffix("_file"),)
            text = _read_secret(variable, text, faults)
        if (fault := _fault_of_name(variable, path)) is not None:
            faults.append(fault)
        elif path in given:
            faults.append(f"{given[path]} and {variable} both set `{'.'.join(path)}`: keep one of them.")
        else:
            given[path] = variable
            _put(tables, path, text)


def _fault_of_name(variable: str, path: tuple[str, ...]) -> str | None:
    match path:
        case (name, key) if name in _OWN_TABLES:
            known, prefix = _OWN_TABLES[name].model_fields, f"{ENV_PREFIX}{name.upper()}__"
        case ("clusters" | "webhooks" as table, *_):
            return f"The environment variable {variable} is not read: {table} stand in the TOML file."
        case _:
            key, known, prefix = "__".join(path), Settings.model_fields, ENV_PREFIX
    if key in known and key not in _TABLES:
        return None
    close = difflib.get_close_matches(key, set(known) - _TABLES, n=1)
    hint = f"; did you mean {prefix}{close[0].upper()}?" if close else "."
    return f"The environment variable {variable} is no setting{hint}"


def _put(tables: dict[str, Any], path: tuple[str, ...], text: str) -> None:
    *above, key = path
    for name in above:
        table = tables.setdefault(name, {})
        if not isinstance(table, dict):
            return
        tables = table
    tables[key] = text


def _read_secret(variable: str, path: str, faults: list[str]) -> str:
    try:
        secret = Path(path).read_text(encoding="utf-8").strip()
    except OSError as wrong:
        faults.append(f"The file {path} that {variable} names cannot be read: {os.strerror(wrong.errno or 0)}.")
    except UnicodeDecodeError:
        faults.append(f"The file {path} that {variable} names is not in UTF-8.")
    else:
        return secret
    return "postgresql://"


def _sentence(error: ErrorDetails) -> str:
    location = error["loc"]
    where = "`" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)[1:] + "`"
    if error["type"] == "extra_forbidden":
        close = difflib.get_close_matches(str(location[-1]), _table_at(location[:-1]).model_fields, n=1)
        return f"{where} is no setting; did you mean `{close[0]}`?" if close else f"{where} is no setting."
    if error["type"] == "missing":
        return f"{where} is missing."
    said = error["msg"].removeprefix("Value error, ").rstrip(".")
    given = error["input"]
    shown = isinstance(given, str | int | float) and location[0] not in _SECRETS and location[-1] not in _NOT_SHOWN
    return f"{where} is refused: {said[:1].lower()}{said[1:]}" + (f" (it is {given!r})." if shown else ".")


def _table_at(location: tuple[int | str, ...]) -> type[BaseModel]:
    match location:
        case (str(name), *_) if name in _OWN_TABLES:
            return _OWN_TABLES[name]
        case ("clusters", _):
            return ClusterSettings
        case ("clusters", _, "commands"):
            return CommandSettings
        case ("clusters", _, "auto_renew"):
            return AutoRenew
        case ("clusters", _, "auto_renew", "windows", _):
            return RenewWindow
        case ("clusters", _, "guests", _):
            return GuestSettings
        case ("clusters", _, "guests", _, "match"):
            return GuestMatch
        case ("webhooks", _, *inner):
            return _TABLES_OF_WEBHOOKS.get(tuple(inner), WebhookTarget)
        case _:
            return Settings

"""Reads `Settings` from a TOML file and the environment; each fault becomes one sentence, and all are reported."""

import difflib
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from app.settings.checks import find_contradictions, find_unusable_files
from app.settings.settings import Settings, default_data_dir
from app.settings.table import Table

ENV_PREFIX = "NGT_RENEWAL_"
DEFAULT_FILES = (Path("ngt-renewal.toml"), Path("/etc/ngt-renewal/ngt-renewal.toml"))

_CONFIG = f"{ENV_PREFIX}CONFIG"
# Platforms set these names; they mean the same as the ones with the prefix.
_PLAIN_NAMES = ("DATABASE_URL", "DATABASE_URL_FILE", "PUBLIC_URL")
_SECRETS = frozenset({"database_url"})
# A URL may hold a credential by mistake, so it is not shown either.
_NOT_SHOWN = frozenset({"url", "token_url"})
_ONLY_IN_FILE = frozenset({"clusters", "webhooks"})


def _tables_in(annotation: object) -> Iterator[type[Table]]:
    if isinstance(annotation, type) and issubclass(annotation, Table):
        yield annotation
    for inner in get_args(annotation):
        yield from _tables_in(inner)


_TABLES = {name: table for name, field in Settings.model_fields.items() for table in _tables_in(field.annotation)}


class SettingsError(Exception):
    """The configuration is refused; the message has a line for each fault."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(dict.fromkeys(faults))
        super().__init__("\n".join(self.faults))


def load_settings(toml_path: Path | None, environ: Mapping[str, str]) -> Settings:
    """The settings of one TOML file and of the environment, which takes precedence.

    `toml_path` None: the file that `NGT_RENEWAL_CONFIG` names, else the first of `DEFAULT_FILES` that exists, if any.
    `NGT_RENEWAL_PORT` sets `port`, `NGT_RENEWAL_LIMITS__LEASE_S` sets `limits.lease_s`, `NGT_RENEWAL_DATABASE_URL_FILE`
    names a file that holds `database_url`. An empty variable counts as not set.

    Raises SettingsError with all faults of single values; when there are none, with all contradictions and files.
    """
    faults: list[str] = []
    tables = _read_toml(toml_path, environ, faults)
    _add_environment(tables, environ, faults)
    tables.setdefault("data_dir", str(default_data_dir(environ)))
    try:
        settings = Settings.model_validate(tables)
    except ValidationError as refused:
        raise SettingsError([*faults, *map(_sentence, refused.errors())]) from None
    faults += [*find_contradictions(settings), *find_unusable_files(settings)]
    if faults:
        raise SettingsError(faults)
    return settings


def _read_toml(toml_path: Path | None, environ: Mapping[str, str], faults: list[str]) -> dict[str, Any]:
    named = toml_path or (Path(environ[_CONFIG]) if environ.get(_CONFIG) else None)
    path = named or next((path for path in DEFAULT_FILES if path.is_file()), None)
    try:
        return {} if path is None else tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        faults.append(f"The configuration file {path} cannot be read: {error.strerror}.")
    except ValueError as error:
        faults.append(f"The configuration file {path} is not valid TOML in UTF-8: {error}.")
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
        if (secret := path[-1].removesuffix("_file")) in _SECRETS and secret != path[-1]:
            path = (secret,)
            text = _read_secret(variable, text, faults)
        if (fault := _fault_of_name(variable, path)) is not None:
            faults.append(fault)
        elif path in given:
            faults.append(f"{given[path]} and {variable} both set `{'.'.join(path)}`: keep one of them.")
        else:
            given[path] = variable
            _set(tables, path, text)


def _fault_of_name(variable: str, path: tuple[str, ...]) -> str | None:
    if path[0] in _ONLY_IN_FILE:
        return f"The environment variable {variable} is not read: {path[0]} belong in the TOML file."
    match path:
        case (name, key) if name in _TABLES:
            known, prefix = set(_TABLES[name].model_fields), f"{ENV_PREFIX}{name.upper()}__"
        case _:
            key, known, prefix = "__".join(path), Settings.model_fields.keys() - _TABLES.keys(), ENV_PREFIX
    if key in known:
        return None
    close = difflib.get_close_matches(key, known, n=1)
    hint = f"; did you mean {prefix}{close[0].upper()}?" if close else "."
    return f"The environment variable {variable} is not a setting{hint}"


def _set(tables: dict[str, Any], path: tuple[str, ...], text: str) -> None:
    *above, key = path
    for name in above:
        table = tables.setdefault(name, {})
        if not isinstance(table, dict):
            return
        tables = table
    tables[key] = text


def _read_secret(variable: str, path: str, faults: list[str]) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        faults.append(f"The file {path} that {variable} names cannot be read: {error.strerror}.")
    except UnicodeDecodeError:
        faults.append(f"The file {path} that {variable} names is not in UTF-8.")
    # A valid value, so that the fault is reported only once.
    return "postgresql://"


def _sentence(error: ErrorDetails) -> str:
    location = error["loc"]
    where = "`" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)[1:] + "`"
    if error["type"] == "extra_forbidden":
        close = difflib.get_close_matches(str(location[-1]), _table_at(location[:-1]).model_fields, n=1)
        return f"{where} is not a setting; did you mean `{close[0]}`?" if close else f"{where} is not a setting."
    if error["type"] == "missing":
        return f"{where} is missing."
    said = error["msg"].removeprefix("Value error, ").rstrip(".")
    given = error["input"]
    shown = isinstance(given, str | int | float) and location[0] not in _SECRETS and location[-1] not in _NOT_SHOWN
    return f"{where} is refused: {said[:1].lower()}{said[1:]}" + (f" (it is {given!r})." if shown else ".")


def _table_at(location: tuple[int | str, ...]) -> type[Table]:
    table: type[Table] = Settings
    for part in location:
        # Numbers, and the names of clusters and webhooks, are not fields: the table stays the same.
        field = table.model_fields.get(str(part))
        table = table if field is None else next(_tables_in(field.annotation), table)
    return table

"""Faults that no single value shows: between tables, and in the files that they name.

They are looked for in what was given, not in what was accepted, so that one fault does not hide another.
"""

import os
import re
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.settings.auto_renew import faults_of_auto_renew
from app.settings.clusters import split_address
from app.settings.limits import Limits
from app.settings.secret_files import (
    SecretRefusedError,
    is_open_to_others,
    read_header_file,
    read_secret_file,
    read_signing_file,
)
from app.settings.webhooks import secret_files

_CLUSTER_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_FIRST_AND_LAST = (("watch_first_interval_s", "watch_last_interval_s"), ("retry_first_s", "retry_last_s"))


def faults_between_tables(tables: dict[str, Any]) -> Iterator[str]:
    """Names of clusters, CVMs that stand twice, agents that nothing restarts, and what contradicts itself."""
    for name, _ in _clusters(tables):
        if not _CLUSTER_NAME.fullmatch(name):
            yield f"The cluster name {name!r} is refused: use 1 to 63 of a-z, 0-9 and hyphen, and no hyphen first."
    yield from _cvms_that_stand_twice(tables)
    for name, cluster in _clusters(tables):
        if cluster.get("restart_agent", "ssh") == "ssh" and not cluster.get("guests"):
            yield (
                f"Nothing could restart the agents of the cluster {name}: add a `guests` table with SSH access to its "
                'guests, or set `restart_agent = "manual"`.'
            )
        yield from faults_of_auto_renew(name, cluster)
    for name, target in _tables(tables, "webhooks"):
        clusters = target.get("clusters")
        for unknown in (
            sorted(set(map(str, clusters)) - set(dict(_clusters(tables)))) if isinstance(clusters, list) else ()
        ):
            yield f"`webhooks.{name}.clusters` is refused: there is no cluster {unknown!r} in the configuration."
    limits = tables.get("limits", {})
    for first, last in _FIRST_AND_LAST if isinstance(limits, dict) else ():
        if _number(limits, first) > _number(limits, last):
            yield f"`limits.{first}` is longer than `limits.{last}`."


def faults_of_files(tables: dict[str, Any]) -> Iterator[str]:
    """Files that cannot be read, key files that others can read, and files without the secret they should hold."""
    for name, cluster in _clusters(tables):
        yield from _faults_of_table(f"clusters.{name}", cluster)
        guests = cluster.get("guests")
        for number, guest in enumerate(guests if isinstance(guests, list) else ()):
            if isinstance(guest, dict):
                yield from _faults_of_table(f"clusters.{name}.guests[{number}]", guest)
    for name, target in _tables(tables, "webhooks"):
        yield from _faults_of_table(f"webhooks.{name}", target)
        yield from _faults_of_secrets(f"webhooks.{name}", target)


def _clusters(tables: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    return _tables(tables, "clusters")


def _tables(tables: dict[str, Any], kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    named = tables.get(kind)
    for name, table in named.items() if isinstance(named, dict) else ():
        if isinstance(table, dict):
            yield name, table


def _cvms_that_stand_twice(tables: dict[str, Any]) -> Iterator[str]:
    owners: dict[tuple[str, int], str] = {}
    for name, cluster in _clusters(tables):
        cvms = cluster.get("cvms")
        for cvm in cvms if isinstance(cvms, list) else ():
            try:
                address = split_address(cvm)
            except (ValueError, TypeError):
                continue
            owner = owners.get(address)
            if owner == name:
                yield f"The CVM {cvm} stands twice in the cluster {name}."
            elif owner is not None:
                yield f"The CVM {cvm} stands in the clusters {owner} and {name}: a CVM belongs to one cluster."
            owners.setdefault(address, name)


def _faults_of_table(where: str, table: dict[str, Any]) -> Iterator[str]:
    for key in ("key_file", "known_hosts", "ca_file"):
        path = table.get(key)
        if not isinstance(path, str):
            continue
        try:
            with Path(path).open("rb") as opened:
                opened.read(1)
                found = os.fstat(opened.fileno())
        except OSError as wrong:
            yield f"`{where}.{key}` is refused: {path} cannot be read: {os.strerror(wrong.errno or 0)}."
            continue
        if key == "key_file" and is_open_to_others(found):
            yield f"`{where}.{key}` is refused: {path} can be read by others; run `chmod 600 {path}`."
        if key == "ca_file" and not _holds_certificates(path):
            yield f"`{where}.{key}` is refused: {path} holds no certificates in PEM."


def _holds_certificates(path: str) -> bool:
    try:
        ssl.create_default_context(cafile=path)
    except OSError:
        return False
    return True


def _faults_of_secrets(where: str, target: dict[str, Any]) -> Iterator[str]:
    for setting, path in secret_files(target).items():
        signs = setting.startswith("secret_files") and target.get("profile", "standard") == "standard"
        read = read_signing_file if signs else read_header_file if setting == "header.value_file" else read_secret_file
        try:
            read(Path(path))
        except SecretRefusedError as refused:
            yield f"`{where}.{setting}` is refused: {refused}."


def _number(limits: dict[str, Any], key: str) -> float:
    try:
        return float(limits.get(key, Limits.model_fields[key].default))
    except (TypeError, ValueError):
        return 0.0

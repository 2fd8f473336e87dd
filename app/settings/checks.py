"""Faults that no single table shows: contradictions between tables, and files that cannot be used."""

import os
import re
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path

from app.ngt.renewal.request import RestartAgent
from app.settings.clusters.cluster import ClusterSettings, split_address
from app.settings.clusters.guests import GuestSettings
from app.settings.secret_files import (
    SecretRefusedError,
    is_open_to_others,
    read_header_file,
    read_secret_file,
    read_signing_file,
)
from app.settings.settings import Settings
from app.settings.webhooks import WebhookTarget

_CLUSTER_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_FIRST_AND_LAST = (("watch_first_interval_s", "watch_last_interval_s"), ("retry_first_s", "retry_last_s"))


def find_contradictions(settings: Settings) -> Iterator[str]:
    """A sentence for each fault between tables."""
    for name in settings.clusters:
        if not _CLUSTER_NAME.fullmatch(name):
            yield f"The cluster name {name!r} is refused: use 1 to 63 of a-z, 0-9 and hyphen, and no hyphen first."
    yield from _duplicate_cvms(settings.clusters)
    for name, cluster in settings.clusters.items():
        if cluster.restart_agent is RestartAgent.SSH and not cluster.guests:
            yield (
                f"Nothing could restart the agents of the cluster {name}: add a `guests` table with SSH access to its "
                'guests, or set `restart_agent = "manual"`.'
            )
        yield from _faults_of_auto_renew(name, cluster)
    for name, target in settings.webhooks.items():
        for unknown in sorted(set(target.clusters) - set(settings.clusters)):
            yield f"`webhooks.{name}.clusters` is refused: the cluster {unknown!r} is not configured."
    for first, last in _FIRST_AND_LAST:
        if getattr(settings.limits, first) > getattr(settings.limits, last):
            yield f"`limits.{first}` is longer than `limits.{last}`."


def find_unusable_files(settings: Settings) -> Iterator[str]:
    """A sentence for each file that cannot be read, that others can read, or that lacks its secret."""
    for name, cluster in settings.clusters.items():
        yield from _faults_of_ssh_files(f"clusters.{name}", cluster)
        for number, guest in enumerate(cluster.guests):
            yield from _faults_of_ssh_files(f"clusters.{name}.guests[{number}]", guest)
    for name, target in settings.webhooks.items():
        if target.ca_file is not None:
            yield from _faults_of_file(f"webhooks.{name}.ca_file", target.ca_file)
        yield from _faults_of_secrets(f"webhooks.{name}", target)


def _duplicate_cvms(clusters: Mapping[str, ClusterSettings]) -> Iterator[str]:
    owners: dict[tuple[str, int], str] = {}
    for name, cluster in clusters.items():
        for cvm in cluster.cvms:
            address = split_address(cvm)
            owner = owners.get(address)
            if owner == name:
                yield f"The CVM {cvm} is listed twice in the cluster {name}."
            elif owner is not None:
                yield f"The CVM {cvm} is listed in the clusters {owner} and {name}: a CVM belongs to one cluster."
            owners.setdefault(address, name)


def _faults_of_auto_renew(name: str, cluster: ClusterSettings) -> Iterator[str]:
    where, rules = f"clusters.{name}.auto_renew", cluster.auto_renew
    at_once = rules.at_most_at_once
    for other, most in (("max_running", cluster.max_running), ("at_most_per_day", rules.at_most_per_day)):
        # The default of `at_most_at_once` contradicts nothing.
        if "at_most_at_once" in rules.model_fields_set and at_once > most:
            yield f"`{where}.at_most_at_once` is refused: {at_once} is more than `{other}` allows, which is {most}."
    if rules.restart_agent is RestartAgent.SSH and not cluster.guests:
        yield f"`{where}.restart_agent` is refused: the cluster {name} has no `guests` table with SSH access to guests."
    if rules.enabled and rules.restart_agent is None and cluster.restart_agent is RestartAgent.MANUAL:
        yield (
            f"`{where}` is refused: on the cluster {name} a person restarts the agents, so each automatic renewal "
            f'would wait for a person; write `restart_agent = "manual"` there too if that is intended.'
        )


def _faults_of_ssh_files(where: str, access: ClusterSettings | GuestSettings) -> Iterator[str]:
    yield from _faults_of_file(f"{where}.key_file", access.key_file)
    yield from _faults_of_file(f"{where}.known_hosts", access.known_hosts)


def _faults_of_file(where: str, path: Path) -> Iterator[str]:
    try:
        with path.open("rb") as opened:
            opened.read(1)
            found = os.fstat(opened.fileno())
    except OSError as error:
        yield f"`{where}` is refused: {path} cannot be read: {error.strerror}."
        return
    if where.endswith("key_file") and is_open_to_others(found):
        yield f"`{where}` is refused: {path} can be read by others; run `chmod 600 {path}`."
    if where.endswith("ca_file") and not _holds_certificates(path):
        yield f"`{where}` is refused: {path} holds no certificates in PEM."


def _holds_certificates(path: Path) -> bool:
    try:
        ssl.create_default_context(cafile=path)
    except OSError:
        return False
    return True


def _faults_of_secrets(where: str, target: WebhookTarget) -> Iterator[str]:
    for setting, path in target.secret_paths().items():
        signs = setting.startswith("secret_files") and target.profile == "standard"
        read = read_signing_file if signs else read_header_file if setting == "header.value_file" else read_secret_file
        try:
            read(path)
        except SecretRefusedError as refused:
            yield f"`{where}.{setting}` is refused: {refused}."

"""What both contenders work on: simulated clusters behind a real OpenSSH server, and simulated guests.

The tools are small programs on the PATH of the configured profile; what they do to the cluster is the simulator's, in a
process of its own (`python -m tests.bench.site <directory> <clusters> <vms>`), so a renewal really renews. For scans
the VMs are as large as real ones are in a listing, and their guests have no servers.
"""

import asyncio
import json
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.settings import ClusterSettings
from app.simulator.control import order
from app.simulator.spec import WAVES, Traits, uniform_site
from app.simulator.standalone import CONFIGURATION_FILE, CONTROL_FILE, run_site
from tests.ssh.sshd import Sshd, running_sshd

ROOT = Path(__file__).resolve().parents[2]
_START_LIMIT_S = 120.0
# OpenSSH listens at sixteen, of which 127.0.0.1 is always one.
_MOST_ADDRESSES = 15
# A real record of `ncli vm ls -json=true` takes 5 KB.
_PADDING_BYTES = 4400


@dataclass(frozen=True, slots=True)
class BenchSite:
    """A running site. `vms`: the UUIDs by cluster; `clusters`: their configuration, whose CVMs are the real `sshd`."""

    control_port: int
    vms: dict[str, list[str]]
    clusters: dict[str, dict[str, Any]]
    sshd: Sshd

    def settings_of(self, name: str) -> ClusterSettings:
        return ClusterSettings.model_validate(self.clusters[name])

    async def set_latency(self, seconds_by_tool: dict[str, float]) -> None:
        """What each tool takes from now on, without using CPU."""
        for tool, seconds in seconds_by_tool.items():
            await order(self.control_port, "latency", tool=tool, seconds=seconds)

    async def records(self, kind: str, after: int = 0) -> list[dict[str, Any]]:
        """The simulator's journal of `tool`, `guest` or `login`, from the record after that number on."""
        found: list[dict[str, Any]] = await order(self.control_port, "journal", kind=kind, after=after)
        return found

    def texts(self) -> int:
        """How many texts the CVMs' `sshd` was sent so far."""
        return self.sshd.log.read_text("utf-8", "replace").count("Starting session: command")


@contextmanager
def running_bench_site(folder: Path, *, clusters: int, vms: int, for_scans: bool = False) -> Iterator[BenchSite]:
    """`clusters` clusters of `vms` VMs each; each cluster's one CVM is an address of the same `sshd`."""
    site = folder / "site"
    kind = ["scans"] if for_scans else []
    arguments = [sys.executable, "-m", "tests.bench.site", str(site), str(clusters), str(vms), *kind]
    with (folder / "site.log").open("wb") as log:
        process = subprocess.Popen(arguments, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    try:
        control = _control_of(site / CONTROL_FILE, process)
        simulated = tomllib.loads((site / CONFIGURATION_FILE).read_text("utf-8"))["clusters"]
        with ExitStack() as servers:
            tables: dict[str, dict[str, Any]] = {}
            places = [f"127.0.0.{number}" for number in range(1, clusters + 1)]
            sshds = [
                servers.enter_context(_sshd_at(folder / f"sshd{first}", places[first : first + _MOST_ADDRESSES]))
                for first in range(0, clusters, _MOST_ADDRESSES)
            ]
            for number, (name, table) in enumerate(simulated.items()):
                sshd = sshds[number // _MOST_ADDRESSES]
                tables[name] = _behind_sshd(table, sshd, places[number], site / f"profile.{name}-cvm0")
            uuids = {name: list(names) for name, names in control["vms"].items()}
            yield BenchSite(control["control_port"], uuids, tables, sshds[0])
    finally:
        process.terminate()
        process.wait(timeout=_START_LIMIT_S)


@contextmanager
def _sshd_at(folder: Path, addresses: list[str]) -> Iterator[Sshd]:
    """One server at all of these, the first of which is 127.0.0.1 or not the server's own."""
    lines = [f"ListenAddress {address}" for address in addresses if address != "127.0.0.1"]
    with running_sshd(folder, lines=["MaxSessions 10", *lines]) as sshd:
        own = sshd.known_hosts.read_text("ascii")
        sshd.known_hosts.write_text(own + "".join(own.replace("127.0.0.1", address) for address in addresses))
        yield sshd


def _control_of(path: Path, process: subprocess.Popen[bytes]) -> dict[str, Any]:
    give_up_s = time.monotonic() + _START_LIMIT_S
    while not path.exists():
        if process.poll() is not None or time.monotonic() > give_up_s:
            raise RuntimeError(f"the simulated site did not start; see {path.parent.parent}/site.log")
        time.sleep(0.05)
    control: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return control


def _behind_sshd(table: dict[str, Any], sshd: Sshd, address: str, profile: Path) -> dict[str, Any]:
    return {
        **table,
        "cvms": [f"{address}:{sshd.port}"],
        "username": sshd.username,
        "key_file": str(sshd.key_file),
        "known_hosts": str(sshd.known_hosts),
        "prove_first": False,
        "commands": {"profile": str(profile)},
    }


def main(directory: str, clusters: str, vms: str, kind: str = "renewals") -> None:
    """Runs the simulated part until it is ended."""
    if kind == "scans":
        spec = uniform_site(
            vms=int(vms),
            cvms=1,
            clusters=int(clusters),
            traits=Traits(listing_padding_bytes=_PADDING_BYTES),
            waves=WAVES,
            guests_reachable=False,
        )
    else:
        spec = uniform_site(vms=int(vms), cvms=1, clusters=int(clusters))
    asyncio.run(run_site(Path(directory), spec, lambda _: None))


if __name__ == "__main__":
    main(*sys.argv[1:])

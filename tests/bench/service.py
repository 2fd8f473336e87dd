"""The service as its own process on its embedded PostgreSQL, and what it costs: CPU, memory, and how it is called."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.bench.site import ROOT

_SCOPES = "vms:read,jobs:read,renew,jobs:cancel,clusters:scan,admin"
_START_LIMIT_S = 60.0
_RENEWALS_LIMIT_S = 300.0
_POLL_S = 0.25


@dataclass(frozen=True, slots=True)
class Cpu:
    """CPU seconds, user and system, since the start of the processes."""

    service_s: float
    postgres_s: float

    def since(self, earlier: "Cpu") -> "Cpu":
        return Cpu(self.service_s - earlier.service_s, self.postgres_s - earlier.postgres_s)


@dataclass(frozen=True, slots=True)
class Service:
    """A running service."""

    process: psutil.Process
    postgres: psutil.Process
    url: str
    key: str
    database_url: str

    def cpu(self) -> Cpu:
        service = self.process.cpu_times()
        # Of a backend that has ended, the time is the postmaster's children's.
        own = self.postgres.cpu_times()
        postgres_s = own.user + own.system + own.children_user + own.children_system
        for backend in self.postgres.children(recursive=True):
            try:
                times = backend.cpu_times()
            except psutil.NoSuchProcess:
                continue
            postgres_s += times.user + times.system
        return Cpu(service.user + service.system, postgres_s)

    def rss_mib(self) -> float:
        return float(self.process.memory_info().rss) / 2**20

    def forget_peak(self) -> None:
        """From now on `peak_mib` is of what comes."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5", encoding="ascii")

    def peak_mib(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024

    def client(self, *, connections: int = 20) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=connections)
        return httpx.AsyncClient(base_url=self.url, headers={"X-API-Key": self.key}, timeout=60, limits=limits)


@contextmanager
def running_service(
    folder: Path,
    clusters: Mapping[str, Mapping[str, object]],
    *,
    workers: int,
    start: tuple[str, ...] = (),
    settings: tuple[str, ...] = (),
) -> Iterator[Service]:
    """The service with these clusters and lines of TOML; `start` goes before its command line, such as a profiler."""
    configuration = folder / "ngt-renewal.toml"
    port = _free_port()
    lines = [f'data_dir = "{folder / "data"}"', f"port = {port}", f"worker_concurrency = {workers}"]
    lines += ['scan.schedule = "off"', *settings]
    lines += [f"clusters.{name} = {_inline(table)}" for name, table in clusters.items()]
    configuration.write_text("\n".join([*lines, ""]), encoding="utf-8")
    log = folder / "service.log"
    command = [*(start or (sys.executable, "-m")), "app", "serve", "--config", str(configuration)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=_environment(), stdout=output, stderr=output, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_ready(url, process, log)
        postmaster, _, _, port_of_socket, socket_folder, *_ = (
            next((folder / "data").rglob("postmaster.pid")).read_text().splitlines()
        )
        database_url = f"postgresql://postgres@/ngt?host={socket_folder}&port={port_of_socket}"
        key = subprocess.run(
            [sys.executable, "-m", "app", "keys", "create", "--config", str(configuration), "--scopes", _SCOPES],
            cwd=ROOT, env=_environment(), check=True, capture_output=True, text=True, timeout=_START_LIMIT_S,
        ).stdout.strip()  # fmt: skip
        yield Service(psutil.Process(process.pid), psutil.Process(int(postmaster)), url, key, database_url)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=_START_LIMIT_S)


async def renew_all(
    client: httpx.AsyncClient, vm_uuids: list[str], cluster: str, body: Mapping[str, object] | None = None
) -> float:
    """POSTs a renewal for each VM, waits until all are done, and gives the seconds from the first POST to the last end.

    Raises RuntimeError when one was not renewed.
    """
    begun_at = time.time()
    job_ids = await post_all(client, vm_uuids, cluster, body)
    await wait_until_done(client, cluster)
    ended_at = begun_at
    for first in range(0, len(job_ids), 100):
        page = await _get(client, "/jobs", job_ids=",".join(job_ids[first : first + 100]), limit="100")
        for job in page["items"]:
            if job.get("outcome") != "renewed":
                raise RuntimeError(f"a job ended as {job['status']}: {job['message']}")
            ended_at = max(ended_at, datetime.fromisoformat(job["finished_at"]).timestamp())
    return ended_at - begun_at


async def post_all(
    client: httpx.AsyncClient, vm_uuids: list[str], cluster: str, body: Mapping[str, object] | None = None
) -> list[str]:
    """Starts a renewal of each VM, ten at a time; gives the ids of the jobs."""
    turn = asyncio.Semaphore(10)

    async def post(vm_uuid: str) -> str:
        async with turn:
            answer = await client.post(f"/vms/{vm_uuid}/ngt/renew", json={"cluster": cluster, **(body or {})})
        answer.raise_for_status()
        return str(answer.json()["id"])

    return list(await asyncio.gather(*(post(vm_uuid) for vm_uuid in vm_uuids)))


async def wait_until_done(client: httpx.AsyncClient, cluster: str) -> None:
    """Until the cluster has no open job."""
    await _until_none(client, {"done": "false", "cluster": cluster})


async def wait_until_waiting(client: httpx.AsyncClient, cluster: str) -> None:
    """Until no job of the cluster is queued or runs."""
    for status in ("queued", "running", "queued"):
        await _until_none(client, {"status": status, "cluster": cluster})


async def read_log(client: httpx.AsyncClient, job_id: str) -> str:
    answer = await client.get(f"/jobs/{job_id}/log")
    answer.raise_for_status()
    return answer.text


async def _until_none(client: httpx.AsyncClient, filters: Mapping[str, str]) -> None:
    give_up_s = time.monotonic() + _RENEWALS_LIMIT_S
    while open_jobs := (await _get(client, "/jobs", limit="1", **filters))["items"]:
        if time.monotonic() > give_up_s:
            job = open_jobs[0]
            raise RuntimeError(f"a job is still {job['status']}: {job['message']}")
        await asyncio.sleep(_POLL_S)


async def _get(client: httpx.AsyncClient, path: str, **query: str) -> dict[str, Any]:
    answer = await client.get(path, params=query)
    answer.raise_for_status()
    body: dict[str, Any] = answer.json()
    return body


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    give_up_s = time.monotonic() + _START_LIMIT_S
    while True:
        try:
            if httpx.get(f"{url}/readyz", timeout=5).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            # It does not listen yet.
            pass
        if process.poll() is not None or time.monotonic() > give_up_s:
            raise RuntimeError(f"the service did not start:\n{log.read_text('utf-8', 'replace')[-2000:]}")
        time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _environment() -> dict[str, str]:
    """Ours without what would send the service to another database or cluster."""
    others = ("NGT_RENEWAL_", "DATABASE_URL", "PUBLIC_URL")
    return {name: value for name, value in os.environ.items() if not name.startswith(others)}


def _inline(value: object) -> str:
    """A value as TOML writes it on one line; JSON's strings, numbers and booleans are TOML's too."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_inline(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return json.dumps(value, ensure_ascii=False)

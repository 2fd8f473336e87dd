"""Reading the VMs of the largest site: a page, all pages, a file, and the forecast."""

import statistics
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg

from app.store.embedded.server import start_embedded
from tests.bench.service import Cpu, Service, running_service

VMS = 25_000
PAGE = 200
_CLUSTERS = 20
_REPEATED = 30
# What a scan knows of each VM. Dates lie in waves of a week; of every hundredth VM none is known.
_FILL = """
INSERT INTO vm (vm_uuid, cluster, name, power, addresses, ngt_enabled, iso_mounted, link_active, vss_snapshot,
  file_level_restore, communication_type, ngt_uuid, has_entity, first_seen_at, last_seen_at, certificate_source,
  certificate_observed_at, not_before, not_after, serial, fingerprint, subject, issuer)
SELECT gen_random_uuid(), 'c' || n %% %(clusters)s + 1, 'vm-' || lpad(n::text, 5, '0'), 'on',
  ARRAY['10.' || n / 65536 || '.' || n / 256 %% 256 || '.' || n %% 256, 'fe80::' || to_hex(n)], true, false, true, true,
  false, 'kSsl', gen_random_uuid(), true, now() - interval '400 days', now(), 'guest_certificate', now(),
  ends - interval '1000 days', ends, md5(n::text), md5(n::text) || md5((-n)::text), 'CN=' || gen_random_uuid(),
  'CN=Nutanix Guest Tools'
FROM generate_series(1, %(vms)s) AS n, LATERAL (
  SELECT CASE WHEN n %% 100 > 0 THEN date_trunc('second', now())
    + make_interval(days => n %% 143 * 7 + n %% 7 - 20, secs => n) END AS ends) AS wave
"""


@dataclass(frozen=True, slots=True)
class VmFile:
    """The file of all VMs; `before_mib` and `peak_mib` are of the service's memory (RSS)."""

    seconds: float
    size_mib: float
    cpu: Cpu
    before_mib: float
    peak_mib: float


@dataclass(frozen=True, slots=True)
class VmReads:
    """Milliseconds of an answer: the median of some, and the mean of all pages one after the other."""

    first_page_ms: float
    by_name_ms: float
    each_page_ms: float
    forecast_ms: float
    file: VmFile


async def measure_vms(folder: Path) -> VmReads:
    """Of a service in which nothing else happens."""
    key_file = folder / "unused_key"
    key_file.touch(mode=0o600)
    files = {"key_file": str(key_file), "known_hosts": str(key_file)}
    # Nobody listens there, and nobody has a reason to ask.
    clusters = {
        f"c{number}": {"cvms": [f"127.0.1.{number}:9"], "restart_agent": "manual", **files}
        for number in range(1, _CLUSTERS + 1)
    }
    with running_service(folder, clusters, workers=4) as service:
        _fill(folder / "data")
        async with service.client() as client:
            # First, while the service has no memory yet that it could use again.
            file = await _file(service, client)
            return VmReads(
                first_page_ms=await _median_ms(client, f"/vms?limit={PAGE}"),
                by_name_ms=await _median_ms(client, f"/vms?limit={PAGE}&sort=name"),
                each_page_ms=await _each_page_ms(client),
                forecast_ms=await _median_ms(client, "/forecast"),
                file=file,
            )


def rows_of_vms(reads: VmReads) -> list[tuple[str, str, str, str]]:
    """The rows of the page."""
    file = reads.file
    grown_mib = max(file.peak_mib - file.before_mib, 0.0)
    spent = f"CPU {file.cpu.service_s:.1f} s, and PostgreSQL {file.cpu.postgres_s:.1f} s"
    pages = f"{reads.first_page_ms:.0f} ms; all {VMS // PAGE} pages: {reads.each_page_ms:.0f} ms each"
    return [
        (f"A page of {PAGE} of {VMS:,} VMs, by expiry", pages, "", ""),
        (f"A page of {PAGE} of {VMS:,} VMs, by name", f"{reads.by_name_ms:.0f} ms", "", ""),
        (f"Forecast of {VMS:,} VMs on {_CLUSTERS} clusters", f"{reads.forecast_ms:.0f} ms", "", ""),
        (
            f"{VMS:,} VMs as CSV, {file.size_mib:.0f} MiB",
            f"{file.seconds:.1f} s; {spent}; at most {grown_mib:.0f} MiB more, {file.peak_mib:.0f} MiB in all",
            "",
            "bounded memory",
        ),
    ]


def _fill(data: Path) -> None:
    # The service's own server: this only asks where it listens.
    with closing(start_embedded(data)) as server, psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(_FILL, {"vms": VMS, "clusters": _CLUSTERS})
        connection.execute("ANALYZE vm")


async def _median_ms(client: httpx.AsyncClient, path: str) -> float:
    taken: list[float] = []
    for _ in range(_REPEATED):
        begun_s = time.monotonic()
        (await client.get(path)).raise_for_status()
        taken.append((time.monotonic() - begun_s) * 1000)
    return statistics.median(taken)


async def _each_page_ms(client: httpx.AsyncClient) -> float:
    begun_s, pages, seen = time.monotonic(), 0, 0
    link: str | None = f"/vms?limit={PAGE}"
    while link is not None:
        answer = (await client.get(link)).raise_for_status()
        pages, seen = pages + 1, seen + len(answer.json()["items"])
        link = answer.links.get("next", {}).get("url")
    if seen != VMS:
        raise RuntimeError(f"the pages have {seen} VMs")
    return (time.monotonic() - begun_s) * 1000 / pages


async def _file(service: Service, client: httpx.AsyncClient) -> VmFile:
    before_mib = service.rss_mib()
    service.forget_peak()
    before, begun_s, size, lines = service.cpu(), time.monotonic(), 0, 0
    async with client.stream("GET", "/vms", headers={"Accept": "text/csv"}) as answer:
        async for piece in answer.raise_for_status().aiter_raw():
            size, lines = size + len(piece), lines + piece.count(b"\n")
    seconds = time.monotonic() - begun_s
    if lines != VMS + 1:
        raise RuntimeError(f"the file has {lines} lines")
    return VmFile(seconds, size / 2**20, service.cpu().since(before), before_mib, service.peak_mib())

"""The answer of `/metrics`, read with the parser of Prometheus' own client."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import func, insert, update

from app.api.monitoring.inventory_metrics import _OF_VMS, CompressedBeginning, InventoryMetrics, _Alone, _pieces
from app.settings import AutoRenew, Settings
from app.store.inventory.counts import CertificateCounts, Counted, VmTimes
from app.store.postgres.tables import CLUSTER, VM
from app.store.records.jobs import JobStatus
from tests.api.conftest import EVERYTHING, RENEW, Service, assert_problem, serving

OF_VMS = {
    "ngt_client_cert_not_before_timestamp_seconds",
    "ngt_client_cert_not_after_timestamp_seconds",
    "ngt_client_cert_observed_timestamp_seconds",
    "ngt_link_active",
}
DAY_S = 86400


def families(answer: httpx.Response) -> dict[str, Metric]:
    assert answer.status_code == 200
    parsed = list(text_string_to_metric_families(answer.text))
    # The parser takes the ending off the names of counters.
    named = {f"{family.name}_total" if family.type == "counter" else family.name: family for family in parsed}
    assert len(named) == len(parsed), "a family stands twice"
    return named


def samples(answer: httpx.Response, name: str) -> dict[str, float]:
    """The values by their first label."""
    found = families(answer)[name].samples
    return {next(iter(sample.labels.values()), ""): sample.value for sample in found}


async def add_vm(service: Service, name: str | None, **columns: Any) -> str:
    vm_uuid = str(uuid4())
    async with service.services.store.database.transaction() as connection:
        row = {"cluster": "c1", **columns}
        await connection.execute(insert(VM).values(vm_uuid=vm_uuid, name=name, **row))
    return vm_uuid


@pytest_asyncio.fixture
async def large(settings: Settings, database_url: str) -> AsyncIterator[Service]:
    """A service that has no series of VMs."""
    async with serving(settings.model_copy(update={"metrics_per_vm": False}), database_url) as running:
        yield running


async def test_metrics_count_what_is_stored(service: Service, caller: httpx.AsyncClient) -> None:
    job = (await caller.post(RENEW, json={"cluster": "c1"})).json()
    answer = await caller.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert samples(answer, "ngt_renew_jobs") == {"queued": 1, "waiting": 0, "running": 0}
    assert samples(answer, "ngt_renew_oldest_queued_timestamp_seconds").keys() == {""}
    await service.leave(job["id"], status=JobStatus.WAITING, stranded_since=job["created_at"])
    answer = await caller.get("/metrics")
    assert samples(answer, "ngt_stranded_vms") == {"c1": 1, "c2": 0, "c3": 0}
    assert samples(answer, "ngt_vms_awaiting_pickup") == {"c1": 0, "c2": 0, "c3": 0}
    assert not samples(answer, "ngt_renew_oldest_queued_timestamp_seconds")


async def test_a_vm_has_its_dates_its_link_and_its_bucket(service: Service, caller: httpx.AsyncClient) -> None:
    now_s = 1_795_000_000
    vm_uuid = await add_vm(
        service,
        "web01",
        not_before=func.to_timestamp(now_s),
        not_after=func.now() + func.make_interval(0, 0, 0, 20),
        certificate_observed_at=func.to_timestamp(now_s + DAY_S),
        certificate_source="guest_certificate",
        link_active=True,
    )
    answer = await caller.get("/metrics")
    found = families(answer)
    for name in OF_VMS:
        (sample,) = found[name].samples
        assert sample.labels == {"cluster": "c1", "vm_uuid": vm_uuid, "vm_name": "web01"}
    assert found["ngt_client_cert_not_before_timestamp_seconds"].samples[0].value == now_s
    assert found["ngt_client_cert_observed_timestamp_seconds"].samples[0].value == now_s + DAY_S
    assert found["ngt_link_active"].samples[0].value == 1
    earliest = samples(answer, "ngt_client_cert_earliest_not_after_timestamp_seconds")
    assert earliest == {"c1": found["ngt_client_cert_not_after_timestamp_seconds"].samples[0].value}
    buckets = found["ngt_client_certs"].samples
    assert [sample.labels for sample in buckets if sample.value] == [{"cluster": "c1", "bucket": "lt30d"}]
    assert len(buckets) == 3 * 6
    assert samples(answer, "ngt_vms") == {"c1": 1, "c2": 0, "c3": 0}


async def test_a_large_site_has_the_counts_and_no_series_of_its_vms(large: Service) -> None:
    await add_vm(
        large, "web01", not_after=func.now(), link_active=True, certificate_observed_at=func.now(),
        certificate_source="pushed_certificate",
    )  # fmt: skip
    async with large.client(await large.key()) as client:
        answer = await client.get("/metrics")
    assert "web01" not in answer.text
    found = families(answer)
    assert all(not found[name].samples for name in OF_VMS)
    assert samples(answer, "ngt_vms")["c1"] == 1
    assert samples(answer, "ngt_client_cert_earliest_not_after_timestamp_seconds").keys() == {"c1"}
    assert samples(answer, "ngt_client_cert_oldest_observed_timestamp_seconds").keys() == {"c1"}


async def test_scans_pauses_and_stopped_renewals_of_each_cluster_are_told(
    service: Service, caller: httpx.AsyncClient
) -> None:
    at = func.to_timestamp(1_795_000_000)
    async with service.services.store.database.transaction() as connection:
        changed = {"scanned_at": at, "scan_fault_at": at, "paused_at": at, "auto_stopped_at": at}
        await connection.execute(update(CLUSTER).where(CLUSTER.c.name == "c2").values(**changed))
    await add_vm(service, "web01", cluster="c2", renewed_at=at, awaiting_pickup_since=at)
    answer = await caller.get("/metrics")
    for name in (
        "ngt_scan_last_success_timestamp_seconds",
        "ngt_scan_last_failure_timestamp_seconds",
        "ngt_renew_last_success_timestamp_seconds",
        "ngt_vms_oldest_awaiting_pickup_timestamp_seconds",
    ):
        assert samples(answer, name) == {"c2": 1_795_000_000}, name
    for name in ("ngt_cluster_paused", "ngt_auto_renew_stopped"):
        assert samples(answer, name) == {"c1": 0, "c2": 1, "c3": 0}, name


async def test_it_is_told_where_automatic_renewal_is_on(settings: Settings, database_url: str) -> None:
    automatic = settings.clusters["c2"].model_copy(update={"auto_renew": AutoRenew(enabled=True)})
    clusters = {**settings.clusters, "c2": automatic}
    switched_on = settings.model_copy(update={"clusters": clusters})
    async with serving(switched_on, database_url) as running, running.client(await running.key()) as client:
        told = samples(await client.get("/metrics"), "ngt_auto_renew_enabled")
    assert told == {"c1": 0, "c2": 1, "c3": 0}


async def test_the_end_of_an_api_key_is_told_by_its_id(service: Service) -> None:
    token = await service.key(expires_s=5 * DAY_S)
    async with service.client(token) as client:
        ends = samples(await client.get("/metrics"), "ngt_api_token_expiry_timestamp_seconds")
    assert ends.keys() == {token.split("_")[1]}


async def test_a_key_for_some_clusters_may_not_see_them_all(service: Service) -> None:
    await add_vm(service, "web01")
    async with service.client(await service.key(*EVERYTHING, clusters=frozenset({"c1"}))) as limited:
        assert_problem(await limited.get("/metrics"), 403, "target-not-allowed")


NAMES = [
    'quo"ted',
    "back\\slash",
    "two\nlines",
    "\\n",
    'all "of\\n\n" it\\',
    "имя 名前 اسم 🖥",
    "tab\tand\rreturn",
    "",
    " ",
]


async def test_names_of_any_script_and_with_any_sign_come_out_as_they_are(
    service: Service, caller: httpx.AsyncClient
) -> None:
    stored = {await add_vm(service, name, link_active=False): name for name in NAMES}
    nameless = await add_vm(service, None, link_active=False)
    answer = await caller.get("/metrics")
    found = {
        sample.labels["vm_uuid"]: sample.labels["vm_name"] for sample in families(answer)["ngt_link_active"].samples
    }
    assert found == {**stored, nameless: ""}


@pytest.mark.parametrize("coding", ["gzip", "gzip;q=0.5", "deflate, GZIP", "br;q=1.0, gzip; q=1, *;q=0", "x-gzip"])
async def test_who_takes_gzip_gets_it_and_reads_the_same(
    service: Service, caller: httpx.AsyncClient, coding: str
) -> None:
    await add_vm(service, "web01", link_active=True)
    answer = await caller.get("/metrics", headers={"Accept-Encoding": coding})
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["vary"] == "Accept-Encoding"
    assert "ngt_build_info" in families(answer)
    assert samples(answer, "ngt_link_active") == {"c1": 1}


@pytest.mark.parametrize("coding", ["identity", "", "gzip;q=0", "gzip;q=0.000", "*", "br, deflate", "gzipped"])
async def test_who_does_not_take_gzip_gets_the_plain_text(
    service: Service, caller: httpx.AsyncClient, coding: str
) -> None:
    answer = await caller.get("/metrics", headers={"Accept-Encoding": coding})
    assert "content-encoding" not in answer.headers
    assert samples(answer, "ngt_vms") == {"c1": 0, "c2": 0, "c3": 0}


async def test_the_text_of_vms_is_written_once_for_all_who_ask_within_some_seconds(service: Service) -> None:
    now_s = 0.0
    counts = CertificateCounts(service.services.store.database)
    inventory = InventoryMetrics(counts, ["c1"], per_vm=True, shared_s=5, now_s=lambda: now_s)
    together = await asyncio.gather(*(inventory.text() for _ in range(10)))
    now_s = 4.9
    first = await inventory.text()
    assert all(text is first for text in together)
    now_s = 5.0
    assert await inventory.text() is not first


async def test_one_who_goes_away_does_not_end_the_writing_for_the_others(service: Service) -> None:
    counts = CertificateCounts(service.services.store.database)
    inventory = InventoryMetrics(counts, ["c1"], per_vm=True)
    first, second = asyncio.create_task(inventory.text()), asyncio.create_task(inventory.text())
    await asyncio.sleep(0)
    first.cancel()
    assert await second is await inventory.text()
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_what_is_not_of_vms_is_always_new(service: Service, caller: httpx.AsyncClient) -> None:
    for paused in (1, 0, 1):
        (await caller.post(f"/admin/{'pause' if paused else 'resume'}")).raise_for_status()
        assert samples(await caller.get("/metrics"), "ngt_executions_paused") == {"": paused}


async def test_requests_are_timed_by_the_template_of_their_route(service: Service, caller: httpx.AsyncClient) -> None:
    await caller.get(f"/jobs/{uuid4()}")
    await caller.get(f"/jobs/{uuid4()}")
    await caller.get("/nowhere/at/all")
    await caller.request("BREW", "/livez")
    await caller.head("/livez")
    found = families(await caller.get("/metrics"))["http_server_request_duration_seconds"].samples
    labels = ("http_route", "http_request_method", "http_response_status_code")
    counted = [sample for sample in found if sample.name.endswith("_count")]
    assert {tuple(sample.labels[label] for label in labels): sample.value for sample in counted} == {
        ("/jobs/{job_id}", "GET", "404"): 2,
        ("", "GET", "404"): 1,
        ("/livez", "_OTHER", "405"): 1,
        ("/livez", "GET", "200"): 1,
    }


@given(st.lists(st.tuples(st.text(), st.floats(allow_nan=False)), max_size=20))
def test_the_lines_of_vms_are_read_as_the_clients_own_lines_are(named: list[tuple[str, float]]) -> None:
    vms = [
        VmTimes(name, str(number), name, value, value, None, value if number % 2 else None)
        for number, (name, value) in enumerate(named)
    ]
    for name, meaning, place in _OF_VMS:
        own = GaugeMetricFamily(name, meaning, labels=["cluster", "vm_uuid", "vm_name"])
        for vm in vms:
            value = vm[place]
            if isinstance(value, float):
                own.add_metric(vm[:3], value)
        counted = Counted((), vms, {})
        text = b"".join(_pieces(counted)).decode()
        (found,) = (family for family in text_string_to_metric_families(text) if family.name == name)
        (expected,) = text_string_to_metric_families(generate_latest(_Alone(own)).decode())
        assert found == expected


@given(st.lists(st.binary(max_size=2000), max_size=5), st.lists(st.binary(max_size=200), min_size=1, max_size=3))
def test_a_kept_beginning_takes_any_number_of_ends(pieces: list[bytes], ends: list[bytes]) -> None:
    beginning = CompressedBeginning()
    for piece in pieces:
        beginning.add(piece)
    for end in ends:
        assert gzip.decompress(beginning.with_end(end)) == b"".join(pieces) + end

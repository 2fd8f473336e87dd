"""Of every answer: the headers that say who may keep it, who may show it, and where its links lead."""

import base64
import hashlib
import re
from collections.abc import AsyncIterator
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import func, insert

from app.api.application import operations
from app.settings import Settings
from app.store.postgres.tables import VM as VM_TABLE
from tests.api.conftest import EVERYTHING, RENEW, VM, Service, assert_problem, serving

PATHS = sorted({route.path for route in operations() if "GET" in (route.methods or ())})
PAGES = ["/docs", "/openapi.json", "/openapi-3.0.json", "/static-offline-docs/swagger-ui.css", "/nowhere"]
ACCEPTED = ["*/*", "application/json", "text/csv", "text/event-stream", "application/openmetrics-text"]


@pytest_asyncio.fixture
async def paths(service: Service, caller: httpx.AsyncClient) -> list[str]:
    """Of every operation that reads, with something to read there, and of the pages."""
    await service.saw(VM, "c1")
    job = (await caller.post(RENEW, json={"cluster": "c1"})).json()["id"]
    await service.end(job)
    scan = (await caller.post("/clusters/c1/scan")).json()["id"]
    known = {"vm_uuid": VM, "job_id": job, "cluster": "c1", "scan_id": scan, "webhook": "none"}
    quick = {"/vms/{vm_uuid}/ngt/diagnosis": "?look=false"}
    return [path.format(**known) + quick.get(path, "") for path in PATHS] + PAGES


def listed(header: str) -> set[str]:
    return set(re.split(r",\s*", header))


@pytest.mark.field("G4", "G9")
async def test_no_shared_cache_keeps_an_answer_and_no_other_page_shows_it(
    caller: httpx.AsyncClient, service: Service, paths: list[str]
) -> None:
    async with service.client() as stranger:
        for client in (caller, stranger):
            for path in paths:
                answer = await client.get(path)
                assert {"private", "no-store"} & listed(answer.headers["cache-control"]), path
                assert answer.headers["x-frame-options"] == "DENY", path
                assert "frame-ancestors 'none'" in answer.headers["content-security-policy"], path
                assert answer.headers["x-content-type-options"] == "nosniff", path


@pytest.mark.field("G4", "G7")
@pytest.mark.parametrize("accept", ACCEPTED)
async def test_head_says_what_get_would_and_both_say_when_accept_has_chosen(
    caller: httpx.AsyncClient, paths: list[str], accept: str
) -> None:
    for path in paths:
        got = await caller.get(path, headers={"Accept": accept})
        head = await caller.head(path, headers={"Accept": accept})
        assert head.status_code == got.status_code, path
        assert ("content-length" in head.headers) == ("content-length" in got.headers), path
        for name in ("content-type", "cache-control", "vary", "etag", "content-disposition", "x-accel-buffering"):
            assert head.headers.get(name) == got.headers.get(name), (path, name)
        if path in {"/vms", "/metrics"} or path.endswith("/events") or got.is_error:
            assert "Accept" in listed(got.headers["vary"]), path


@pytest.mark.field("G9")
async def test_the_page_runs_its_own_script_and_loads_nothing_from_elsewhere(service: Service) -> None:
    async with service.client() as client:
        page = await client.get("/docs")
    policy = page.headers["content-security-policy"]
    (script,) = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'self' 'sha256-{digest}'" in policy
    assert "http" not in policy


PLAIN_JSON = ["application/json", "application/json, text/plain, */*", "application/json;q=0.9, application/*;q=0.1"]
PROBLEM_JSON = [
    "*/*",
    "",
    "application/*",
    "text/html",
    "application/problem+json",
    "application/json, application/problem+json",
]


@pytest.mark.field("G2")
@pytest.mark.parametrize("accept", PLAIN_JSON + PROBLEM_JSON)
async def test_an_error_has_the_media_type_that_is_accepted(
    service: Service, caller: httpx.AsyncClient, accept: str
) -> None:
    wanted = "application/json" if accept in PLAIN_JSON else "application/problem+json"
    headers = {"Accept": accept}
    async with service.client() as stranger:
        answers = [
            await stranger.get("/jobs", headers=headers),
            await caller.get(f"/jobs/{uuid4()}", headers=headers),
            await caller.get("/nowhere", headers=headers),
            await caller.delete("/jobs", headers=headers),
            await caller.post(RENEW, json={"a": 1}, headers=headers),
            await caller.post(RENEW, content="{", headers={**headers, "Content-Type": "application/json"}),
            await caller.post(RENEW, content="{", headers=headers),
        ]
    assert [answer.status_code for answer in answers] == [401, 404, 404, 405, 422, 400, 415]
    for answer in answers:
        assert answer.headers["content-type"] == wanted
        assert answer.json()["code"]


@pytest_asyncio.fixture
async def behind_proxy(settings: Settings, database_url: str) -> AsyncIterator[Service]:
    named = settings.model_copy(update={"public_url": "https://gateway.example.org/ngt/"})
    async with serving(named, database_url) as running:
        yield running


@pytest.mark.field("D3")
@pytest.mark.parametrize("kept", ["", "/ngt"], ids=["the proxy takes the prefix away", "the proxy leaves it"])
async def test_every_link_leads_back_through_the_prefix_of_the_public_url(behind_proxy: Service, kept: str) -> None:
    async with behind_proxy.client(await behind_proxy.key(*EVERYTHING)) as caller:
        started = await caller.post(kept + RENEW, json={"cluster": "c1"})
        assert started.status_code == 202
        job = started.json()["id"]
        assert started.headers["location"] == f"/ngt/jobs/{job}"
        links = started.json()["links"]
        assert links["self"] == f"/ngt/jobs/{job}"
        for link in links.values():
            assert link.startswith(f"/ngt/jobs/{job}")
            assert (await caller.get(kept + link.removeprefix("/ngt"))).status_code in {200, 202}
        busy = await caller.post(kept + RENEW, json={"cluster": "c2"})
        assert assert_problem(busy, 409, "vm-busy")["instance"] == f"/ngt{RENEW}"
        assert busy.headers["location"] == f"/ngt/jobs/{job}"
        scan = await caller.post(f"{kept}/clusters/c1/scan")
        assert scan.headers["location"] == f"/ngt/scans/{scan.json()['id']}"
        async with behind_proxy.services.store.database.transaction() as connection:
            for _ in range(2):
                row = {"vm_uuid": str(uuid4()), "cluster": "c1", "observed_at": func.now()}
                await connection.execute(insert(VM_TABLE).values(**row))
        assert (await caller.get(f"{kept}/vms?limit=1")).headers["link"].startswith("</ngt/vms?limit=1&cursor=")
        meta = (await caller.get(f"{kept}/meta")).json()
        assert (meta["docs"], meta["openapi"]) == ("/ngt/docs", "/ngt/openapi.json")
        page = (await caller.get(f"{kept}/docs")).text
        assert "url: '/ngt/openapi.json'" in page
        for asset in re.findall(r'(?:src|href)="([^"]+)"', page):
            assert asset.startswith("/ngt/static-offline-docs/")
            assert (await caller.get(kept + asset.removeprefix("/ngt"))).status_code == 200
        assert (await caller.get(f"{kept}/openapi.json")).json()["servers"] == [{"url": "/ngt"}]
        diagnosis = (await caller.get(f"{kept}/vms/{VM}/ngt/diagnosis?look=false")).json()
        for finding in diagnosis.get("findings", []):
            assert finding.get("call_path", "/ngt/").startswith("/ngt/")

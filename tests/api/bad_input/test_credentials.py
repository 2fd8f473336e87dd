"""Who may not do something is told so before anything else of the request is looked at, and changes nothing."""

from base64 import b64encode
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from tests.api.bad_input.service import JSON, MEGABYTE, Service

pytestmark = pytest.mark.asyncio(loop_scope="module")

Form = Callable[[str], dict[str, str]]


def _x_api_key(token: str) -> dict[str, str]:
    return {"X-API-Key": token}


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _basic(token: str) -> dict[str, str]:
    _, user, password = token.split("_") if token.count("_") == 2 else ("", "admin", token)
    return {"Authorization": "Basic " + b64encode(f"{user}:{password}".encode()).decode()}


in_each_form = pytest.mark.parametrize("form", [_x_api_key, _bearer, _basic])

_WRONG_OTHERWISE: dict[str, dict[str, Any]] = {
    "broken JSON": {"content": b"{", "headers": JSON},
    "2 MB": {"content": b"a" * 2 * MEGABYTE, "headers": JSON},
    "a wrong media type": {"content": b"{}", "headers": {"Content-Type": "text/plain"}},
    "an unknown field": {"content": b'{"forse": true}', "headers": JSON},
    "a wrong wait": {"params": {"wait": "9999"}, "headers": {}},
    "a wrong Idempotency-Key": {"headers": {"Idempotency-Key": "a b"}},
    "no UUID": {"path": "/vms/web01/ngt/renew", "headers": {}},
}


async def test_without_a_key_nothing_is_done(service: Service) -> None:
    answer = await service.refuses(401, "unauthenticated", headers={})
    assert "Bearer" in answer.headers["www-authenticate"]
    assert "Basic" in answer.headers["www-authenticate"]


@in_each_form
@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("wrong secret", "unauthenticated"),
        ("unknown", "unauthenticated"),
        ("password", "unauthenticated"),
        ("expired", "token-expired"),
        ("revoked", "token-revoked"),
    ],
)
async def test_a_key_that_is_not_good_is_refused(service: Service, name: str, code: str, form: Form) -> None:
    answer = await service.refuses(401, code, headers=form(service.tokens[name]))
    assert "www-authenticate" in answer.headers


@in_each_form
async def test_a_good_key_is_taken_in_each_form(service: Service, form: Form) -> None:
    answer = await service.client.get("/jobs", headers=form(service.tokens["jobs:read"]))
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "credential", ["", "Bearer", "Bearer ", "Basic", "Basic !!!", "Basic bm9jb2xvbg==", "Basic /w==", "Digest a=b", "a"]
)
async def test_a_credential_that_cannot_be_read_is_refused(service: Service, credential: str) -> None:
    await service.refuses(401, "unauthenticated", headers={"Authorization": credential})


@pytest.mark.parametrize("credential", [b"Bearer \xff", b"Bearer \xc3\xa9", b"Basic \xff"])
async def test_a_credential_that_is_not_ascii_is_refused(service: Service, credential: bytes) -> None:
    await service.refuses(401, "unauthenticated", headers={b"Authorization": credential})


@pytest.mark.parametrize("sent", _WRONG_OTHERWISE.values(), ids=_WRONG_OTHERWISE)
async def test_without_a_key_nothing_else_is_looked_at(service: Service, sent: dict[str, Any]) -> None:
    await service.refuses(401, "unauthenticated", **sent)


@pytest.mark.parametrize("sent", _WRONG_OTHERWISE.values(), ids=_WRONG_OTHERWISE)
async def test_without_the_scope_nothing_else_is_looked_at(service: Service, sent: dict[str, Any]) -> None:
    headers = service.key("no renew") | sent["headers"]
    await service.refuses(403, "insufficient-scope", **{**sent, "headers": headers})


@in_each_form
async def test_a_key_without_the_scope_is_refused(service: Service, form: Form) -> None:
    await service.refuses(403, "insufficient-scope", headers=form(service.tokens["no renew"]))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/jobs"),
        ("GET", "/jobs/{}"),
        ("GET", "/jobs/{}/result"),
        ("GET", "/jobs/{}/log"),
        ("POST", "/jobs/{}/cancel"),
        ("POST", "/clusters/c1/pause"),
        ("POST", "/clusters/c1/resume"),
    ],
)
async def test_a_key_that_may_only_renew_may_do_nothing_else(service: Service, method: str, path: str) -> None:
    await service.refuses(403, "insufficient-scope", path.format(uuid4()), method=method, headers=service.key("renew"))


@pytest.mark.parametrize("cluster", ["c2", "nowhere"])
async def test_a_key_of_one_cluster_is_told_nothing_of_others(service: Service, cluster: str) -> None:
    headers = service.key("c1")
    await service.refuses(403, "target-not-allowed", json={"cluster": cluster}, headers=headers)
    for deed in ("pause", "resume"):
        await service.refuses(403, "target-not-allowed", f"/clusters/{cluster}/{deed}", headers=headers)
    listed = await service.client.get("/clusters", headers=headers)
    assert [item["name"] for item in listed.json()["items"]] == ["c1"]


async def test_a_job_of_another_caller_is_seen_with_jobs_read(service: Service) -> None:
    job = await service.accepts()
    answer = await service.client.get(f"/jobs/{job['id']}", headers=service.key("jobs:read"))
    assert (answer.status_code, answer.json()["caller"]) == (200, "all")


async def test_a_job_of_a_cluster_that_the_key_may_not_use_is_not_found(service: Service) -> None:
    job = await service.accepts(json={"cluster": "c1"})
    headers = service.key("c2")
    for path in ("", "/result", "/log"):
        await service.refuses(404, "job-not-found", f"/jobs/{job['id']}{path}", method="GET", headers=headers)
    for path in ("/cancel", "/retry", "/agent-restarted"):
        await service.refuses(404, "job-not-found", f"/jobs/{job['id']}{path}", headers=headers)
    seen = await service.client.get("/jobs", headers=headers)
    assert job["id"] not in [item["id"] for item in seen.json()["items"]]

"""What stands in the path, in the query and in the headers is checked as strictly as the body."""

from urllib.parse import quote
from uuid import uuid4

import pytest

from tests.api.bad_input.service import RENEW, VM, Service

pytestmark = pytest.mark.asyncio(loop_scope="module")

_NO_UUIDS = (
    "web01",
    VM[:-1],
    VM + "0",
    VM.replace("-", ""),
    "{" + VM + "}",
    "urn:uuid:" + VM,
    VM.replace("2", "g", 1),
    VM.replace("2", "\u0662", 1),
    VM + "\n",
    VM + " ",
    VM + ";reboot",
    "\x00",
)


@pytest.mark.parametrize("text", _NO_UUIDS, ids=ascii)
async def test_what_is_no_uuid_is_refused(service: Service, text: str) -> None:
    path = quote(text, safe="")
    await service.refuses(422, "validation-failed", f"/vms/{path}/ngt/renew", pointer="/path/vm_uuid")


@pytest.mark.parametrize("wait", ["-1", "21", "9999", "1.5", "a", "", "1e1", "99999999999999999999"])
async def test_a_wait_outside_its_limits_is_refused(service: Service, wait: str) -> None:
    await service.refuses(422, "validation-failed", params={"wait": wait}, pointer="/query/wait")


@pytest.mark.parametrize("query", ["waits=1", "force=true", "wait=1&wait=2", "mode=refresh"])
async def test_a_query_that_would_be_ignored_is_refused(service: Service, query: str) -> None:
    await service.refuses(422, "validation-failed", f"{RENEW}?{query}")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", "0"),
        ("limit", "201"),
        ("limit", "a"),
        ("cursor", "AAAA"),
        ("cursor", "\u2603"),
        ("status", "lost"),
        ("done", "maybe"),
        ("vm_uuid", "web01"),
        ("correlation_id", "\x00"),
        ("change_number", "\x00"),
        ("cluster", "\x00"),
        ("created_after", "yesterday"),
        ("created_before", "2026-01-01T00:00:00"),
        ("created_before", "1700000000"),
        ("state", "queued"),
    ],
)
async def test_a_wrong_filter_of_jobs_is_refused(service: Service, name: str, value: str) -> None:
    await service.refuses(
        422, "validation-failed", "/jobs", method="GET", params={name: value}, pointer=f"/query/{name}"
    )


async def test_an_idempotency_key_is_for_one_request(service: Service) -> None:
    key = {"Idempotency-Key": "of-one-request"}
    path = f"/vms/{uuid4()}/ngt/renew"
    first, other = {"change_number": "CHG1"}, {"change_number": "CHG2"}
    job = await service.accepts(path, json=first, headers=key)
    await service.refuses(422, "idempotency-key-reused", path, json=other, headers=service.key() | key)
    await service.refuses(422, "idempotency-key-reused", json=first, headers=service.key() | key)
    assert (await service.accepts(path, json=first, headers=key))["id"] == job["id"]


@pytest.mark.parametrize("key", [b"", b'""', b"a" * 256, b"a b", b"\xc3\xa9", b"a\tb"])
async def test_an_unusable_idempotency_key_is_refused(service: Service, key: bytes) -> None:
    headers = {name.encode(): value.encode() for name, value in service.key().items()}
    await service.refuses(400, "idempotency-key-invalid", headers={**headers, b"Idempotency-Key": key})


async def test_two_idempotency_keys_that_differ_are_refused(service: Service) -> None:
    both = {"Idempotency-Key": "a", "NTNX-Request-Id": "b"}
    await service.refuses(400, "idempotency-key-invalid", headers=service.key() | both)


@pytest.mark.parametrize("path", ["", "/result", "/log"])
async def test_a_job_that_does_not_exist_is_not_found(service: Service, path: str) -> None:
    await service.refuses(404, "job-not-found", f"/jobs/{uuid4()}{path}", method="GET")
    await service.refuses(422, "validation-failed", f"/jobs/1{path}", method="GET", pointer="/path/job_id")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", RENEW, "POST"),
        ("PUT", RENEW, "POST"),
        ("DELETE", "/jobs", "GET"),
        ("POST", "/jobs", "GET"),
        ("DELETE", f"/jobs/{VM}", "GET"),
        ("GET", f"/jobs/{VM}/cancel", "POST"),
        ("OPTIONS", "/clusters", "GET"),
        ("POST", "/livez", "GET"),
        ("BREW", "/jobs", "GET"),
    ],
)
async def test_a_method_that_a_path_does_not_take_is_refused(
    service: Service, method: str, path: str, allowed: str
) -> None:
    answer = await service.refuses(405, "method-not-allowed", path, method=method)
    assert allowed in answer.headers["allow"].replace(" ", "").split(",")


@pytest.mark.parametrize("path", ["/", "/jobs/", f"{RENEW}/", "/JOBS", "//jobs", "/vms/a/b/ngt/renew", "/.env"])
async def test_a_path_that_does_not_exist_is_not_found_and_never_redirected(service: Service, path: str) -> None:
    await service.refuses(404, "route-not-found", f"http://service{path}")
    await service.refuses(404, "route-not-found", f"http://service{path}", method="GET")


@pytest.mark.parametrize("given", ["a b", "a" * 129, "\u00e9", "a\x7f", '"><script>'], ids=ascii)
async def test_a_request_id_that_must_not_stand_in_a_log_is_replaced(service: Service, given: str) -> None:
    answer = await service.refuses(401, "unauthenticated", headers={b"X-Request-ID": given.encode()})
    assert answer.headers["x-request-id"].isascii()
    assert answer.headers["x-request-id"] != given


async def test_a_good_request_id_is_kept(service: Service) -> None:
    answer = await service.refuses(401, "unauthenticated", headers={"X-Request-ID": "INC0012345.1"})
    assert answer.headers["x-request-id"] == "INC0012345.1"

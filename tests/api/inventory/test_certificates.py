"""Handing in the certificate that a guest has: what is taken, what is refused, and what is never kept."""

import json
import logging
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from psycopg.sql import SQL, Identifier
from structlog.testing import capture_logs

from app.settings.callers.scopes import Scope
from tests.api.conftest import VM, Service, assert_problem
from tests.api.inventory.vms import add_vm, from_now, written
from tests.contract.operations import OPERATIONS

PUT = f"/vms/{VM}/ngt/certificate"
KEY = ec.generate_private_key(ec.SECP256R1())
KEYS = [
    KEY.private_bytes(Encoding.PEM, private_format, NoEncryption()).decode()
    for private_format in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL, PrivateFormat.OpenSSH)
]


def pem(not_after: datetime, *, name: str = "guest", by: str = "NGT CA", ca: bool = False, serial: int = 0xAB12) -> str:
    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    builder = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(by))
        .public_key(KEY.public_key())
        .serial_number(serial)
        .not_valid_before(not_after - timedelta(days=1000))
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


CERTIFICATE = pem(datetime(2027, 3, 1, 2, 3, 4, tzinfo=UTC))
AUTHORITY = pem(datetime(2037, 3, 1, tzinfo=UTC), name="NGT CA", ca=True, serial=1)


def all_that_is_stored(url: str) -> str:
    """Every value of every table."""
    with psycopg.connect(url) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        rows = [
            connection.execute(SQL("SELECT t::text FROM {} t").format(Identifier(name))).fetchall()
            for (name,) in tables
        ]
    return str(rows)


async def test_a_certificate_is_stored_with_who_gave_it_and_shown(service: Service, caller: httpx.AsyncClient) -> None:
    await add_vm(service, "web01", vm_uuid=VM)
    answer = await caller.put(PUT, json={"certificate_pem": CERTIFICATE})
    assert answer.status_code == 200, answer.text
    ngt = answer.json()
    facts = {
        "not_before": "2024-06-04T02:03:04Z",
        "not_after": "2027-03-01T02:03:04Z",
        "serial": "ab12",
        "fingerprint": x509.load_pem_x509_certificate(CERTIFICATE.encode()).fingerprint(hashes.SHA256()).hex(),
        "subject": "CN=guest",
        "issuer": "CN=NGT CA",
    }
    assert ngt["observations"] == [
        {
            "source": "pushed_certificate",
            "observed_at": ngt["certificate_observed_at"],
            **facts,
            "given_by": "a test",
        }
    ]
    assert {name: ngt[name] for name in facts} == facts
    assert ngt["certificate_source"] == "pushed_certificate"
    assert (await caller.get(f"/vms/{VM}/ngt")).json() == ngt
    # The text itself is not kept.
    assert CERTIFICATE.splitlines()[3] not in all_that_is_stored(service.services.store.database.url)


async def test_the_last_one_counts_also_where_it_is_older_or_has_expired(
    service: Service, caller: httpx.AsyncClient
) -> None:
    await add_vm(service, vm_uuid=VM)
    for days in (500, 5, -5):
        not_after = from_now(days=days)
        answer = await caller.put(PUT, json={"certificate_pem": pem(not_after)})
        assert answer.status_code == 200, answer.text
        assert answer.json()["not_after"] == written(not_after)
        assert answer.json()["expired"] is (days < 0)
        assert len(answer.json()["observations"]) == 1


@pytest.mark.parametrize(
    "text",
    [
        CERTIFICATE + AUTHORITY,
        AUTHORITY + CERTIFICATE,
        CERTIFICATE.replace("\n", "\r\n"),
        "Bag Attributes\n    friendlyName: web01\n" + CERTIFICATE,
    ],
)
async def test_the_leaf_is_found_in_a_chain(service: Service, caller: httpx.AsyncClient, text: str) -> None:
    await add_vm(service, vm_uuid=VM)
    answer = await caller.put(PUT, json={"certificate_pem": text, "cluster": None})
    assert (answer.status_code, answer.json()["serial"]) == (200, "ab12")


async def test_whatever_a_certificate_says_of_itself_the_caller_vouches_for_it(
    service: Service, caller: httpx.AsyncClient
) -> None:
    await add_vm(service, vm_uuid=VM)
    text = pem(from_now(days=9), name="=SUM(A1) \u202e")
    assert (await caller.put(PUT, json={"certificate_pem": text})).status_code == 200


# What is refused.


async def test_the_certificate_of_an_authority_alone_is_not_taken_for_that_of_a_vm(
    service: Service, caller: httpx.AsyncClient
) -> None:
    await add_vm(service, vm_uuid=VM)
    root = pem(from_now(days=3650), name="NGT CA", ca=True, serial=1)
    problem = assert_problem(await caller.put(PUT, json={"certificate_pem": root}), 422, "validation-failed")
    said = "the text has the certificate of an authority, not that of a client; nothing was stored"
    assert problem["errors"] == [{"pointer": "/body/certificate_pem", "detail": said}]
    assert "not_after" not in (await caller.get(f"/vms/{VM}")).json()


def key_lines() -> list[str]:
    return [line for key in KEYS for line in key.splitlines() if line and "PRIVATE" not in line]


BODIES_WITH_A_KEY: list[dict[str, Any]] = [
    *({"certificate_pem": text} for key in KEYS for text in (key, CERTIFICATE + key, key + CERTIFICATE)),
    {"certificate_pem": KEYS[0].replace("PRIVATE", "ENCRYPTED PRIVATE")},
    {"certificate_pem": CERTIFICATE + KEYS[0][: len(KEYS[0]) // 2]},
    {"certificate_pem": KEYS[0][len(KEYS[0]) // 2 :]},
    {"certificate_pem": KEYS[0].replace("\n", "\\n")},
    {"certificate_pem": [KEYS[0]]},
    {"certificate_pem": CERTIFICATE, "key": KEYS[0]},
    {"certificate_pem": CERTIFICATE, "cluster": KEYS[0]},
    {"certificate_pem": CERTIFICATE, KEYS[0]: ""},
    {"certificate_pem": None, "more": {"deeper": [{"client-key.pem": KEYS[1]}]}},
    {"key": KEYS[2]},
]


@pytest.mark.parametrize("body", BODIES_WITH_A_KEY)
async def test_a_private_key_anywhere_in_the_body_is_refused_and_nowhere_kept(
    service: Service, caller: httpx.AsyncClient, body: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    await add_vm(service, vm_uuid=VM)
    before = all_that_is_stored(service.services.store.database.url)
    with capture_logs() as logged, caplog.at_level(logging.DEBUG):
        answer = await caller.put(PUT, json=body)
    problem = assert_problem(answer, 400, "private-key-refused")
    assert "errors" not in problem
    assert "renew the VM's certificate" in problem["action"]
    said = f"{answer.headers} {answer.text} {logged} {caplog.text} {caplog.records}"
    assert not any(line in said for line in key_lines())
    after = all_that_is_stored(service.services.store.database.url)
    assert not any(line in after for line in key_lines())
    # Only that the API key was used is noted.
    assert before.count("certificate_observation") == after.count("certificate_observation")
    assert "observations" in (await caller.get(f"/vms/{VM}/ngt")).json()
    assert (await caller.get(f"/vms/{VM}/ngt")).json()["observations"] == []


@pytest.mark.parametrize("vm_uuid", [VM, "20edafba-0000-4a7e-8d1f-0b6f6a9d2c11"])
async def test_a_private_key_is_refused_before_anything_else_is_looked_at(
    caller: httpx.AsyncClient, vm_uuid: str
) -> None:
    body = {"certificate_pem": CERTIFICATE + KEYS[0], "cluster": "gone"}
    assert_problem(await caller.put(f"/vms/{vm_uuid}/ngt/certificate", json=body), 400, "private-key-refused")


async def test_a_key_in_json_that_cannot_be_read_is_not_repeated(caller: httpx.AsyncClient) -> None:
    key = KEYS[0].replace("\n", "\\n")
    for text in (f'{{"{key}": 1, "{key}": 2}}', f'{{"certificate_pem": "{key}"', f'"{key}"', f"{{{KEYS[0]}}}"):
        answer = await caller.put(PUT, content=text, headers={"Content-Type": "application/json"})
        assert answer.status_code in {400, 422}
        assert not any(line in answer.text for line in key_lines())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "garbage",
        "\x00\ud800",
        CERTIFICATE[:200],
        CERTIFICATE.replace("CERTIFICATE", "PUBLIC KEY"),
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        CERTIFICATE.encode("utf-16").decode("latin-1"),
    ],
)
async def test_what_is_no_certificate_is_refused_with_where_it_is(
    service: Service, caller: httpx.AsyncClient, text: str
) -> None:
    await add_vm(service, vm_uuid=VM)
    sent = json.dumps({"certificate_pem": text})
    answer = await caller.put(PUT, content=sent, headers={"Content-Type": "application/json"})
    problem = assert_problem(answer, 422, "validation-failed")
    said = "the text is not a certificate in PEM form; nothing was stored"
    assert problem["errors"] == [{"pointer": "/body/certificate_pem", "detail": said}]
    assert (await caller.get(f"/vms/{VM}/ngt")).json()["observations"] == []


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/body/certificate_pem"),
        ({"certificate_pem": None}, "/body/certificate_pem"),
        ({"certificate_pem": 1}, "/body/certificate_pem"),
        ({"certificate_pem": [CERTIFICATE]}, "/body/certificate_pem"),
        ({"certificate_pem": CERTIFICATE, "cluster": "C 1"}, "/body/cluster"),
        ({"certificate_pem": CERTIFICATE, "cluster": 1}, "/body/cluster"),
        ({"certificate_pem": CERTIFICATE, "vm_uuid": VM}, "/body/vm_uuid"),
        ({"certificate": CERTIFICATE}, "/body/certificate"),
    ],
)
async def test_a_wrong_member_is_named_and_its_value_is_not_repeated(
    service: Service, caller: httpx.AsyncClient, body: dict[str, Any], pointer: str
) -> None:
    await add_vm(service, vm_uuid=VM)
    answer = await caller.put(PUT, json=body)
    problem = assert_problem(answer, 422, "validation-failed")
    assert pointer in [error["pointer"] for error in problem["errors"]]
    assert CERTIFICATE.splitlines()[1] not in answer.text


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b'"a"'])
async def test_without_a_body_nothing_is_handed_in(service: Service, caller: httpx.AsyncClient, content: bytes) -> None:
    await add_vm(service, vm_uuid=VM)
    answer = await caller.put(PUT, content=content, headers={"Content-Type": "application/json"})
    assert_problem(answer, 422, "validation-failed")


@pytest.mark.parametrize("depth", [100, 300, 500, 700, 900, 1_000, 3_000, 100_000])
async def test_a_body_of_any_depth_is_refused(caller: httpx.AsyncClient, depth: int) -> None:
    content = b'{"certificate_pem": ' + b"[" * depth + b"]" * depth + b"}"
    answer = await caller.put(PUT, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code in {400, 422}, answer.text


async def test_a_text_that_is_too_large_is_told_so(service: Service, caller: httpx.AsyncClient) -> None:
    await add_vm(service, vm_uuid=VM)
    room = 64 * 1024 - len(CERTIFICATE)
    assert (await caller.put(PUT, json={"certificate_pem": CERTIFICATE + "\n" * room})).status_code == 200
    for text in (CERTIFICATE + "\n" * (room + 1), "a" * 100_000, "é" * 40_000, "a" * 2_000_000):
        assert_problem(await caller.put(PUT, json={"certificate_pem": text}), 413, "body-too-large")


async def test_a_vm_that_was_never_seen_is_not_found(service: Service, caller: httpx.AsyncClient) -> None:
    await add_vm(service, vm_uuid=VM, cluster="c2")
    unknown = await caller.put(f"/vms/{uuid4()}/ngt/certificate", json={"certificate_pem": CERTIFICATE})
    assert "POST /clusters/{cluster}/scan" in assert_problem(unknown, 404, "vm-not-found")["action"]
    elsewhere = await caller.put(PUT, json={"certificate_pem": CERTIFICATE, "cluster": "c1"})
    assert_problem(elsewhere, 404, "vm-not-found")
    gone = await caller.put(PUT, json={"certificate_pem": CERTIFICATE, "cluster": "gone"})
    assert_problem(gone, 404, "cluster-not-found")
    no_uuid = await caller.put("/vms/web01/ngt/certificate", json={"certificate_pem": CERTIFICATE})
    assert_problem(no_uuid, 422, "validation-failed")


async def test_of_two_clusters_the_one_that_is_named_is_meant(service: Service, caller: httpx.AsyncClient) -> None:
    await add_vm(service, vm_uuid=VM, cluster="c1", last_seen_at=from_now(days=-2))
    await add_vm(service, vm_uuid=VM, cluster="c2", last_seen_at=from_now(days=-1))
    assert (await caller.put(PUT, json={"certificate_pem": CERTIFICATE})).json()["cluster"] == "c2"
    named = await caller.put(PUT, json={"certificate_pem": CERTIFICATE, "cluster": "c1"})
    assert (named.json()["cluster"], len(named.json()["observations"])) == ("c1", 1)


async def test_a_key_of_one_cluster_hands_in_only_there(service: Service) -> None:
    await add_vm(service, vm_uuid=VM, cluster="c2")
    async with service.client(await service.key(Scope.CERTIFICATES_WRITE, clusters=frozenset({"c1"}))) as client:
        assert_problem(await client.put(PUT, json={"certificate_pem": CERTIFICATE}), 404, "vm-not-found")
        named = await client.put(PUT, json={"certificate_pem": CERTIFICATE, "cluster": "c2"})
        assert_problem(named, 403, "target-not-allowed")
    async with service.client(await service.key(Scope.VMS_READ, Scope.RENEW)) as client:
        assert_problem(await client.put(PUT, json={"certificate_pem": CERTIFICATE}), 403, "insufficient-scope")


async def test_the_example_of_the_document_is_taken(service: Service, caller: httpx.AsyncClient) -> None:
    await add_vm(service, vm_uuid=VM)
    assert (await OPERATIONS["putVmNgtCertificate"].call(caller)).json()["not_after"] == "2029-08-19T01:02:03Z"

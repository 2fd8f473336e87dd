"""One attempt: what arrives, what is made of each answer, and what is never said."""

import asyncio
import re
import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import psutil
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from app.settings import WebhookTarget
from app.work.webhooks.profiles import hub_signature
from app.work.webhooks.sender import DeliveryResult, Sender
from tests.work.webhooks.conftest import NEW_SECRET, SIGNING_SECRET, SecretFile
from tests.work.webhooks.http_server import Answer, HttpServer
from tests.work.webhooks.receiver import GONE, HANG, REDIRECT, busy
from tests.work.webhooks.samples import DELIVERY_ID, assert_refused, delivery, target

pytestmark = pytest.mark.usefixtures("no_secret_is_told")

# Sooner than the time limit of the target itself.
NEVER_S = 10


@pytest.fixture
def standard(receiver: HttpServer, secret_file: SecretFile) -> WebhookTarget:
    return target(url=f"{receiver.url}/hook", secret_files=[secret_file("signing_secret", SIGNING_SECRET)])


async def test_a_receiver_verifies_what_it_was_sent(
    sender: Sender, standard: WebhookTarget, receiver: HttpServer
) -> None:
    assert await sender.send(standard, delivery()) == DeliveryResult(204, None, None)
    (request,) = receiver.received
    assert (request.method, request.path) == ("POST", "/hook")
    assert request.headers["webhook-id"] == str(DELIVERY_ID)
    assert request.headers["user-agent"].startswith("ngt-renewal/")
    assert Webhook(SIGNING_SECRET).verify(request.body, request.headers)["type"] == "ngt.renewal.succeeded"


async def test_secrets_are_rotated_without_a_restart(
    sender: Sender, receiver: HttpServer, secret_file: SecretFile
) -> None:
    files = [secret_file("new", SIGNING_SECRET), secret_file("old", SIGNING_SECRET)]
    told = target(url=receiver.url, secret_files=files)
    await sender.send(told, delivery())
    secret_file("new", NEW_SECRET)
    await sender.send(told, delivery())
    secret_file("old", NEW_SECRET)
    await sender.send(told, delivery())
    before, during, after = receiver.received
    assert before.headers["webhook-id"] == during.headers["webhook-id"] == after.headers["webhook-id"]
    for request, secrets in ((before, [SIGNING_SECRET]), (during, [SIGNING_SECRET, NEW_SECRET]), (after, [NEW_SECRET])):
        for secret in secrets:
            Webhook(secret).verify(request.body, request.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(SIGNING_SECRET).verify(after.body, after.headers)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_every_2xx_is_success(sender: Sender, standard: WebhookTarget, receiver: HttpServer, status: int) -> None:
    receiver.order(Answer(status))
    assert await sender.send(standard, delivery()) == DeliveryResult(status, None, None)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Answer(400), "it answered 400: it refused what was sent"),
        (Answer(401), "it answered 401: it refused the credentials"),
        (Answer(418), "it answered 418: it refused"),
        (GONE, "it answered 410: it wants no more events"),
        (Answer(500, b"whatever it says"), "it answered 500: it failed itself"),
        (REDIRECT, "it answered 307, a redirect, and those are never followed"),
        (Answer(301, headers={"Location": "/other"}), "it answered 301, a redirect, and those are never followed"),
        (Answer(304), "it answered 304, a redirect, and those are never followed"),
    ],
)
async def test_anything_else_is_no_success_and_is_said_in_a_sentence(
    sender: Sender, standard: WebhookTarget, receiver: HttpServer, answer: Answer, why: str
) -> None:
    receiver.order(answer)
    assert_refused(await sender.send(standard, delivery()), why, answer.status)
    assert len(receiver.received) == 1


async def test_the_pause_that_is_asked_for_is_handed_on(
    sender: Sender, standard: WebhookTarget, receiver: HttpServer
) -> None:
    in_a_minute = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    long_ago = format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)
    asked = ["17", in_a_minute, long_ago, "soon", "-5", "", "٣", "9" * 400]
    receiver.order(*(busy(text) for text in asked if text.isascii()), busy("7", 503), busy("7", 500))
    got = [(await sender.send(standard, delivery())).retry_after_s for _ in range(9)]
    assert got[0] == 17
    assert got[1] is not None
    assert 50 < got[1] <= 60
    assert got[2:] == [0.0, None, None, None, 999999999.0, 7.0, None]


async def test_a_receiver_that_never_answers_costs_its_time_limit_and_no_more(
    sender: Sender, standard: WebhookTarget, receiver: HttpServer
) -> None:
    receiver.order(HANG)
    told = standard.model_copy(update={"timeout_s": 0.3})
    async with asyncio.timeout(NEVER_S):
        assert_refused(await sender.send(told, delivery()), "it did not answer within 0.3 s")


async def test_the_status_counts_also_when_the_rest_of_the_answer_never_comes(
    sender: Sender, standard: WebhookTarget, receiver: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.work.webhooks.http_exchange._BODY_TIMEOUT_S", 0.2)
    receiver.order(Answer(200, b"some", drips=True))
    assert await sender.send(standard, delivery()) == DeliveryResult(200, None, None)


async def test_of_an_endless_answer_little_is_read(
    sender: Sender, standard: WebhookTarget, receiver: HttpServer
) -> None:
    receiver.order(Answer(200, bytes(50_000_000), drips=True))
    async with asyncio.timeout(NEVER_S):
        assert await sender.send(standard, delivery()) == DeliveryResult(200, None, None)


async def test_nobody_at_the_address_is_said_so(sender: Sender, standard: WebhookTarget) -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
    nobody = standard.model_copy(update={"url": f"http://127.0.0.1:{port}/"})
    assert_refused(await sender.send(nobody, delivery()), "it could not be connected to")


async def test_why_tls_failed_is_said(sender: Sender, standard: WebhookTarget) -> None:
    async def answer_in_plain_text(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer_in_plain_text, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        told = standard.model_copy(update={"url": f"https://127.0.0.1:{port}/"})
        sent = await sender.send(told, delivery())
    # The word is OpenSSL's own, and not the same in all its versions.
    assert re.search(r": TLS with it failed: [a-z0-9][a-z0-9 ]+\.$", sent.error or ""), sent


async def test_an_answer_that_is_not_http_is_said_so(sender: Sender, standard: WebhookTarget) -> None:
    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(rude, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        sent = await sender.send(standard.model_copy(update={"url": url}), delivery())
    assert_refused(sent, "the connection ended before there was an answer")


async def test_an_address_that_may_not_be_connected_to_is_not(
    sender: Sender, standard: WebhookTarget, receiver: HttpServer
) -> None:
    told = standard.model_copy(update={"allow_networks": ()})
    assert_refused(await sender.send(told, delivery()), "127.0.0.1 is 127.0.0.1, an address of this host itself")
    assert receiver.received == []


async def test_a_secret_that_cannot_be_read_stops_the_attempt(
    sender: Sender, standard: WebhookTarget, receiver: HttpServer, secret_file: SecretFile
) -> None:
    (path,) = standard.secret_files
    path.unlink()
    assert_refused(
        await sender.send(standard, delivery()),
        f"a secret cannot be used: {path} cannot be read: No such file or directory",
    )
    secret_file("signing_secret", "wrong secret")
    told = f"a secret cannot be used: {path} holds no secret for signing: it is `whsec_` and 24 to 64 bytes in base64"
    assert_refused(await sender.send(standard, delivery()), told)
    secret_file("signing_secret", SIGNING_SECRET).chmod(0o644)
    told = f"a secret cannot be used: {path} can be read by others; run `chmod 600 {path}`"
    assert_refused(await sender.send(standard, delivery()), told)
    assert receiver.received == []


async def test_a_file_without_certificates_is_said_so(sender: Sender, standard: WebhookTarget, tmp_path: Path) -> None:
    empty = tmp_path / "ca.pem"
    empty.touch()
    told = standard.model_copy(update={"ca_file": empty})
    assert_refused(await sender.send(told, delivery()), f"`ca_file` cannot be used: {empty} holds no certificates")


async def test_github_hash_is_what_a_receiver_computes(
    sender: Sender, receiver: HttpServer, secret_file: SecretFile
) -> None:
    told = target(url=receiver.url, profile="github-hash", secret_files=[secret_file("hash", "a shared secret")])
    assert (await sender.send(told, delivery())).error is None
    (request,) = receiver.received
    assert request.headers["x-hub-signature-256"] == hub_signature(request.body, "a shared secret")


async def test_nothing_is_left_open(standard: WebhookTarget, receiver: HttpServer) -> None:
    port = int(receiver.url.rpartition(":")[2])
    async with Sender() as sender:
        receiver.order(Answer(200), Answer(500), REDIRECT, Answer(200, b"some", drips=True), HANG)
        told = standard.model_copy(update={"timeout_s": 0.5})
        assert [(await sender.send(told, delivery())).http_status for _ in range(5)] == [200, 500, 307, None, None]
        connections = psutil.Process().net_connections(kind="tcp")
        assert not [c for c in connections if c.status == psutil.CONN_ESTABLISHED and c.raddr[1:] == (port,)]

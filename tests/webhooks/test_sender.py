"""One attempt: what arrives, what is made of each answer, and what is never said."""

import asyncio
import base64
import logging
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from app.settings import WebhookTarget
from app.work.webhook_profiles import hub_signature
from app.work.webhook_sender import Sender, Sent
from tests.webhooks import servicenow as now
from tests.webhooks.conftest import SIGNING_SECRET, SecretFile
from tests.webhooks.http_server import Answer, HttpServer
from tests.webhooks.receiver import GONE, HANG, REDIRECT, busy
from tests.webhooks.samples import DELIVERY_ID, delivery, target
from tests.webhooks.servicenow import STAGING_TABLE, TABLE, ServiceNow

NEW_SECRET = "whsec_" + base64.b64encode(b"n" * 32).decode()
SECRETS = (
    SIGNING_SECRET,
    NEW_SECRET,
    now.API_KEY,
    now.PASSWORD,
    now.CLIENT_SECRET,
    base64.b64encode(f"{now.USER}:{now.PASSWORD}".encode()).decode(),
    "wrong secret",
)

Logins = dict[str, dict[str, Any]]


def _refused(sent: Sent, why: str, status: int | None = None) -> None:
    assert sent == Sent(status, sent.retry_after_s, f"The webhook told did not take the event: {why}.")


@pytest.fixture(autouse=True)
def _no_secret_is_told(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Whatever a test of this file does, no log line of any library holds a secret."""
    caplog.set_level(logging.DEBUG)
    yield
    told = caplog.text + "".join(capfd.readouterr())
    assert not [secret for secret in SECRETS if secret in told]
    assert not re.search(r"Bearer token-|Basic [A-Za-z0-9+/]{8}", told)


@pytest.fixture
def standard(receiver: HttpServer, secret_file: SecretFile) -> WebhookTarget:
    return target(url=f"{receiver.url}/hook", secret_files=[secret_file("signing_secret", SIGNING_SECRET)])


@pytest.fixture
def logins(secret_file: SecretFile, servicenow: ServiceNow) -> Logins:
    """Each way to log in at the instance."""
    oauth = {
        "token_url": f"{servicenow.url}/oauth_token.do",
        "client_id": now.CLIENT_ID,
        "client_secret_file": secret_file("client_secret", now.CLIENT_SECRET),
    }
    return {
        "key": {"header": {"name": "x-sn-apikey", "value_file": secret_file("api_key", now.API_KEY)}},
        "basic": {"basic": {"username": now.USER, "password_file": secret_file("password", now.PASSWORD)}},
        "oauth": {"oauth": oauth},
    }


@pytest.fixture
def table(servicenow: ServiceNow, logins: Logins) -> Callable[..., WebhookTarget]:
    """A target that writes to the instance's table, logged in by key unless said otherwise."""

    def make(login: str = "key", **more: Any) -> WebhookTarget:
        fields = {"u_ngt_status": "{outcome}", "u_valid_until": "{new_not_after}", "u_unknown": "{job_id}"}
        profile = {"profile": "servicenow_table", "table": TABLE, "fields": fields}
        return target(url=servicenow.url, **{**profile, **logins[login], **more})

    return make


@pytest.fixture
def staging(servicenow: ServiceNow, logins: Logins) -> WebhookTarget:
    return target(url=servicenow.url, profile="servicenow_import", staging_table=STAGING_TABLE, **logins["key"])


async def test_a_receiver_verifies_what_it_was_sent(
    sender: Sender, standard: WebhookTarget, receiver: HttpServer
) -> None:
    assert await sender.send(standard, delivery()) == Sent(204, None, None)
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
    assert await sender.send(standard, delivery()) == Sent(status, None, None)


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
    _refused(await sender.send(standard, delivery()), why, answer.status)
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
    begun_s = time.monotonic()
    told = standard.model_copy(update={"timeout_s": 0.3})
    _refused(await sender.send(told, delivery()), "it did not answer within 0.3 s")
    assert time.monotonic() - begun_s < 2


async def test_the_status_counts_also_when_the_rest_of_the_answer_never_comes(
    sender: Sender, standard: WebhookTarget, receiver: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.work.webhook_exchange._BODY_TIMEOUT_S", 0.2)
    receiver.order(Answer(200, b"some", drips=True))
    assert await sender.send(standard, delivery()) == Sent(200, None, None)


async def test_of_an_endless_answer_little_is_read(
    sender: Sender, standard: WebhookTarget, receiver: HttpServer
) -> None:
    receiver.order(Answer(200, bytes(50_000_000), drips=True))
    begun_s = time.monotonic()
    assert await sender.send(standard, delivery()) == Sent(200, None, None)
    assert time.monotonic() - begun_s < 2.5


async def test_nobody_at_the_address_is_said_so(sender: Sender, standard: WebhookTarget) -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
    nobody = standard.model_copy(update={"url": f"http://127.0.0.1:{port}/"})
    _refused(await sender.send(nobody, delivery()), "it could not be connected to")


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
    _refused(sent, "the connection ended before there was an answer")


async def test_an_address_that_may_not_be_connected_to_is_not(
    sender: Sender, standard: WebhookTarget, receiver: HttpServer
) -> None:
    told = standard.model_copy(update={"allow_networks": ()})
    _refused(await sender.send(told, delivery()), "127.0.0.1 is 127.0.0.1, an address of this host itself")
    assert receiver.received == []


async def test_a_secret_that_cannot_be_read_stops_the_attempt(
    sender: Sender, standard: WebhookTarget, receiver: HttpServer, secret_file: SecretFile
) -> None:
    (path,) = standard.secret_files
    path.unlink()
    _refused(
        await sender.send(standard, delivery()),
        f"a secret cannot be used: {path} cannot be read: No such file or directory",
    )
    secret_file("signing_secret", "wrong secret")
    told = f"a secret cannot be used: {path} holds no secret for signing: it is `whsec_` and 24 to 64 bytes in base64"
    _refused(await sender.send(standard, delivery()), told)
    secret_file("signing_secret", SIGNING_SECRET).chmod(0o644)
    told = f"a secret cannot be used: {path} can be read by others; run `chmod 600 {path}`"
    _refused(await sender.send(standard, delivery()), told)
    assert receiver.received == []


async def test_a_file_without_certificates_is_said_so(sender: Sender, standard: WebhookTarget, tmp_path: Path) -> None:
    empty = tmp_path / "ca.pem"
    empty.touch()
    told = standard.model_copy(update={"ca_file": empty})
    _refused(await sender.send(told, delivery()), f"`ca_file` cannot be used: {empty} holds no certificates")


async def test_github_hash_is_what_a_receiver_computes(
    sender: Sender, receiver: HttpServer, secret_file: SecretFile
) -> None:
    told = target(url=receiver.url, profile="github-hash", secret_files=[secret_file("hash", "a shared secret")])
    assert (await sender.send(told, delivery())).error is None
    (request,) = receiver.received
    assert request.headers["x-hub-signature-256"] == hub_signature(request.body, "a shared secret")


@pytest.mark.parametrize("login", ["key", "basic", "oauth"])
async def test_a_record_is_written_by_its_sys_id_however_one_logs_in(
    sender: Sender, table: Callable[..., WebhookTarget], servicenow: ServiceNow, login: str
) -> None:
    sys_id = servicenow.add_record("CHG0030123")
    assert await sender.send(table(login), delivery(record=sys_id)) == Sent(200, None, None)
    record = servicenow.record(sys_id)
    written = {"number": "CHG0030123", "u_ngt_status": "renewed", "u_valid_until": "2029-08-19 02:11:04"}
    assert record.fields == written
    (note,) = record.journal["work_notes"]
    assert "https://renewal.example/ngt/jobs/" in note
    (request,) = servicenow.api_requests
    assert request.method == "PATCH"


async def test_a_number_is_resolved_first(
    sender: Sender, table: Callable[..., WebhookTarget], servicenow: ServiceNow
) -> None:
    servicenow.add_record("CHG0030122")
    sys_id = servicenow.add_record("CHG0030123")
    assert await sender.send(table(), delivery(record="CHG0030123")) == Sent(200, None, None)
    assert servicenow.record(sys_id).fields["u_ngt_status"] == "renewed"
    look, change = servicenow.api_requests
    assert look.query == {"sysparm_query": "number=CHG0030123", "sysparm_fields": "sys_id,number", "sysparm_limit": "1"}
    assert (look.method, change.path) == ("GET", f"/api/now/table/{TABLE}/{sys_id}")


async def test_no_other_record_is_written_to_when_the_table_has_no_such_number(
    sender: Sender, table: Callable[..., WebhookTarget], servicenow: ServiceNow
) -> None:
    why = "the table {} has no record CHG0030123, or these credentials do not see it"
    servicenow.add_record("CHG0030122")
    _refused(await sender.send(table(), delivery(record="CHG0030123")), why.format(TABLE))
    # A table without numbers: the instance ignores the condition, and finds a record of somebody else.
    servicenow.add_record(table="sys_user_preference")
    told = table(table="sys_user_preference")
    _refused(await sender.send(told, delivery(record="CHG0030123")), why.format("sys_user_preference"))
    assert [request.method for request in servicenow.api_requests] == ["GET", "GET"]


async def test_a_record_that_is_gone_is_said_so(sender: Sender, table: Callable[..., WebhookTarget]) -> None:
    sent = await sender.send(table(), delivery(record="0" * 32))
    _refused(sent, "it answered 404: there is nothing at this address, or no such record", 404)


@pytest.mark.parametrize("record", [None, "", "CHG1", "../sys_user/1", "CHG0030123^ORnumber=CHG1", "A" * 32])
async def test_what_is_no_record_is_not_asked_for(
    sender: Sender, table: Callable[..., WebhookTarget], servicenow: ServiceNow, record: str | None
) -> None:
    _refused(await sender.send(table(), delivery(record=record)), "nobody named a record to write to")
    assert servicenow.http.received == []


async def test_a_test_without_a_record_changes_nothing_and_proves_the_way(
    sender: Sender, table: Callable[..., WebhookTarget], servicenow: ServiceNow, secret_file: SecretFile
) -> None:
    test = delivery("webhook.test", facts={"message": "This is a test; nothing happened."})
    assert await sender.send(table(), test) == Sent(200, None, None)
    (request,) = servicenow.api_requests
    assert request.method == "GET"
    secret_file("api_key", "wrong secret")
    _refused(await sender.send(table(), test), "it answered 401: it refused the credentials", 401)


async def test_an_import_is_a_flat_row_of_strings(
    sender: Sender, staging: WebhookTarget, servicenow: ServiceNow
) -> None:
    odd = delivery(record="RITM0012345", is_odd=True, number=3, vm_name=None)
    assert await sender.send(staging, odd) == Sent(201, None, None)
    (row,) = servicenow.staged[STAGING_TABLE]
    assert (row["u_record"], row["u_vm_name"], row["u_finished_at"]) == ("RITM0012345", "", "2026-11-23 01:02:44")


async def test_a_row_that_the_transform_refused_was_not_delivered(
    sender: Sender, staging: WebhookTarget, servicenow: ServiceNow
) -> None:
    servicenow.transform_status = "error"
    sent = await sender.send(staging, delivery())
    _refused(
        sent, f"it took the row into {STAGING_TABLE}, and its transform map refused it; look there for the reason", 201
    )


async def test_a_page_to_log_in_at_is_no_success(
    sender: Sender, staging: WebhookTarget, table: Callable[..., WebhookTarget], servicenow: ServiceNow
) -> None:
    page = Answer(200, b"<html>Your instance is hibernating</html>", {"Content-Type": "text/html"})
    servicenow.http.order(page, page, page)
    _refused(await sender.send(staging, delivery()), "it answered 200, but not as ServiceNow does", 200)
    _refused(await sender.send(table(), delivery(record="0" * 32)), "it answered 200, but not as ServiceNow does", 200)
    assert (await sender.send(table(), delivery(record="CHG0030123"))).error is not None


async def test_the_pause_that_servicenow_asks_for_is_handed_on_wherever_it_asks(
    sender: Sender, table: Callable[..., WebhookTarget], servicenow: ServiceNow
) -> None:
    servicenow.http.order(busy("30"))
    _refused(await sender.send(table(), delivery(record="0" * 32)), "it answered 429: it asks for fewer requests", 429)
    servicenow.http.order(busy("31"), busy("32"))
    looked = await sender.send(table(), delivery(record="CHG0030123"))
    assert (looked.http_status, looked.retry_after_s) == (429, 31)
    token = await sender.send(table("oauth"), delivery(record="0" * 32))
    assert (token.http_status, token.retry_after_s) == (None, 32)


@pytest.mark.parametrize(("login", "name"), [("key", "api_key"), ("basic", "password")])
async def test_wrong_credentials_are_refused_and_read_anew_once_they_are_mended(
    sender: Sender,
    table: Callable[..., WebhookTarget],
    servicenow: ServiceNow,
    secret_file: SecretFile,
    login: str,
    name: str,
) -> None:
    sys_id = servicenow.add_record()
    right = secret_file(name, "wrong secret").read_text()
    assert right
    _refused(
        await sender.send(table(login), delivery(record=sys_id)), "it answered 401: it refused the credentials", 401
    )
    secret_file(name, now.API_KEY if login == "key" else now.PASSWORD)
    assert (await sender.send(table(login), delivery(record=sys_id))).error is None


async def test_a_token_is_kept_until_it_expires(
    sender: Sender, table: Callable[..., WebhookTarget], servicenow: ServiceNow
) -> None:
    sys_id = servicenow.add_record()
    for _ in range(3):
        assert (await sender.send(table("oauth"), delivery(record=sys_id))).error is None
    assert servicenow.tokens_given == 1
    (asked,) = (request for request in servicenow.http.received if request.path == "/oauth_token.do")
    assert "authorization" not in asked.headers
    servicenow.withdraw_tokens()
    assert (await sender.send(table("oauth"), delivery(record=sys_id))).error is None
    assert servicenow.tokens_given == 2
    assert len(servicenow.api_requests) == 5


async def test_a_token_that_is_about_to_expire_is_not_used(
    sender: Sender, table: Callable[..., WebhookTarget], servicenow: ServiceNow
) -> None:
    servicenow.token_lifetime_s = 0
    sys_id = servicenow.add_record()
    sent = await sender.send(table("oauth"), delivery(record=sys_id))
    _refused(sent, "it answered 401: it refused the credentials", 401)
    servicenow.token_lifetime_s = 1800
    assert (await sender.send(table("oauth"), delivery(record=sys_id))).error is None
    assert (servicenow.tokens_given, len(servicenow.api_requests)) == (2, 2)


async def test_a_401_is_tried_once_more_and_not_for_ever(
    sender: Sender, table: Callable[..., WebhookTarget], servicenow: ServiceNow
) -> None:
    sys_id = servicenow.add_record()
    assert (await sender.send(table("oauth"), delivery(record=sys_id))).error is None
    servicenow.token_lifetime_s = 0
    servicenow.withdraw_tokens()
    assert (await sender.send(table("oauth"), delivery(record=sys_id))).http_status == 401
    assert (servicenow.tokens_given, len(servicenow.api_requests)) == (2, 3)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (None, "no access token: asked for one, it answered 401: it refused the credentials"),
        (REDIRECT, "no access token: asked for one, it answered 307, a redirect, and those are never followed"),
        (Answer.json(200, {"token": "x"}), "no access token: the answer to the request for one has none"),
        (
            Answer.json(200, {"access_token": "a\r\nb: c"}),
            "no access token: the answer to the request for one has none",
        ),
        (Answer.json(200, ["x"]), "no access token: the answer to the request for one has none"),
        (Answer(200, b"\xff{"), "no access token: the answer to the request for one has none"),
    ],
)
async def test_without_a_token_nothing_is_sent(
    sender: Sender,
    table: Callable[..., WebhookTarget],
    servicenow: ServiceNow,
    secret_file: SecretFile,
    answer: Answer | None,
    why: str,
) -> None:
    secret_file("client_secret", "wrong secret")
    if answer is not None:
        servicenow.http.order(answer)
    _refused(await sender.send(table("oauth"), delivery(record="0" * 32)), why)
    assert servicenow.api_requests == []


async def test_the_token_url_is_under_the_same_rules(
    sender: Sender, table: Callable[..., WebhookTarget], logins: Logins, servicenow: ServiceNow
) -> None:
    elsewhere = {**logins["oauth"]["oauth"], "token_url": "http://localhost.invalid:1/token"}
    told = table("oauth", oauth=elsewhere)

    async def metadata(host: str, port: int) -> list[str]:
        return ["169.254.169.254"]

    async with Sender(resolve=metadata) as other:
        _refused(
            await other.send(told, delivery(record="0" * 32)),
            "localhost.invalid is 169.254.169.254, the address of a metadata service",
        )
    assert servicenow.http.received == []


async def test_no_cookie_is_sent_back(
    sender: Sender, table: Callable[..., WebhookTarget], servicenow: ServiceNow
) -> None:
    sys_id = servicenow.add_record("CHG0030123")
    for record in (sys_id, "CHG0030123"):
        assert (await sender.send(table("oauth"), delivery(record=record))).error is None
    assert all("cookie" not in request.headers for request in servicenow.http.received)


async def test_many_attempts_at_once_do_not_mix(
    sender: Sender, table: Callable[..., WebhookTarget], servicenow: ServiceNow
) -> None:
    sys_ids = [servicenow.add_record(f"CHG00301{number:02}") for number in range(20)]
    deliveries = [
        replace(delivery(record=f"CHG00301{number:02}", vm_name=f"vm-{number}"), target="told") for number in range(20)
    ]
    results = await asyncio.gather(*(sender.send(table("oauth"), each) for each in deliveries))
    assert [sent.error for sent in results] == [None] * 20
    for number, sys_id in enumerate(sys_ids):
        (note,) = servicenow.record(sys_id).journal["work_notes"]
        assert f"the VM vm-{number} (" in note


async def test_nothing_is_left_open(standard: WebhookTarget, receiver: HttpServer) -> None:
    port = int(receiver.url.rpartition(":")[2])
    async with Sender() as sender:
        receiver.order(Answer(200), Answer(500), REDIRECT, Answer(200, b"some", drips=True), HANG)
        told = standard.model_copy(update={"timeout_s": 0.5})
        assert [(await sender.send(told, delivery())).http_status for _ in range(5)] == [200, 500, 307, None, None]
        connections = psutil.Process().net_connections(kind="tcp")
        assert not [c for c in connections if c.status == psutil.CONN_ESTABLISHED and c.raddr[1:] == (port,)]

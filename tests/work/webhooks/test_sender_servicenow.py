"""One attempt at an instance of ServiceNow: its records, its imports, and each way to log in there."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from app.settings import WebhookTarget
from app.work.webhooks.sender import DeliveryResult, Sender
from tests.work.webhooks import servicenow as now
from tests.work.webhooks.conftest import SecretFile
from tests.work.webhooks.http_server import Answer
from tests.work.webhooks.receiver import REDIRECT, busy
from tests.work.webhooks.samples import assert_refused, delivery, target
from tests.work.webhooks.servicenow import STAGING_TABLE, TABLE, ServiceNow

Logins = dict[str, dict[str, Any]]

pytestmark = pytest.mark.usefixtures("no_secret_is_told")


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


@pytest.mark.parametrize("login", ["key", "basic", "oauth"])
async def test_a_record_is_written_by_its_sys_id_however_one_logs_in(
    sender: Sender, table: Callable[..., WebhookTarget], servicenow: ServiceNow, login: str
) -> None:
    sys_id = servicenow.add_record("CHG0030123")
    assert await sender.send(table(login), delivery(record=sys_id)) == DeliveryResult(200, None, None)
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
    assert await sender.send(table(), delivery(record="CHG0030123")) == DeliveryResult(200, None, None)
    assert servicenow.record(sys_id).fields["u_ngt_status"] == "renewed"
    look, change = servicenow.api_requests
    assert look.query == {"sysparm_query": "number=CHG0030123", "sysparm_fields": "sys_id,number", "sysparm_limit": "1"}
    assert (look.method, change.path) == ("GET", f"/api/now/table/{TABLE}/{sys_id}")


async def test_no_other_record_is_written_to_when_the_table_has_no_such_number(
    sender: Sender, table: Callable[..., WebhookTarget], servicenow: ServiceNow
) -> None:
    why = "the table {} has no record CHG0030123, or these credentials do not see it"
    servicenow.add_record("CHG0030122")
    assert_refused(await sender.send(table(), delivery(record="CHG0030123")), why.format(TABLE))
    # A table without numbers: the instance ignores the condition, and finds a record of somebody else.
    servicenow.add_record(table="sys_user_preference")
    told = table(table="sys_user_preference")
    assert_refused(await sender.send(told, delivery(record="CHG0030123")), why.format("sys_user_preference"))
    assert [request.method for request in servicenow.api_requests] == ["GET", "GET"]


async def test_a_record_that_is_gone_is_said_so(sender: Sender, table: Callable[..., WebhookTarget]) -> None:
    sent = await sender.send(table(), delivery(record="0" * 32))
    assert_refused(sent, "it answered 404: there is nothing at this address, or no such record", 404)


@pytest.mark.parametrize("record", [None, "", "CHG1", "../sys_user/1", "CHG0030123^ORnumber=CHG1", "A" * 32])
async def test_what_is_no_record_is_not_asked_for(
    sender: Sender, table: Callable[..., WebhookTarget], servicenow: ServiceNow, record: str | None
) -> None:
    assert_refused(await sender.send(table(), delivery(record=record)), "nobody named a record to write to")
    assert servicenow.http.received == []


async def test_a_test_without_a_record_changes_nothing_and_proves_the_way(
    sender: Sender, table: Callable[..., WebhookTarget], servicenow: ServiceNow, secret_file: SecretFile
) -> None:
    test = delivery("webhook.test", facts={"message": "This is a test; nothing happened."})
    assert await sender.send(table(), test) == DeliveryResult(200, None, None)
    (request,) = servicenow.api_requests
    assert request.method == "GET"
    secret_file("api_key", "wrong secret")
    assert_refused(await sender.send(table(), test), "it answered 401: it refused the credentials", 401)


async def test_an_import_is_a_flat_row_of_strings(
    sender: Sender, staging: WebhookTarget, servicenow: ServiceNow
) -> None:
    odd = delivery(record="RITM0012345", is_odd=True, number=3, vm_name=None)
    assert await sender.send(staging, odd) == DeliveryResult(201, None, None)
    (row,) = servicenow.staged[STAGING_TABLE]
    assert (row["u_record"], row["u_vm_name"], row["u_finished_at"]) == ("RITM0012345", "", "2026-11-23 01:02:44")


async def test_a_row_that_the_transform_refused_was_not_delivered(
    sender: Sender, staging: WebhookTarget, servicenow: ServiceNow
) -> None:
    servicenow.transform_status = "error"
    sent = await sender.send(staging, delivery())
    assert_refused(
        sent, f"it took the row into {STAGING_TABLE}, and its transform map refused it; look there for the reason", 201
    )


async def test_a_page_to_log_in_at_is_no_success(
    sender: Sender, staging: WebhookTarget, table: Callable[..., WebhookTarget], servicenow: ServiceNow
) -> None:
    page = Answer(200, b"<html>Your instance is hibernating</html>", {"Content-Type": "text/html"})
    servicenow.http.order(page, page, page)
    assert_refused(await sender.send(staging, delivery()), "it answered 200, but not as ServiceNow does", 200)
    assert_refused(
        await sender.send(table(), delivery(record="0" * 32)), "it answered 200, but not as ServiceNow does", 200
    )
    assert (await sender.send(table(), delivery(record="CHG0030123"))).error is not None


async def test_the_pause_that_servicenow_asks_for_is_handed_on_wherever_it_asks(
    sender: Sender, table: Callable[..., WebhookTarget], servicenow: ServiceNow
) -> None:
    servicenow.http.order(busy("30"))
    assert_refused(
        await sender.send(table(), delivery(record="0" * 32)), "it answered 429: it asks for fewer requests", 429
    )
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
    secret_file(name, "wrong secret")
    assert_refused(
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
    assert_refused(sent, "it answered 401: it refused the credentials", 401)
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
    assert_refused(await sender.send(table("oauth"), delivery(record="0" * 32)), why)
    assert servicenow.api_requests == []


async def test_the_token_url_is_under_the_same_rules(
    sender: Sender, table: Callable[..., WebhookTarget], logins: Logins, servicenow: ServiceNow
) -> None:
    elsewhere = {**logins["oauth"]["oauth"], "token_url": "http://localhost.invalid:1/token"}
    told = table("oauth", oauth=elsewhere)

    async def metadata(host: str, port: int) -> list[str]:
        return ["169.254.169.254"]

    async with Sender(resolve=metadata) as other:
        assert_refused(
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

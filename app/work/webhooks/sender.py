"""One attempt to make one delivery, and what came of it; whether and when there is another is decided elsewhere.

An outside failure becomes a `DeliveryResult`: no exception, no secret and nothing the receiver wrote leaves this file.
"""

import asyncio
import ssl
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import httpx

from app.events import ServiceEventType
from app.settings.secret_files import SecretRefusedError, read_secret_file, read_signing_file
from app.settings.webhooks import WebhookTarget, is_sys_id
from app.store.records.webhooks import DeliveryRecord
from app.work.webhooks.addresses import AddressRefusedError, CheckedTransport, Resolve, system_addresses
from app.work.webhooks.credentials import Credentials, TokenRefusedError
from app.work.webhooks.http_exchange import Exchanged, exchange, explain
from app.work.webhooks.profiles import Message, message_for

# Enough left for the next address of a host whose first one is dead.
_CONNECT_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class DeliveryResult:
    """The result of an attempt. `error` None: it was delivered; else a sentence for a person, without any secret.

    `http_status` is the target's own answer, None without an answer; `retry_after_s` is the pause that it requested.
    """

    http_status: int | None
    retry_after_s: float | None
    error: str | None


class _UnsentError(Exception):
    """The event itself could not be sent; the message is a clause."""

    def __init__(self, message: str, http_status: int | None = None, retry_after_s: float | None = None) -> None:
        self.http_status = http_status
        self.retry_after_s = retry_after_s
        super().__init__(message)


class Sender:
    """Makes attempts, any number at a time; an async context manager that owns its connections.

    `public_url` makes links of the paths in the facts.
    """

    def __init__(self, public_url: str | None = None, resolve: Resolve = system_addresses) -> None:
        self._public_url = public_url
        self._resolve = resolve
        self._credentials = Credentials()
        self._clients: dict[str, httpx.AsyncClient] = {}
        self._closing = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, wrong: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._closing.aclose()

    async def send(self, target: WebhookTarget, delivery: DeliveryRecord) -> DeliveryResult:
        """One attempt, in at most `target.timeout_s`; never raises for what the other side or a file does."""
        try:
            async with asyncio.timeout(target.timeout_s):
                return await self._send(target, delivery)
        except TimeoutError:
            return _not_delivered(target, f"it did not answer within {target.timeout_s:g} s")
        except httpx.HTTPError as wrong:
            return _not_delivered(target, explain(wrong))
        except SecretRefusedError as refused:
            return _not_delivered(target, f"a secret cannot be used: {refused}")
        except AddressRefusedError as refused:
            return _not_delivered(target, str(refused))
        except TokenRefusedError as refused:
            return _not_delivered(target, str(refused), retry_after_s=refused.retry_after_s)
        except _UnsentError as unsent:
            return _not_delivered(target, str(unsent), unsent.http_status, unsent.retry_after_s)

    async def _send(self, target: WebhookTarget, delivery: DeliveryRecord) -> DeliveryResult:
        client = self._clients.get(target.name) or self._open(target)
        sys_id = ""
        if target.needs_record:
            if delivery.record is None and delivery.event == ServiceEventType.TEST:
                return _sent(target, await self._exchange(target, client, _one_of_the_table(target)))
            sys_id = await self._sys_id(target, delivery.record or "", client)
        message = message_for(
            target,
            delivery,
            datetime.now(UTC),
            secrets=await asyncio.to_thread(_signing_secrets, target),
            sys_id=sys_id,
            public_url=self._public_url,
        )
        return _sent(target, await self._exchange(target, client, message))

    async def _sys_id(self, target: WebhookTarget, record: str, client: httpx.AsyncClient) -> str:
        """The record's own id, which the Table API wants; a number is looked up."""
        if not target.record_is_valid(record):
            raise _UnsentError("nobody named a record to write to")
        if is_sys_id(record):
            return record
        answer = await self._exchange(target, client, _by_number(target, record))
        if not answer.is_success:
            raise _UnsentError(
                f"{record} could not be looked up: {answer.meaning()}", answer.status, answer.retry_after_s
            )
        # ServiceNow leaves a condition out that it does not understand, and then any record is found.
        for found in _records(answer):
            if found.get("number") == record and is_sys_id(str(found.get("sys_id"))):
                return str(found["sys_id"])
        raise _UnsentError(f"the table {target.table} has no record {record}, or these credentials do not see it")

    async def _exchange(self, target: WebhookTarget, client: httpx.AsyncClient, message: Message) -> Exchanged:
        """With credentials; a token that was kept may have been withdrawn, so that there is one more try with a new."""
        credentials, is_kept = await self._credentials.headers(target, client)
        answer = await exchange(client, message.method, message.url, message.headers | credentials, message.body)
        if answer.status != HTTPStatus.UNAUTHORIZED:
            return answer
        self._credentials.forget_token(target)
        if not is_kept:
            return answer
        credentials, _ = await self._credentials.headers(target, client)
        return await exchange(client, message.method, message.url, message.headers | credentials, message.body)

    def _open(self, target: WebhookTarget) -> httpx.AsyncClient:
        try:
            tls = httpx.create_ssl_context(trust_env=False) if target.ca_file is None else _only(target.ca_file)
        except OSError:
            raise _UnsentError(f"`ca_file` cannot be used: {target.ca_file} holds no certificates") from None
        client = httpx.AsyncClient(
            transport=CheckedTransport(target.allow_networks, tls, self._resolve),
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(target.timeout_s, connect=min(_CONNECT_TIMEOUT_S, target.timeout_s)),
            # No compression, so that what is read has the size that was sent; and no session of the other side.
            headers={"User-Agent": f"ngt-renewal/{version('ngt-renewal')}", "Accept-Encoding": "identity"},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )
        self._clients[target.name] = client
        self._closing.push_async_callback(client.aclose)
        return client


def _only(ca_file: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca_file)


def _signing_secrets(target: WebhookTarget) -> list[str]:
    read = read_signing_file if target.profile == "standard" else read_secret_file
    return [read(path) for path in target.secret_files]


def _by_number(target: WebhookTarget, number: str) -> Message:
    return _look(target, sysparm_query=f"number={number}", sysparm_fields="sys_id,number", sysparm_limit="1")


def _one_of_the_table(target: WebhookTarget) -> Message:
    """Tries the way and the credentials, and changes nothing."""
    return _look(target, sysparm_fields="sys_id", sysparm_limit="1")


def _look(target: WebhookTarget, **query: str) -> Message:
    url = f"{target.url.rstrip('/')}/api/now/table/{target.table}?{urlencode(query)}"
    return Message("GET", url, {"Accept": "application/json"}, None)


def _records(answer: Exchanged) -> list[dict[str, Any]]:
    found = answer.json().get("result")
    return [record for record in found if isinstance(record, dict)] if isinstance(found, list) else []


def _sent(target: WebhookTarget, answer: Exchanged) -> DeliveryResult:
    if not answer.is_success:
        return _not_delivered(target, answer.meaning(), answer.status, answer.retry_after_s)
    if target.accepts_record and not answer.is_json:
        # An instance that sleeps, and a page to log in at, answer 200 to everything.
        return _not_delivered(target, f"it answered {answer.status}, but not as ServiceNow does", answer.status)
    if target.profile == "servicenow_import" and any(row.get("status") == "error" for row in _records(answer)):
        why = (
            f"it took the row into {target.staging_table}, and its transform map refused it; look there for the reason"
        )
        return _not_delivered(target, why, answer.status)
    return DeliveryResult(answer.status, None, None)


def _not_delivered(
    target: WebhookTarget, why: str, http_status: int | None = None, retry_after_s: float | None = None
) -> DeliveryResult:
    return DeliveryResult(http_status, retry_after_s, f"The webhook {target.name} did not take the event: {why}.")

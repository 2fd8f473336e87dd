"""Receivers to send to, targets that mean them, and deliveries to send."""

import base64
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from app.work.webhooks.sender import Sender
from tests.work.webhooks import servicenow as now
from tests.work.webhooks.authority import Authority
from tests.work.webhooks.http_server import HttpServer
from tests.work.webhooks.receiver import running_receiver
from tests.work.webhooks.servicenow import ServiceNow, running_servicenow

SIGNING_SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
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
PUBLIC_URL = "https://renewal.example/ngt"

SecretFile = Callable[[str, str], Path]


@pytest.fixture
def servicenow() -> Iterator[ServiceNow]:
    with running_servicenow() as instance:
        yield instance


@pytest.fixture
def receiver() -> Iterator[HttpServer]:
    with running_receiver() as server:
        yield server


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def secret_file(tmp_path: Path) -> SecretFile:
    """A file of that name that holds the secret and that nobody else can read; written again, it holds another one."""

    def write(name: str, secret: str) -> Path:
        path = tmp_path / name
        path.touch(mode=0o600)
        path.write_text(f"{secret}\n", "utf-8")
        return path

    return write


@pytest_asyncio.fixture
async def sender() -> AsyncIterator[Sender]:
    async with Sender(PUBLIC_URL) as opened:
        yield opened


@pytest.fixture
def no_secret_is_told(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Whatever the test does, no log line of any library holds a secret."""
    caplog.set_level(logging.DEBUG)
    yield
    told = caplog.text + "".join(capfd.readouterr())
    assert not [secret for secret in SECRETS if secret in told]
    assert not re.search(r"Bearer token-|Basic [A-Za-z0-9+/]{8}", told)

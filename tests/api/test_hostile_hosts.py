"""Hostile text in every field of a host, and every way out of the service: shown, bounded, never obeyed."""

import asyncio
import json
import re
from pathlib import Path

import httpx
import pytest

from app.settings.callers.scopes import Scope
from app.simulator.certificates import pem_of
from app.simulator.faults import Does, Said, ToolFault
from app.simulator.site import Site
from app.simulator.spec import ClusterSpec, SiteSpec, VmSpec
from app.store.callers.api_keys import Keys
from app.store.postgres.database import Database
from tests.cli.command import Commands
from tests.ngt.hostile import OBEYED
from tests.work.service import write_configuration
from tests.work.webhooks.receiver import running_receiver

_PLANTED = "\x00\x1b[2J\x1b]0;t\x07\x9b\u202e\u2066\ud800\x7f"
_LONG = "x" * 1_000_000
_TARGET = """
[webhooks.all]
url = "{url}"
allow_http = true
allow_networks = ["127.0.0.0/8"]
secret_files = ["secret"]
"""
_WAYS_OUT = (
    "/vms",
    "/vms?q=web",
    "/vms/{vm}/ngt",
    "/vms/{vm}/ngt/diagnosis",
    "/vms/{vm}/ngt/certificate",
    "/jobs",
    "/jobs/{job}",
    "/jobs/{job}/log",
    "/jobs/{job}/result",
    "/jobs/{job}/events",
    "/scans",
    "/clusters/c1/health",
    "/clusters/c1/auto-renew/plan",
    "/forecast",
    "/webhooks/all/deliveries",
    "/metrics",
)
_LARGEST_ANSWER = 1_000_000


@pytest.mark.parametrize(
    "field", ["name of a VM", "restart of the agent", "certificate", "configuration", "tool of a CVM"]
)
@pytest.mark.timeout(600)
@pytest.mark.field("B1", "B2", "B3", "E11")
async def test_what_is_planted_in_a_field_is_obeyed_nowhere(
    tmp_path: Path, database: Database, database_url: str, field: str
) -> None:
    commands = Commands(tmp_path, {"DATABASE_URL": database_url, "NGT_RENEWAL_PORT": "0"})
    _, key = await Keys(database).create("a reader", frozenset(Scope))
    (tmp_path / "secret").touch(mode=0o600)
    (tmp_path / "secret").write_text("whsec_" + "A" * 32)
    spec = SiteSpec((ClusterSpec("c1", 1, (VmSpec("web01"), VmSpec("web02"))),))
    async with Site.running(spec, tmp_path / "site") as site:
        with running_receiver() as receiver:
            write_configuration(site, commands.configuration, {"verify_timeout_ssh_s": 3, "unreachable_retries": 0})
            with commands.configuration.open("a") as configuration:
                configuration.write(_TARGET.format(url=receiver.url))
            _plant(site, field)
            async with commands.running("serve") as service:
                seen = await _walk(site, await service.url(), key)
                seen |= {f"delivery {number}": one.body.decode() for number, one in enumerate(receiver.received)}
                seen["log"] = json.dumps([json.loads(line) for line in service.lines if line.startswith("{")])
    for place, text in seen.items():
        assert not OBEYED.search(text), (place, OBEYED.findall(text)[:5])
        if not text.startswith(("{", "[")):
            continue
        for said in _texts(json.loads(text)):
            assert not OBEYED.search(said), (place, said[:200])
    assert "web02" in seen["/vms"]


def _plant(site: Site, field: str) -> None:
    vm = site.vm_named("web01")
    raw = _PLANTED.encode("utf-8", "surrogatepass")
    said = site.guests[vm.uuid].faults.says
    match field:
        case "name of a VM":
            vm.name = f"web01{_PLANTED.replace(chr(0xD800), '')}{_LONG[:50_000]}"
        case "restart of the agent":
            said.append(Said("systemctl restart", raw, raw + _LONG[:100_000].encode(), 3))
        case "certificate":
            assert vm.installed is not None
            said.append(Said("client-cert", raw + pem_of(vm.installed).encode()[:200] + raw, raw))
        case "configuration":
            config = json.dumps({"ngt_uuid": _PLANTED + _LONG[:100_000]})
            said.append(Said("ngt_config", config.encode()))
        case _:
            words = ("kInternalError",)
            site.order(ToolFault(does=Does.GARBAGE, sub_command="mount_guest_tools", times=None, words=words))


async def _walk(site: Site, url: str, key: str) -> dict[str, str]:
    vm = site.vm_named(next(one.name for one in site.clusters["c1"].vms.values() if one.name.startswith("web01"))).uuid
    async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": key}, timeout=120, trust_env=False) as client:
        scan = (await client.post("/clusters/c1/scan")).json()
        for _ in range(600):
            if (await client.get(f"/scans/{scan['id']}")).json()["done"]:
                break
            await asyncio.sleep(0.2)
        job = (await client.post(f"/vms/{vm}/ngt/renew?wait=1", json={"force": True})).json()
        for _ in range(60):
            if (await client.get(f"/jobs/{job['id']}?wait=5")).json()["done"]:
                break
        seen = {}
        for way in _WAYS_OUT:
            answer = await client.get(way.format(vm=vm, job=job["id"]))
            assert answer.status_code < 500, answer.text[:500]
            assert len(answer.content) < _LARGEST_ANSWER, way
            seen[way] = answer.text
        csv = await client.get("/vms", headers={"Accept": "text/csv"})
        # The lines of CSV end with CR LF.
        seen["CSV"] = re.sub("\r\n", "\n", csv.text)
        assert json.loads(seen["/jobs/{job}"])["done"], seen["/jobs/{job}"]
        return seen


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for pair in value.items() for one in pair for text in _texts(one)]
    return [text for one in value for text in _texts(one)] if isinstance(value, list) else []

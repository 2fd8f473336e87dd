"""Diagnoses of simulated VMs over HTTP: a worker makes each look, and each call that they name goes on from there."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID

import httpx
import pytest_asyncio

from app.settings.callers.scopes import Scope
from app.simulator.model import SimulatedVm
from app.simulator.spec import SiteSpec
from app.store.records.jobs import JobRecord
from tests.api.conftest import serving
from tests.work.conftest import Begin
from tests.work.service import Service

Json = dict[str, Any]


class Asking:
    """One who asks for diagnoses over HTTP, and makes the calls that they name."""

    def __init__(self, service: Service, client: httpx.AsyncClient) -> None:
        self.service = service
        self._client = client

    async def diagnosis(self, vm: str | SimulatedVm, **query: str) -> Json:
        asked = {"cluster": "c1", "wait": "20", **query}
        answer = await self._client.get(f"/vms/{self.service.uuid_of(vm)}/ngt/diagnosis", params=asked)
        assert answer.status_code == 200, answer.text
        body: Json = answer.json()
        return body

    async def codes(self, vm: str | SimulatedVm, **query: str) -> list[str]:
        return [finding["code"] for finding in (await self.diagnosis(vm, **query))["findings"]]

    async def call(self, finding: Json) -> Json:
        """What is answered to the call of the finding, exactly as it stands there."""
        body = json.loads(finding["call_body"]) if "call_body" in finding else None
        answer = await self._client.request(finding["call_method"], finding["call_path"], json=body)
        assert answer.status_code == 202, answer.text
        said: Json = answer.json()
        return said

    async def called(self, finding: Json) -> JobRecord:
        """The job of the finding's call, when it is done."""
        return await self.service.done(await self.service.find(UUID((await self.call(finding))["id"])))


Ask = Callable[..., Awaitable[Asking]]


@pytest_asyncio.fixture
async def ask(begin: Begin, database_url: str) -> AsyncIterator[Ask]:
    """Begins a service with a worker, and its HTTP: as `begin`."""
    async with AsyncExitStack() as stack:

        async def begin_asking(spec: SiteSpec | None = None, **of: Any) -> Asking:
            service = await begin(spec, **of)
            http = await stack.enter_async_context(serving(service.settings, database_url))
            client = await stack.enter_async_context(http.client(await http.key(*Scope)))
            return Asking(service, client)

        yield begin_asking


async def test_each_sort_of_vm_is_told_for_what_it_is(ask: Ask) -> None:
    asking = await ask()
    told = {
        "fresh01": ["nothing-is-wrong"],
        "web02": ["certificate-expires-soon"],
        "expired01": ["certificate-expired"],
        "switched-off": ["vm-not-running", "certificate-expires-soon"],
        "web01-clone": ["ngt-not-enabled"],
    }
    for name, codes in told.items():
        body = await asking.diagnosis(name)
        assert [finding["code"] for finding in body["findings"]] == codes
        assert (body["looked"], body["look_failed"], body["healthy"]) == (True, False, codes == ["nothing-is-wrong"])


async def test_the_call_of_a_finding_mends_it(ask: Ask) -> None:
    asking = await ask()
    for name in ("expired01", "web01-clone"):
        (finding,) = (await asking.diagnosis(name))["findings"]
        job = await asking.called(finding)
        assert job.outcome == "renewed", job
        after = await asking.diagnosis(name)
        assert [finding["code"] for finding in after["findings"]] == ["nothing-is-wrong"], json.dumps(after)
        assert after["looked"]


async def test_an_agent_that_was_not_restarted_is_told_until_it_picks_the_certificate_up(ask: Ask) -> None:
    # Nobody but the caller has the job look again.
    slow = {"guest_read_delays_s": [600], "watch_first_interval_s": 60, "watch_last_interval_s": 60}
    asking = await ask(restart_agent="manual", limits=slow)
    service = asking.service
    job = await service.waits(await service.renew("web02"), "agent_restart")
    findings = (await asking.diagnosis("web02"))["findings"]
    assert [finding["code"] for finding in findings] == ["awaiting-pickup", "renewal-open"]
    assert findings[0]["call_path"] == f"/jobs/{job.id}/agent-restarted"
    service.site.clusters["c1"].restart_agent(service.uuid_of("web02"))
    assert (await asking.call(findings[0]))["id"] == str(job.id)
    assert (await service.done(job)).outcome == "renewed"
    assert await asking.codes("web02") == ["nothing-is-wrong"]


async def test_a_cluster_that_falls_silent_is_told_with_what_was_known(ask: Ask) -> None:
    asking = await ask()
    await asking.service.scanned()
    for cvm in asking.service.site.cvms["c1"]:
        await cvm.down()
    await asking.service.scanned()
    body = await asking.diagnosis("expired01")
    assert (body["looked"], body["look_failed"]) == (False, True)
    assert [finding["code"] for finding in body["findings"]] == ["certificate-expired", "cluster-not-reached"]
    assert "seen_at" in body


async def test_a_vm_that_is_gone_is_told_as_such(ask: Ask) -> None:
    asking = await ask()
    assert await asking.codes("web02") == ["certificate-expires-soon"]
    uuid = asking.service.uuid_of("web02")
    vm = asking.service.site.clusters["c1"].vms.pop(uuid)
    await asking.service.scanned()
    assert await asking.codes(vm) == ["vm-vanished"]


async def test_a_guest_that_is_not_reached_costs_the_certificate_its_restart_over_ssh(ask: Ask) -> None:
    asking = await ask()
    await asking.service.site.guests[asking.service.uuid_of("web02")].down()
    soon, silent = (await asking.diagnosis("web02"))["findings"]
    assert (soon["code"], silent["code"]) == ("certificate-expires-soon", "guest-not-readable")
    assert json.loads(soon["call_body"]) == {"restart_agent": "manual"}


async def test_an_entity_that_somebody_deleted_is_missed(ask: Ask) -> None:
    asking = await ask()
    assert await asking.codes("fresh01") == ["nothing-is-wrong"]
    service = asking.service
    uuid = service.uuid_of("fresh01")
    service.site.clusters["c1"].delete_vm_tools_entity(uuid)
    await service.scanned()
    (finding,) = (await asking.diagnosis("fresh01"))["findings"]
    assert finding["code"] == "entity-gone"
    assert (await asking.called(finding)).outcome == "renewed"

"""Renewals on the simulated site, and what a receiver is told of them meanwhile: signed, once, and at once."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from app.settings import load_settings
from app.simulator.faults import Does, ToolFault
from app.simulator.site import Site
from app.simulator.spec import uniform_site
from tests.work.service import OPERATOR, Service, assert_nothing_forbidden, opened, write_configuration
from tests.work.webhooks.conftest import SIGNING_SECRET, SecretFile
from tests.work.webhooks.http_server import HttpServer, Received
from tests.work.webhooks.rows import deliveries
from tests.work.webhooks.samples import target


@pytest.fixture
def begin(tmp_path: Path, database_url: str, receiver: HttpServer, secret_file: SecretFile) -> Any:
    """Begins the service on two VMs of one cluster, with the receiver as its one target."""
    told = target(url=receiver.url, secret_files=[secret_file("signing", SIGNING_SECRET)])

    @asynccontextmanager
    async def running(limits: Mapping[str, Any] | None = None, **of: Any) -> AsyncIterator[Service]:
        async with Site.running(uniform_site(vms=2), tmp_path / "site") as site:
            path = write_configuration(site, tmp_path / "ngt-renewal.toml", limits or {}, **of)
            settings = load_settings(path, {}).model_copy(update={"webhooks": {"told": told}})
            async with opened(settings, database_url, site) as service, service.at_work():
                yield service
            assert_nothing_forbidden(site)

    return running


def told_of(received: Received) -> tuple[str, dict[str, Any]]:
    """(event, facts), after the signature was checked."""
    Webhook(SIGNING_SECRET).verify(received.body, received.headers)
    body = received.json()
    return body["type"], body["data"]


async def test_the_end_of_a_renewal_is_told(begin: Any, receiver: HttpServer) -> None:
    async with begin() as service:
        job = await service.renewed("vm0001")
        (received,) = await receiver.wait_for(1)
        event, facts = told_of(received)
        assert (event, facts["job_id"], facts["outcome"]) == ("ngt.renewal.succeeded", str(job.id), "renewed")
        assert facts["new_not_after"] > facts["old_not_after"]


async def test_a_renewal_that_waits_for_a_person_says_so_once(begin: Any, receiver: HttpServer) -> None:
    # Nothing but the person's word wakes the job: it would be at work just when it is cancelled.
    slow = {"watch_first_interval_s": 600, "watch_last_interval_s": 600, "guest_read_delays_s": [600]}
    async with begin(slow, restart_agent="manual") as service:
        job = await service.waits(await service.renew("vm0001"), "agent_restart")
        (received,) = await receiver.wait_for(1)
        event, facts = told_of(received)
        assert (event, facts["wait_reason"]) == ("ngt.renewal.action_required", "agent_restart")
        assert "restart the agent in VM 'vm0001'" in facts["message"]
        # It looks once more, and waits for the same person.
        await service.jobs.report_agent_restarted(job.id)
        await service.wait_until(job, lambda now: now.version > job.version + 1 and now.status == "waiting")
        await service.jobs.cancel(job.id, OPERATOR)
        events = [told_of(received)[0] for received in await receiver.wait_for(2)]
        assert events == ["ngt.renewal.action_required", "ngt.renewal.cancelled"]
        assert len(await deliveries(service.database)) == 2


async def test_a_stranded_vm_is_told_at_once_and_once(begin: Any, receiver: HttpServer) -> None:
    async with begin() as service:
        refused = ToolFault(does=Does.REFUSE, sub_command="create_vm_tools_entity", times=None)
        service.site.order(refused)
        job = await service.waits(await service.renew("vm0001"), "entity_missing")
        event, facts = told_of((await receiver.wait_for(1))[0])
        assert (event, facts["job_id"]) == ("ngt.renewal.stranded", str(job.id))
        tried = len(service.site.journal.calls("create_vm_tools_entity"))
        await service.wait_until(job, lambda _: len(service.site.journal.calls("create_vm_tools_entity")) > tried + 2)
        service.site.faults.clear()
        await service.done(job)
        events = [told_of(received)[0] for received in await receiver.wait_for(2)]
        assert events == ["ngt.renewal.stranded", "ngt.renewal.succeeded"]

"""Guests that show a certificate which the cluster did not issue for them: unverified, found, and warned of."""

from dataclasses import replace

import pytest

from app.ngt.renewal.request import RestartAgent
from app.simulator.certificates import ClientCertificate, issue
from app.simulator.spec import ReportedExpiry, Traits, uniform_site
from tests.work.conftest import Begin
from tests.work.scans.test_run import complete, vm_row
from tests.work.service import Service, shown, steps_of

pytestmark = pytest.mark.field("A5")

_CODE = "certificate-not-of-this-cluster"
_FAR = 252_326_016_000  # in the year 9965


def issued_now(service: Service) -> ClientCertificate:
    return issue("5e6b0a3c-52f1-4d0e-b45f-9f8a4a1f4b11", not_before=service.site.clusters["c1"].clock())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"issuer": ""}, "it is self-signed"),
        ({"issuer": "", "not_after": _FAR}, "it is self-signed"),
        ({"issuer": "Corporate authority"}, "its issuer is 'CN=Corporate authority'"),
        ({"not_after": _FAR}, "until 9965-"),
    ],
)
async def test_a_guest_that_shows_a_foreign_certificate_ends_unverified(
    begin: Begin, change: dict[str, object], reason: str
) -> None:
    service = await begin(uniform_site(vms=2))
    vm = service.site.vm_named("vm0001")
    vm.installs_instead = replace(issued_now(service), **change)  # type: ignore[arg-type]  # fields of it
    done = await service.renewed("vm0001")
    assert (done.status, done.outcome) == ("succeeded", "unverified"), shown(done)
    assert reason in done.message
    assert (done.results.verified_by, done.results.new_not_after) == (None, None)
    assert done.remaining_action is not None
    assert steps_of(done)["verify"].status == "failed"
    row = await vm_row(service, vm)
    assert (row["guest_fault_code"], row["renewed_at"]) == (_CODE, None)
    assert row["awaiting_pickup_since"] is not None
    # A scan does not believe it either, until it is the cluster's.
    await complete(service)
    row = await vm_row(service, vm)
    assert row["guest_fault_code"] == _CODE
    assert row["not_after"].year < 2100
    vm.installs_instead = None
    again = await service.renewed("vm0001")
    assert again.outcome == "renewed", shown(again)
    assert (await vm_row(service, vm))["guest_fault_code"] is None


async def test_another_vms_certificate_is_caught_although_the_guest_names_its_own_entity(begin: Begin) -> None:
    service = await begin(uniform_site(vms=2))
    assert (await service.renewed("vm0002")).outcome == "renewed"
    other = service.site.vm_named("vm0002").installed
    assert other is not None
    service.site.vm_named("vm0001").installs_instead = replace(other, subject=other.ngt_uuid)
    done = await service.renewed("vm0001")
    assert done.outcome == "unverified", shown(done)
    assert "the same certificate was seen in VM" in done.message


async def test_a_far_date_of_the_cluster_alone_ends_unverified_and_is_not_shown(begin: Begin) -> None:
    traits = Traits(reported_expiry=ReportedExpiry.INSTALLED)
    service = await begin(uniform_site(vms=2, traits=traits), guests=False)
    await complete(service)
    vm = service.site.vm_named("vm0001")
    before = (await vm_row(service, vm))["not_after"]
    vm.installs_instead = replace(issued_now(service), not_after=_FAR)
    job = await service.renew("vm0001", restart_agent=RestartAgent.MANUAL)
    await service.waits(job, "agent_restart")
    service.site.clusters["c1"].restart_agent(vm.uuid)
    done = await service.done(job)
    assert done.outcome == "unverified", shown(done)
    await complete(service)
    assert (await vm_row(service, vm))["not_after"] == before

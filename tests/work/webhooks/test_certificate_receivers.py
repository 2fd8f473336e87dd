"""What really arrives of a certificate that ends: signed at a receiver, and as rows of an import at ServiceNow."""

from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from app.settings import Limits, load_settings
from app.simulator.site import Site
from app.simulator.spec import uniform_site
from app.store.postgres.database import Database
from app.store.webhooks.deliveries import Deliveries
from app.telemetry.metrics import Metrics
from app.work.webhooks.deliverer import Deliverer
from app.work.webhooks.profiles import hub_signature
from app.work.webhooks.sender import Sender
from tests.work.service import opened, write_configuration
from tests.work.webhooks.certificates import NOW, Certificates, days, of
from tests.work.webhooks.conftest import PUBLIC_URL, SIGNING_SECRET, SecretFile
from tests.work.webhooks.http_server import HttpServer
from tests.work.webhooks.rows import deliveries
from tests.work.webhooks.samples import target
from tests.work.webhooks.servicenow import API_KEY, STAGING_TABLE, ServiceNow

pytestmark = pytest.mark.usefixtures("no_secret_is_told")


async def send(certificates: Certificates) -> list[str]:
    """Everything that is due is sent; then the states of all deliveries."""
    store, delays_s = Deliveries(certificates.database), Limits().webhook_retry_delays_s
    sending = Deliverer(store, certificates.targets, Sender(PUBLIC_URL), delays_s, Metrics())
    async with sending.running():
        await sending.send_due()
    return [row["status"] for row in await deliveries(certificates.database)]


async def end_some(certificates: Certificates) -> None:
    """One certificate that has expired, one that will, and a digest."""
    await certificates.add(-1, name="db01")
    await certificates.add(5.5, serial="1f", name="web01[code]")
    await certificates.scanned(scan_fault_code="cvm-unreachable", scan_fault="no CVM answered", scan_fault_at=NOW)
    await certificates.round()


async def test_a_receiver_gets_each_event_signed(
    database: Database, receiver: HttpServer, secret_file: SecretFile
) -> None:
    signing = secret_file("signing", SIGNING_SECRET)
    certificates = of(database, target(url=receiver.url, secret_files=[signing]))
    await end_some(certificates)
    assert await send(certificates) == ["delivered"] * 3
    got: dict[str, Any] = {}
    for received in receiver.received:
        body = Webhook(SIGNING_SECRET).verify(received.body, received.headers)
        got[body["type"]] = body["data"]
    assert got.keys() == {"ngt.certificate.expired", "ngt.certificate.expiring", "ngt.certificate.digest"}
    assert got["ngt.certificate.expiring"]["vm_name"] == "web01[code]"
    assert [vm["vm_name"] for vm in got["ngt.certificate.digest"]["expiring_first"]] == ["web01[code]"]


async def test_a_receiver_of_hashes_gets_the_same_bodies(
    database: Database, receiver: HttpServer, secret_file: SecretFile
) -> None:
    told = target(url=receiver.url, profile="github-hash", secret_files=[secret_file("signing", SIGNING_SECRET)])
    certificates = of(database, told)
    await end_some(certificates)
    assert await send(certificates) == ["delivered"] * 3
    for received in receiver.received:
        assert received.headers["x-hub-signature-256"] == hub_signature(received.body, SIGNING_SECRET)
    facts = {row["event"]: row["facts"] for row in await deliveries(database)}
    assert {received.json()["type"]: received.json()["data"] for received in receiver.received} == facts


async def test_servicenow_gets_a_row_of_each_with_the_columns_of_its_event(
    database: Database, servicenow: ServiceNow, secret_file: SecretFile
) -> None:
    staging = target(
        url=servicenow.url,
        profile="servicenow_import",
        staging_table=STAGING_TABLE,
        fields={"u_notes": "{work_notes}", "u_serial": ""},
        header={"name": "x-sn-apikey", "value_file": secret_file("key", API_KEY)},
    )
    certificates = of(database, staging)
    await end_some(certificates)
    assert await send(certificates) == ["delivered"] * 3
    rows = {row["u_event"].rpartition(".")[2]: row for row in servicenow.staged[STAGING_TABLE]}
    vm = rows["expiring"]["u_vm_uuid"]
    assert rows["expiring"] == {
        "u_event": "ngt.certificate.expiring",
        "u_record": "",
        "u_message": "The NGT certificate of the VM web01(code) expires in 5 days, on 2026-11-29.",
        "u_action": f"Renew it with POST /vms/{vm}/ngt/renew.",
        "u_vm_uuid": vm,
        "u_vm_name": "web01(code)",
        "u_cluster": "c1",
        "u_not_after": "2026-11-29 00:00:00",
        "u_days_left": "5",
        "u_days_before": "7",
        "u_certificate_source": "cvm_expiry_date",
        "u_certificate_observed_at": "2026-11-23 12:00:00",
        "u_new_certificate_issued": "false",
        "u_link": f"{PUBLIC_URL}/vms/{vm}",
        "u_notes": (
            f"The NGT client certificate of the VM web01(code) (UUID {vm}, cluster c1) comes to its end. The service "
            "says: The NGT certificate of the VM web01(code) expires in 5 days, on 2026-11-29. Its last second is "
            f"2026-11-29 00:00:00 UTC. What to do next: Renew it with POST /vms/{vm}/ngt/renew. More about it: "
            f"{PUBLIC_URL}/vms/{vm}"
        )
        .replace(". Its last", ".\nIts last")
        .replace(". What to", ".\nWhat to")
        .replace(". More", ".\nMore"),
    }
    assert (rows["expired"]["u_days_left"], rows["expired"]["u_days_before"]) == ("-1", "0")
    digest = rows["digest"]
    assert (digest["u_vms"], digest["u_expired"], digest["u_scan_error_code"]) == ("2", "1", "cvm-unreachable")
    assert (digest["u_last_whole_scan_at"], digest["u_previous_digest_at"]) == ("2026-11-23 02:24:00", "")
    assert digest["u_expiring_first_text"] == "web01(code) 2026-11-29"
    assert digest["u_link"] == f"{PUBLIC_URL}/vms?cluster=c1&sort=not_after"
    assert digest["u_notes"].startswith("This is the daily digest of NGT client certificates. The service says: Of 2 ")


async def test_a_service_at_work_tells_by_itself(
    tmp_path: Path, database_url: str, receiver: HttpServer, secret_file: SecretFile
) -> None:
    told = target(url=receiver.url, secret_files=[secret_file("signing", SIGNING_SECRET)])
    async with Site.running(uniform_site(vms=1), tmp_path / "site") as site:
        settings = load_settings(write_configuration(site, tmp_path / "ngt-renewal.toml", {}), {})
        settings = settings.model_copy(update={"webhooks": {"told": told}})
        (cluster,) = settings.clusters
        async with opened(settings, database_url, site) as service:
            certificates = of(service.database, told)
            vm = await certificates.add(-2000, cluster=cluster)
            await certificates.scanned(name=cluster, scanned_at=NOW - days(2000))
            async with service.at_work():
                first, second = await receiver.wait_for(2)
    bodies = [Webhook(SIGNING_SECRET).verify(received.body, received.headers) for received in (first, second)]
    got = {body["type"]: body["data"] for body in bodies}
    assert got["ngt.certificate.expired"]["vm_uuid"] == vm
    assert got["ngt.certificate.digest"]["expired"] == 1

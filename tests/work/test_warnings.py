"""Who is told of a certificate that ends: once for each number of days, by whichever replica; of a wave but a few."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from app.events import CertificateFacts
from app.settings.callers.scopes import Scope
from app.store.postgres.database import Database
from app.store.records.callers import Caller
from app.store.warnings import Told
from app.store.webhooks.deliveries import Deliveries
from app.work.warnings import CertificateWarner
from tests.store.conftest import new_vm
from tests.work.webhooks.certificates import NOW, Certificates, days, of
from tests.work.webhooks.rows import Runner, deliveries, told
from tests.work.webhooks.samples import target

SYS_ID = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def certificates(database: Database) -> Certificates:
    return of(database)


async def test_each_number_of_days_is_told_once_over_the_life_of_a_certificate(certificates: Certificates) -> None:
    await certificates.add(70)
    for half_day in range(160):
        await certificates.round(half_day / 2)
    assert await certificates.told() == [
        ("expiring", 60), ("expiring", 30), ("expiring", 14), ("expiring", 7), ("expiring", 1), ("expired", 0),
    ]  # fmt: skip


async def test_a_certificate_that_is_first_seen_late_is_told_of_once(certificates: Certificates) -> None:
    await certificates.add(5)
    await certificates.round()
    await certificates.round(1)
    assert await certificates.told() == [("expiring", 7)]
    await certificates.round(4.5)
    assert await certificates.told() == [("expiring", 7), ("expiring", 1)]


async def test_the_event_says_what_is_known_and_what_to_do(certificates: Certificates) -> None:
    vm = await certificates.add(5.5, serial="1f")
    unnamed = await certificates.add(-3.2, name=None, certificate_source="computed", certificate_observed_at=None)
    await certificates.round()
    expired, expiring = [row["facts"] for row in await deliveries(certificates.database)]
    assert expiring == {
        "message": "The NGT certificate of the VM web01 expires in 5 days, on 2026-11-29.",
        "action": f"Renew it with POST /vms/{vm}/ngt/renew.",
        "vm_uuid": vm,
        "vm_name": "web01",
        "cluster": "c1",
        "not_after": "2026-11-29T00:00:00Z",
        "days_left": 5,
        "days_before": 7,
        "certificate_source": "cvm_expiry_date",
        "certificate_observed_at": "2026-11-23T12:00:00.000Z",
        "serial": "1f",
        "new_certificate_issued": False,
        "link": f"/vms/{vm}",
    }
    assert expired["message"] == (
        f"The NGT certificate of the VM {unnamed} expired on 2026-11-20. NGT does not work there before it is renewed. "
        "The date is computed from its last renewal and was never seen."
    )
    assert expired["action"].startswith("Look for its real date with POST /clusters/c1/scan, or renew it")
    assert (expired["days_left"], expired["days_before"]) == (-4, 0)
    for facts in (expired, expiring):
        CertificateFacts.model_validate(facts, extra="forbid")


async def test_the_rows_belong_to_the_cluster_and_to_no_job(certificates: Certificates) -> None:
    await certificates.add(5)
    await certificates.round()
    (row,) = await deliveries(certificates.database)
    assert (row["job_id"], row["cluster"], row["record"], row["status"]) == (None, "c1", None, "pending")
    limited = {name: Caller("k", "k", frozenset(Scope), frozenset({name})) for name in ("c1", "c2")}
    store = Deliveries(certificates.database)
    assert [one.id for one in await store.list("all", limited["c1"])] == [row["id"]]
    assert await store.list("all", limited["c2"]) == ()


async def test_a_certificate_that_was_renewed_begins_anew(certificates: Certificates) -> None:
    vm = await certificates.add(5)
    await certificates.round()
    await certificates.change(vm, not_after=NOW + days(1000))
    await certificates.round()
    assert await certificates.told() == [("expiring", 7)]
    await certificates.round(945)
    assert await certificates.told() == [("expiring", 7), ("expiring", 60)]


@pytest.mark.parametrize("moved", [-1.5, -0.1, 0.0001, 1.5])
async def test_another_source_that_says_the_date_a_little_otherwise_warns_nobody_twice(
    certificates: Certificates, moved: float
) -> None:
    vm = await certificates.add(6.9)
    await certificates.round()
    await certificates.change(vm, not_after=NOW + days(6.9 + moved), certificate_source="guest_certificate", serial="1")
    await certificates.round()
    await certificates.change(vm, not_after=NOW + days(6.9), certificate_source="cvm_expiry_date", serial=None)
    await certificates.round()
    assert await certificates.told() == [("expiring", 7)]


async def test_a_real_date_that_is_far_from_the_computed_one_is_told_of(certificates: Certificates) -> None:
    vm = await certificates.add(59, certificate_source="computed")
    await certificates.round()
    await certificates.change(vm, not_after=NOW + days(13), certificate_source="cvm_expiry_date")
    await certificates.round()
    assert await certificates.told() == [("expiring", 60), ("expiring", 14)]


async def test_what_vanished_or_has_no_date_or_time_enough_is_told_to_nobody(certificates: Certificates) -> None:
    await certificates.add(5, vanished_at=NOW)
    await certificates.add(None)
    await certificates.add(61)
    assert await certificates.round() == Told()
    assert await certificates.remembered() == []


async def test_a_vm_that_comes_back_is_not_told_of_again(certificates: Certificates) -> None:
    vm = await certificates.add(5)
    await certificates.round()
    for vanished_at in (NOW, None):
        await certificates.change(vm, vanished_at=vanished_at)
        await certificates.round(1)
    assert await certificates.told() == [("expiring", 7)]


async def test_other_clusters_are_rounds_of_their_own(certificates: Certificates) -> None:
    await certificates.add(5)
    await certificates.add(5, cluster="c2")
    assert await certificates.round(cluster="c2") == Told(events=1)
    assert [row["cluster"] for row in await deliveries(certificates.database)] == ["c2"]


async def test_while_a_renewal_changes_the_vm_nobody_is_warned_and_when_it_fails_people_are(
    certificates: Certificates,
) -> None:
    vm = await certificates.add(5)
    runner = Runner(certificates.database, {})
    job = await runner.start(vm_uuid=vm)
    await certificates.change_job(job.id, changing_since=NOW)
    assert await certificates.round() == Told()
    await runner.end(job.id, "failed")
    assert await certificates.round() == Told(events=1)


async def test_a_renewal_that_has_not_begun_holds_no_warning_back(certificates: Certificates) -> None:
    vm = await certificates.add(5)
    await Runner(certificates.database, {}).start(vm_uuid=vm)
    assert await certificates.round() == Told(events=1)


async def test_that_a_certificate_has_expired_is_told_while_it_is_renewed_too(certificates: Certificates) -> None:
    vm = await certificates.add(-1, awaiting_pickup_since=NOW - days(2))
    job = await Runner(certificates.database, {}).start(vm_uuid=vm)
    await certificates.change_job(job.id, changing_since=NOW)
    await certificates.round()
    (row,) = await deliveries(certificates.database)
    assert (row["event"], row["facts"]["new_certificate_issued"]) == ("ngt.certificate.expired", True)
    assert "restart the NGT agent" in row["facts"]["action"]


async def test_targets_are_told_by_their_events_and_clusters_and_never_as_a_callback(database: Database) -> None:
    certificates = of(
        database,
        target(name="all"),
        target(name="ends", events=["ngt.certificate.expired"]),
        target(name="certificates", events=["ngt.certificate.*"]),
        target(name="renewals", events=["ngt.renewal.*"]),
        target(name="of-c2", clusters=["c2"]),
        target(name="asked", callback_only=True),
        target(name="snow", profile="servicenow_table", table="change_request"),
    )
    await certificates.add(5)
    await certificates.add(-5)
    await certificates.round()
    assert await told(database) == [
        ("all", "ngt.certificate.expired"),
        ("all", "ngt.certificate.expiring"),
        ("certificates", "ngt.certificate.expired"),
        ("certificates", "ngt.certificate.expiring"),
        ("ends", "ngt.certificate.expired"),
    ]


async def test_a_target_that_is_configured_later_is_not_told_of_what_was_before(database: Database) -> None:
    without = Certificates(database, {})
    vm = await without.add(5)
    await without.round()
    assert await without.remembered() == [(7, True)]
    certificates = of(database)
    await certificates.round()
    assert await certificates.told() == []
    await certificates.change(vm, not_after=NOW + days(1))
    await certificates.round()
    assert await certificates.told() == [("expiring", 1)]


async def test_replicas_that_look_at_the_same_time_tell_once(certificates: Certificates) -> None:
    await certificates.add_many([certificates.row(new_vm(), 5 + n / 100) for n in range(30)])
    await certificates.scanned()
    for _ in range(3):
        await asyncio.gather(*[certificates.round() for _ in range(6)])
    rows = await deliveries(certificates.database)
    assert [row["event"].rpartition(".")[2] for row in rows] == ["expiring"] * 20 + ["digest"]
    assert len({row["facts"].get("vm_uuid") for row in rows}) == 21


async def test_a_round_that_cannot_be_stored_is_told_to_nobody_and_done_again(certificates: Certificates) -> None:
    await certificates.add(5)
    await certificates.scanned()
    async with certificates.database.transaction() as connection:
        await connection.execute(text("ALTER TABLE delivery ADD CONSTRAINT no_digest CHECK (event NOT LIKE '%digest')"))
    with pytest.raises(Exception, match="no_digest"):
        await certificates.round()
    assert (await certificates.told(), await certificates.remembered()) == ([], [])
    async with certificates.database.transaction() as connection:
        await connection.execute(text("ALTER TABLE delivery DROP CONSTRAINT no_digest"))
    assert await certificates.round() == Told(events=1, digest=True)


async def test_of_a_wave_the_first_get_events_and_the_digest_counts_the_others(certificates: Certificates) -> None:
    vms = [new_vm() for _ in range(500)]
    await certificates.add_many([certificates.row(vm, 50 + n / 100) for n, vm in enumerate(vms)])
    await certificates.scanned()
    assert await certificates.round() == Told(events=20, left_to_digest=480, digest=True)
    rows = await deliveries(certificates.database)
    assert [row["facts"]["vm_uuid"] for row in rows[:-1]] == vms[:20]
    digest = rows[-1]["facts"]
    assert (digest["newly_expiring"], digest["events_left_out"], digest["within_60_days"]) == (500, 480, 500)
    assert await certificates.round(0.1) == Told()


async def test_the_limit_is_that_of_a_local_day_and_of_each_cluster(certificates: Certificates) -> None:
    berlin: dict[str, Any] = {"most_events_per_day": 2, "time_zone": "Europe/Berlin", "digest_at": "off"}
    for _ in range(3):
        await certificates.add(5)
    await certificates.add(5, cluster="c2")
    assert await certificates.round(**berlin) == Told(events=2, left_to_digest=1)
    assert await certificates.round(cluster="c2", **berlin) == Told(events=1)
    for _ in range(2):
        await certificates.add(5)
        # Half past eleven in the evening there, and half past midnight.
        await certificates.add(5)
    assert await certificates.round(10.4 / 24, **berlin) == Told(left_to_digest=4)
    await certificates.add(5)
    assert await certificates.round(11.5 / 24, **berlin) == Told(events=1)


async def test_without_any_events_a_day_only_digests_tell(certificates: Certificates) -> None:
    await certificates.add(5)
    await certificates.scanned()
    assert await certificates.round(most_events_per_day=0) == Told(left_to_digest=1, digest=True)
    assert await certificates.told() == [("digest", None)]


async def test_the_loop_tells_of_every_cluster_by_the_clock_of_the_database(certificates: Certificates) -> None:
    for cluster in ("c1", "c2"):
        await certificates.add(-2000, cluster=cluster)
    await certificates.scanned()
    await CertificateWarner(certificates.warnings(), ["c1", "c2"]).warn()
    assert await certificates.told() == [("expired", 0), ("digest", None), ("expired", 0)]


async def test_a_cluster_that_cannot_be_told_of_holds_up_no_other_one(certificates: Certificates) -> None:
    for cluster in ("c1", "c2"):
        await certificates.add(-2000, cluster=cluster)
    async with certificates.database.transaction() as connection:
        await connection.execute(text("ALTER TABLE delivery ADD CHECK (cluster <> 'c1')"))
    await CertificateWarner(certificates.warnings(), ["c1", "c2"]).warn()
    assert await certificates.told() == [("expired", 0)]
    # Of the other one nothing is taken for told.
    assert await certificates.remembered() == [(0, True)]

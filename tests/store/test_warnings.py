"""The daily digest of a cluster: once for each day, also after downtime, with what it counts and how old that is."""

import json
from typing import Any

import pytest

from app.events import DigestFacts
from app.store.postgres.database import Database
from app.store.warnings import Told
from app.work.webhooks.profiles import standard_body
from tests.store.conftest import new_vm
from tests.work.webhooks.certificates import NOW, Certificates, days, of
from tests.work.webhooks.rows import Runner, deliveries, told
from tests.work.webhooks.samples import delivery, target

AT_SIX = NOW.replace(hour=6)


@pytest.fixture
def certificates(database: Database) -> Certificates:
    return of(database)


def hours(number: float) -> float:
    return number / 24


async def test_the_first_digest_comes_with_the_first_whole_scan(certificates: Certificates) -> None:
    await certificates.scanned(scanned_at=None, scan_fault_code="cvm-unreachable", scan_fault_at=NOW)
    assert await certificates.round() == Told()
    await certificates.scanned()
    assert await certificates.round(hours(1)) == Told(digest=True)
    assert await certificates.round(hours(2)) == Told()


async def test_what_no_digest_would_tell_before_a_whole_scan_is_told_on_the_next_days(
    certificates: Certificates,
) -> None:
    # Its VMs are known by renewals and by their guests alone.
    await certificates.scanned(scanned_at=None, scan_fault_code="unexpected-output", scan_fault_at=NOW)
    for _ in range(4):
        await certificates.add(5)
    few: dict[str, Any] = {"most_events_per_day": 1}
    assert [await certificates.round(day, **few) for day in (0, 0.1, 1)] == [Told(events=1), Told(), Told(events=1)]
    await certificates.scanned()
    assert await certificates.round(1.1, **few) == Told(left_to_digest=2, digest=True)


async def test_it_comes_once_a_day_at_its_time(certificates: Certificates) -> None:
    await certificates.scanned(digest_at=AT_SIX)
    assert [await certificates.round(hours(number)) for number in (0, 17.9)] == [Told(), Told()]
    assert await certificates.round(hours(18)) == Told(digest=True)
    assert [await certificates.round(hours(number)) for number in (18, 30, 41.9)] == [Told()] * 3
    assert await certificates.round(hours(42)) == Told(digest=True)


async def test_after_days_of_downtime_there_is_one(certificates: Certificates) -> None:
    await certificates.scanned(digest_at=AT_SIX)
    assert [await certificates.round(10 + hours(number)) for number in (0, 1, 17)] == [
        Told(digest=True),
        Told(),
        Told(),
    ]
    assert await certificates.round(10 + hours(18)) == Told(digest=True)


async def test_its_time_is_that_of_the_zone_before_and_after_the_clocks_change(certificates: Certificates) -> None:
    # Six o'clock in Berlin is four of UTC until the 25th of October 2026, and five after it.
    berlin: dict[str, Any] = {"time_zone": "Europe/Berlin"}
    october_24 = (NOW.replace(month=10, day=24, hour=0) - NOW) / days(1)
    await certificates.scanned(digest_at=NOW.replace(month=10, day=23))
    told = [
        quarter / 4 - 24 * day
        for day in range(3)
        for quarter in range(day * 96, day * 96 + 96)
        if (await certificates.round(october_24 + hours(quarter / 4), **berlin)).digest
    ]
    assert told == [4, 5, 5]


async def test_switched_off_there_is_none(certificates: Certificates) -> None:
    await certificates.scanned()
    assert await certificates.round(digest_at="off") == Told()


async def test_it_counts_the_vms_that_are_there(certificates: Certificates) -> None:
    for left in (-900, -1, 0.5, 6, 20, 45, 80, 91, 500, None):
        await certificates.add(left)
    await certificates.add(3, vanished_at=NOW)
    await certificates.add(3, cluster="c2")
    await certificates.add(800, awaiting_pickup_since=NOW)
    await certificates.scanned()
    runner = Runner(certificates.database, {})
    await certificates.change_job((await runner.start()).id, stranded_since=NOW)
    await certificates.round(most_events_per_day=3)
    (digest,) = await certificates.digests()
    DigestFacts.model_validate(digest, extra="forbid")
    counted = {name: value for name, value in digest.items() if isinstance(value, int)}
    assert counted == {
        "vms": 11,
        "expired": 2,
        "within_7_days": 2,
        "within_30_days": 3,
        "within_60_days": 4,
        "within_90_days": 5,
        "unknown": 1,
        "awaiting_pickup": 1,
        "stranded": 1,
        "newly_expiring": 6,
        "events_left_out": 3,
    }
    assert (digest["cluster"], digest["link"]) == ("c1", "/vms?cluster=c1&sort=not_after")
    assert digest["message"] == (
        "Of 11 VMs of the cluster c1 the NGT certificate of 2 has expired, 2 more expire within 7 days, 3 within 30 "
        "days and 5 within 90 days; of 1 the date is not known. New since the last digest: 6; 3 of them had no event "
        "of their own. The last whole scan was at 2026-11-23 02:24 UTC."
    )
    assert "GET /vms?cluster=c1&expires_within_days=30" in digest["action"]


async def test_it_names_the_next_to_expire(certificates: Certificates) -> None:
    await certificates.add(-5, name="gone")
    vms = [await certificates.add(n, name=f"vm{n:02}") for n in range(20, 5, -1)]
    computed = await certificates.add(5, name=None, certificate_source="computed")
    await certificates.scanned()
    await certificates.round()
    (digest,) = await certificates.digests()
    assert [vm["vm_uuid"] for vm in digest["expiring_first"]] == [computed, *reversed(vms[-9:])]
    assert digest["expiring_first"][1] == {
        "vm_uuid": vms[-1],
        "vm_name": "vm06",
        "not_after": "2026-11-29T12:00:00Z",
        "certificate_source": "cvm_expiry_date",
    }
    assert digest["expiring_first_text"].startswith(f"{computed} 2026-11-28 (computed); vm06 2026-11-29; vm07 ")


async def test_each_counts_what_is_new_since_the_one_before(certificates: Certificates) -> None:
    await certificates.add(59)
    await certificates.scanned()
    await certificates.round()
    await certificates.add(62)
    assert await certificates.round(3) == Told(events=1, digest=True)
    await certificates.round(4)
    digests = await certificates.digests()
    assert [digest["newly_expiring"] for digest in digests] == [1, 1, 0]
    assert "previous_digest_at" not in digests[0]
    assert [digest["previous_digest_at"] for digest in digests[1:]] == [
        "2026-11-23T12:00:00.000Z",
        "2026-11-26T12:00:00.000Z",
    ]
    assert "New since" not in digests[2]["message"]


async def test_a_cluster_without_any_vm_near_its_end_has_one_too(certificates: Certificates) -> None:
    await certificates.add(500)
    await certificates.scanned()
    await certificates.round()
    (digest,) = await certificates.digests()
    assert (digest["vms"], digest["within_90_days"], "action" in digest) == (1, 0, False)
    assert [vm["not_after"] for vm in digest["expiring_first"]] == ["2028-04-06T12:00:00Z"]


async def test_it_says_that_the_last_scan_failed_and_how_old_the_dates_are(certificates: Certificates) -> None:
    await certificates.scanned(
        scanned_at=NOW - days(3), scan_fault_code="cvm-unreachable", scan_fault="no CVM answered", scan_fault_at=NOW
    )
    await certificates.round()
    (digest,) = await certificates.digests()
    assert (digest["vms"], digest["expiring_first"], "expiring_first_text" in digest) == (0, [], False)
    assert (digest["last_whole_scan_at"], digest["scan_failed_at"]) == (
        "2026-11-20T12:00:00.000Z",
        "2026-11-23T12:00:00.000Z",
    )
    assert (digest["scan_error_code"], digest["scan_error_message"]) == ("cvm-unreachable", "no CVM answered")
    assert digest["message"].endswith(
        "The last whole scan was at 2026-11-20 12:00 UTC, and the last one was not whole: cvm-unreachable."
    )
    assert digest["action"].startswith("Find out why the last scan was not whole")


async def test_nobody_is_told_later_of_the_digests_of_a_time_without_targets(database: Database) -> None:
    without = Certificates(database, {})
    await without.scanned()
    assert await without.round() == Told(digest=True)
    assert await of(database).round(hours(1)) == Told()
    assert await told(database) == []


async def test_only_the_targets_of_the_cluster_are_told(database: Database) -> None:
    targets = (
        target(name="c1", clusters=["c1"], events=["ngt.certificate.digest"]),
        target(name="c2", clusters=["c2"]),
        target(name="ends", events=["ngt.certificate.exp*"]),
    )
    certificates = of(database, *targets)
    await certificates.scanned()
    await certificates.round()
    assert await told(database) == [("c1", "ngt.certificate.digest")]


@pytest.mark.parametrize(
    "letter", ["é", "\U0001f510", "\u0001", '"'], ids=["two bytes", "four bytes", "control", "quote"]
)
async def test_its_body_stays_small_whatever_the_vms_are_called(certificates: Certificates, letter: str) -> None:
    await certificates.add_many([certificates.row(new_vm(), 5 + n, name=letter * 20_000) for n in range(50)])
    await certificates.scanned(scan_fault_code="cvm-unreachable", scan_fault=letter * 20_000, scan_fault_at=NOW)
    await certificates.round()
    for row in await deliveries(certificates.database):
        facts = row["facts"]
        body = standard_body(delivery(row["event"], facts=facts))
        assert len(body) < 20_000
        assert json.loads(body)["data"] == facts, "nothing has to be cut once more"

"""Sites of the real size: every VM is stored, by few statements, and the waves are seen."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import event, func, select

from app.simulator.spec import WAVES, Traits, uniform_site
from app.store.postgres.tables import VM
from tests.work.conftest import Begin
from tests.work.service import Service

# All of it is made, listed and read in one process here.
LIMIT_S = 600.0
SLOW: dict[str, Any] = {"listing_timeout_s": 120, "look_timeout_s": 120, "lease_s": 60}


async def scanned(service: Service, clusters: list[str], vms: int) -> None:
    scans = [await service.scan(cluster) for cluster in clusters]
    ended = await asyncio.gather(*(service.scan_ended(scan.id, LIMIT_S) for scan in scans))
    for scan in ended:
        assert (scan.outcome, scan.counts.vms_seen, scan.counts.dates_seen) == ("complete", vms, vms), scan


@pytest.mark.timeout(LIMIT_S)
async def test_twenty_clusters_of_twelve_hundred_vms_are_scanned(begin: Begin) -> None:
    spec = uniform_site(vms=1200, cvms=1, clusters=20, waves=WAVES, guests_reachable=False)
    service = await begin(spec, guests=False, limits=SLOW)
    await scanned(service, list(service.settings.clusters), 1200)
    async with service.database.transaction() as connection:
        wave = func.round(func.extract("epoch", VM.c.not_after - func.now()) / 86_400)
        found = await connection.execute(select(VM.c.cluster, wave, func.count()).group_by(VM.c.cluster, wave))
        counted = {(cluster, float(days)): count for cluster, days, count in found.all()}
    expected = {(cluster, days): 1200 // len(WAVES) for cluster in service.settings.clusters for days in WAVES}
    assert counted == expected


@pytest.mark.timeout(LIMIT_S)
async def test_three_thousand_vms_of_five_kilobytes_take_a_few_statements(begin: Begin) -> None:
    spec = uniform_site(
        vms=3000, cvms=1, traits=Traits(listing_padding_bytes=4400), waves=WAVES, guests_reachable=False
    )
    service = await begin(spec, guests=False, limits=SLOW)
    statements: list[str] = []

    def count(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        if " vm " in statement or "certificate_observation" in statement:
            statements.append(statement)

    event.listen(service.database._engine.sync_engine, "before_cursor_execute", count)
    for _ in range(2):
        statements.clear()
        await scanned(service, ["c1"], 3000)
        # Six parts of five hundred, for the VMs and for their dates, and a few for all.
        assert len(statements) < 50

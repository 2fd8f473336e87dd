"""Whatever a host prints to a renewal, the job has an end, and nothing that it shows is obeyed."""

import pytest
from sqlalchemy import text

from app.simulator.faults import Said
from app.simulator.spec import uniform_site
from app.store.postgres.tables import DELIVERY, EXCHANGE, JOB, JOB_EVENT, STEP, VM
from tests.ngt.hostile import OBEYED
from tests.work.conftest import Begin
from tests.work.service import Service, shown


async def _everything_stored(service: Service) -> str:
    async with service.database.transaction() as connection:
        tables = (JOB, STEP, EXCHANGE, JOB_EVENT, VM, DELIVERY)
        rows = [row for table in tables for row in await connection.execute(table.select())]
        return " ".join(str(value) for row in rows for value in row)


@pytest.mark.parametrize("status", [1, 0xC0000005])
@pytest.mark.field("B2", "B3")
async def test_a_restart_that_prints_anything_ends_as_a_failed_restart(begin: Begin, status: int) -> None:
    service = await begin(uniform_site(vms=1), limits={"verify_timeout_ssh_s": 2})
    said = b"\x00\x1b[31m\xff\xfe" + "\u202e".encode() + b"x" * 100_000
    service.site.guests[service.uuid_of("vm0001")].faults.says.append(Said("restart", said, said, status))
    job = await service.renewed("vm0001")
    assert job.error_code == "agent-restart-failed", shown(job)
    assert job.error_message is not None
    assert "[31m" in job.error_message
    assert not OBEYED.search(await _everything_stored(service))


@pytest.mark.parametrize(
    ("operation", "step", "error"),
    [
        ("INSERT", "restart_agent", None),
        # The exchange of a change stands in the log before it is sent, unlike that of its looks.
        ("UPDATE", "mount_iso", None),
        ("UPDATE", "recreate_entity", None),
        ("INSERT", "read_ngt_before", "internal-error"),
    ],
)
@pytest.mark.field("B2")
async def test_a_step_whose_result_cannot_be_stored_has_an_end(
    begin: Begin, operation: str, step: str, error: str | None
) -> None:
    service = await begin(uniform_site(vms=1), limits={"verify_timeout_ssh_s": 3})
    async with service.database.transaction() as connection:
        await connection.execute(
            text(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                f" IF NEW.step = '{step}' AND NEW.stdout IS NOT NULL THEN"
                " RAISE EXCEPTION 'not a text' USING ERRCODE = '22021'; END IF; RETURN NEW; END $$"
            )
        )
        await connection.execute(
            text(f"CREATE TRIGGER refuse BEFORE {operation} ON exchange FOR EACH ROW EXECUTE FUNCTION refuse()")
        )
    job = await service.renewed("vm0001")
    assert job.error_code == error, shown(job)
    if error is None:
        assert job.outcome == "renewed"
    else:
        assert "cannot be stored" in (job.error_message or "")
    assert all(one.status != "running" for one in job.steps), shown(job)

"""Whatever one guest or one record prints, the scan of its cluster stores all others, and names the one."""

from collections.abc import Mapping

import pytest
from sqlalchemy import text

from app.simulator.certificates import pem_of
from app.simulator.faults import Said
from app.simulator.spec import uniform_site
from tests.work.conftest import Begin
from tests.work.scans.test_run import complete, vm_row
from tests.work.service import Service

_ANSWERS: Mapping[str, bytes] = {
    "a NUL": b"-----BEGIN CERTIFICATE-----\n\x00\n",
    "UTF-16": "-----BEGIN CERTIFICATE-----\r\nno\r\n".encode("utf-16"),
    "escapes": b"-----BEGIN CERTIFICATE-----\x1b[2J\x9b\n",
    "urandom": bytes(range(256)) * 4000,
    "nothing": b"",
}


@pytest.mark.parametrize("answer", _ANSWERS)
@pytest.mark.field("B1", "E11")
async def test_a_guest_that_prints_anything_fails_alone_and_is_named(begin: Begin, answer: str) -> None:
    service = await begin(uniform_site(vms=3))
    vm = service.site.vm_named("vm0001")
    service.site.guests[vm.uuid].faults.says.append(Said("client-cert", _ANSWERS[answer], b"\x1b\x00", 0))
    scan = await complete(service)
    assert (scan.counts.guests_asked, scan.counts.guests_failed) == (3, 1)
    row = await vm_row(service, vm)
    assert row["guest_fault_code"] in {"unexpected-output", "guest-certificate-missing", "guest-not-reached"}
    assert service.site.guests[vm.uuid].address in row["guest_fault"]
    assert (await vm_row(service, "vm0002"))["certificate_source"] == "guest_certificate"


@pytest.mark.field("B1")
async def test_a_guest_that_prints_its_certificate_in_utf_16_is_read(begin: Begin) -> None:
    service = await begin(uniform_site(vms=1))
    guest = service.site.guests[service.uuid_of("vm0001")]
    installed = service.site.vm_named("vm0001").installed
    assert installed is not None
    guest.faults.says.append(Said("client-cert", pem_of(installed).encode("utf-16")))
    await complete(service)
    assert (await vm_row(service, "vm0001"))["certificate_source"] == "guest_certificate"


async def _refuse_values(service: Service, table: str, condition: str) -> None:
    """PostgreSQL then says of such a row what it says of a NUL."""
    async with service.database.transaction() as connection:
        await connection.execute(
            text(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                f" IF {condition} THEN RAISE EXCEPTION 'not a text' USING ERRCODE = '22021'; END IF;"
                " RETURN NEW; END $$"
            )
        )
        await connection.execute(
            text(f"CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()")
        )


@pytest.mark.field("B1", "E11")
async def test_a_vm_that_cannot_be_stored_is_named_and_the_others_are_stored(begin: Begin) -> None:
    service = await begin(uniform_site(vms=5), guests=[])
    await complete(service)
    service.site.vm_named("vm0003").name = "unstorable"
    service.site.vm_named("vm0004").name = "vm0004 renamed"
    await _refuse_values(service, "vm", "NEW.name = 'unstorable'")
    scan = await service.scanned()
    assert (scan.status, scan.outcome, scan.error_code) == ("succeeded", "partial", "internal-error"), scan
    assert f"a value of VM {service.uuid_of('unstorable')} cannot be stored" in scan.message
    assert (await vm_row(service, "unstorable"))["name"] == "vm0003"
    assert (await vm_row(service, "unstorable"))["vanished_at"] is None
    assert (await vm_row(service, "vm0004 renamed"))["name"] == "vm0004 renamed"


@pytest.mark.field("B1", "E11")
async def test_a_certificate_that_cannot_be_stored_is_a_fault_of_its_guest(begin: Begin) -> None:
    service = await begin(uniform_site(vms=3))
    uuid = service.uuid_of("vm0002")
    of_guest = f"NEW.vm_uuid = '{uuid}' AND NEW.source = 'guest_certificate'"
    await _refuse_values(service, "certificate_observation", of_guest)
    scan = await complete(service)
    assert (scan.counts.guests_asked, scan.counts.guests_failed) == (3, 1)
    assert (await vm_row(service, "vm0002"))["guest_fault_code"] == "internal-error"
    assert (await vm_row(service, "vm0003"))["certificate_source"] == "guest_certificate"


@pytest.mark.field("B10")
async def test_names_that_a_cvm_prints_with_question_marks_are_warned_of(begin: Begin) -> None:
    service = await begin(uniform_site(vms=2), guests=[])
    service.site.vm_named("vm0001").name = "????-01"
    scan = await complete(service)
    assert "ncli prints ? for letters in the names of 1 VM, such as '????-01' for VM" in scan.message
    listings = [one.text for one in service.site.journal.records if "ngtr-listing" in one.text]
    assert listings
    assert all("export LC_ALL=" in one for one in listings)

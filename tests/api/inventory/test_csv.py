"""The list of VMs as CSV."""

import asyncio
import csv
import io
from typing import Any

import httpx
import pytest
from sqlalchemy import insert
from starlette.requests import ClientDisconnect

from app.api.inventory.csv import CsvOfVms
from app.api.inventory.schemas import Vm
from app.settings.callers.scopes import Scope
from app.store.inventory.search import VmFilter, VmSort
from app.store.postgres.tables import VM
from tests.api.conftest import Service, assert_problem
from tests.api.inventory.vms import add_vm, from_now
from tests.api.server import listening

CSV = {"Accept": "text/csv"}


def rows_of(answer: httpx.Response) -> list[dict[str, str]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    return list(csv.DictReader(io.StringIO(answer.content.decode(), newline=""), strict=True))


async def test_the_file_has_the_names_and_values_of_the_json(service: Service, caller: httpx.AsyncClient) -> None:
    await add_vm(service, "web01", not_after=from_now(days=-3), addresses=["10.1.0.5", "fd00::5"], link_active=False)
    await add_vm(service)
    answer = await caller.get("/vms", headers=CSV)
    assert answer.headers["content-disposition"] == 'attachment; filename="vms.csv"'
    first, second = rows_of(answer)
    items = (await caller.get("/vms")).json()["items"]
    assert list(first) == list(Vm.model_fields)
    assert first == {
        **dict.fromkeys(Vm.model_fields, ""),
        **{name: str(value) for name, value in items[0].items()},
        "addresses": "10.1.0.5 fd00::5",
        "link_active": "false",
        "expired": "true",
        "days_left": str(items[0]["days_left"]),
    }
    assert items[0]["days_left"] < 0
    assert {name: value for name, value in second.items() if value} == {"vm_uuid": items[1]["vm_uuid"], "cluster": "c1"}


async def test_lines_end_as_the_rfc_says_and_what_needs_it_is_quoted(
    service: Service, caller: httpx.AsyncClient
) -> None:
    name = 'a "quoted", long\r\nname; 日本'
    await add_vm(service, name, subject="CN=a,O=b")
    answer = await caller.get("/vms", headers=CSV)
    (row,) = rows_of(answer)
    assert (row["name"], row["subject"]) == (name, "CN=a,O=b")
    assert b'"a ""quoted"", long\r\nname; \xe6\x97\xa5\xe6\x9c\xac"' in answer.content
    assert answer.content.endswith(b"\r\n")
    assert not answer.content.startswith(b"\xef\xbb\xbf")


@pytest.mark.parametrize("name", ["=1+1", "+1", "-web", "@SUM(A1)", "\tx", "\rx", "\uff1d1", '=HYPERLINK("http://a")'])
async def test_no_text_is_a_formula_to_a_spreadsheet(service: Service, caller: httpx.AsyncClient, name: str) -> None:
    await add_vm(service, name, addresses=[name], guest_fault=name, not_after=from_now(days=-9))
    (row,) = rows_of(await caller.get("/vms", headers=CSV))
    assert (row["name"], row["addresses"], row["guest_error_message"]) == (f"'{name}",) * 3
    # A number is none.
    assert row["days_left"].startswith("-")


async def test_an_empty_list_is_a_line_of_names(caller: httpx.AsyncClient) -> None:
    answer = await caller.get("/vms", headers=CSV)
    assert answer.text == ",".join(Vm.model_fields) + "\r\n"


async def test_all_that_the_filters_leave_is_in_the_file_in_order(service: Service, caller: httpx.AsyncClient) -> None:
    vms = [
        {
            "vm_uuid": f"{n:08}-1b5c-4a7e-8d1f-0b6f6a9d2c11",
            "cluster": f"c{n % 2 + 1}",
            "name": f"vm{n:05}",
            "addresses": [],
        }
        for n in range(1300)
    ]
    async with service.services.store.database.transaction() as connection:
        await connection.execute(insert(VM), vms)
    rows = rows_of(await caller.get("/vms?sort=name", headers=CSV))
    assert [row["name"] for row in rows] == [vm["name"] for vm in vms]
    one_cluster = rows_of(await caller.get("/vms?cluster=c2&sort=name", headers=CSV))
    assert one_cluster == [row for row in rows if row["cluster"] == "c2"]
    async with service.client(await service.key(Scope.VMS_READ, clusters=frozenset({"c1"}))) as client:
        assert {row["cluster"] for row in rows_of(await client.get("/vms", headers=CSV))} == {"c1"}


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("text/csv", "text/csv"),
        ("text/*", "text/csv"),
        ("text/csv;q=0.5, application/json;q=0.4", "text/csv"),
        ("text/csv, */*;q=0.1", "text/csv"),
        ("text/csv, */*", "text/csv"),
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("application/json, text/csv", "application/json"),
        ("text/csv;q=0.4, application/json;q=0.5", "application/json"),
        ("text/csv;q=0", "application/json"),
        ("image/png", "application/json"),
        ("", "application/json"),
    ],
)
async def test_accept_says_what_is_wanted_and_nobody_is_refused(
    caller: httpx.AsyncClient, accept: str, media_type: str
) -> None:
    answer = await caller.get("/vms", headers={"Accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"].partition(";")[0] == media_type


@pytest.mark.parametrize("name", ["limit", "cursor"])
async def test_a_file_has_no_pages(caller: httpx.AsyncClient, name: str) -> None:
    problem = assert_problem(await caller.get(f"/vms?{name}=50", headers=CSV), 422, "validation-failed")
    assert problem["errors"][0]["pointer"] == f"/query/{name}"


async def test_what_is_wrong_is_told_as_a_problem_also_to_those_who_want_csv(
    service: Service, caller: httpx.AsyncClient
) -> None:
    assert_problem(await caller.get("/vms?sort=size", headers=CSV), 422, "validation-failed")
    held = [service.services.store.vms.stream(VmFilter(clusters=("c1",)), VmSort.NAME) for _ in range(5)]
    await asyncio.gather(*(anext(stream) for stream in held))
    busy = await caller.get("/vms", headers=CSV)
    assert_problem(busy, 503, "database-unavailable")
    assert "retry-after" in busy.headers
    for stream in held:
        await stream.aclose()
    assert (await caller.get("/vms", headers=CSV)).status_code == 200


async def test_only_the_head_of_a_file_can_be_asked_for(service: Service, caller: httpx.AsyncClient) -> None:
    await add_vm(service, "web01")
    whole, head = await caller.get("/vms", headers=CSV), await caller.head("/vms", headers=CSV)
    assert head.content == b""
    for name in ("content-type", "content-disposition"):
        assert head.headers[name] == whole.headers[name]


async def test_a_client_that_goes_away_or_reads_nothing_gives_its_connection_back(service: Service) -> None:
    vms = [{"vm_uuid": f"{n:08}-1b5c-4a7e-8d1f-0b6f6a9d2c11", "cluster": "c1", "addresses": []} for n in range(600)]
    async with service.services.store.database.transaction() as connection:
        await connection.execute(insert(VM), vms)
    wanted = VmFilter(clusters=("c1",))
    for _ in range(6):
        rows = service.services.store.vms.stream(wanted, VmSort.NAME)
        answer = CsvOfVms(await anext(rows), rows, longest_s=0.01)
        with pytest.raises(ClientDisconnect):
            await answer.stream_response(_takes_nothing)
    rows = service.services.store.vms.stream(wanted, VmSort.NAME)
    assert len(await anext(rows)) == 500
    await rows.aclose()


async def _takes_nothing(message: Any) -> None:
    await asyncio.Event().wait()


async def test_the_file_comes_over_the_network_in_pieces_and_whole(service: Service) -> None:
    vms = [{"vm_uuid": f"{n:08}-1b5c-4a7e-8d1f-0b6f6a9d2c11", "cluster": "c1", "addresses": []} for n in range(2000)]
    async with service.services.store.database.transaction() as connection:
        await connection.execute(insert(VM), vms)
    async with listening(service) as server, server.client(await service.key(Scope.VMS_READ)) as client:
        async with client.stream("GET", "/vms", headers=CSV) as answer:
            assert answer.headers["transfer-encoding"] == "chunked"
            pieces = [piece async for piece in answer.aiter_raw()]
        async with client.stream("GET", "/vms", headers=CSV) as cut:
            await anext(cut.aiter_raw())
        assert b"".join(pieces).count(b"\r\n") == 2001
        # The place of the one that was left is free again.
        for _ in range(6):
            assert (await client.get("/vms", headers=CSV)).status_code == 200

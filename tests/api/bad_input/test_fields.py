"""Every field of the body takes what it is for, and nothing else."""

import json
from uuid import uuid4

import pytest

from tests.api.bad_input.service import FLAGS, JSON, NOTES, RENEW, WORDS, Service

pytestmark = pytest.mark.asyncio(loop_scope="module")

# The last one is half of a surrogate pair, which JSON can spell and UTF-8 cannot.
_NOT_TEXT = ("a\nb", "a\r\nX-Evil: 1", "\x00", "\x1b[31m", "\x7f", "\x85", "\ud800")


@pytest.mark.parametrize("name", ["forse", "vm_uuid", "Mode", "wait", "clusters", ""])
async def test_an_unknown_field_is_refused(service: Service, name: str) -> None:
    await service.refuses(422, "validation-failed", pointer=f"/body/{name}", json={name: True})


@pytest.mark.parametrize("name", WORDS)
@pytest.mark.parametrize("value", ["RECREATE", "recreat", "delete", 1, True, ["recreate"], {"a": 1}], ids=str)
async def test_a_word_that_is_not_in_the_list_is_refused(service: Service, name: str, value: object) -> None:
    await service.refuses(422, "validation-failed", pointer=f"/body/{name}", json={name: value})


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize("value", ["true", "no", 0, 1, 1.0, [], {}], ids=repr)
async def test_a_flag_is_true_or_false_and_nothing_else(service: Service, name: str, value: object) -> None:
    await service.refuses(422, "validation-failed", pointer=f"/body/{name}", json={name: value})


@pytest.mark.parametrize("value", ["30", True, 1.5, -1, 3651, 2**31, 10**30, 1e300, [30], {}], ids=repr)
async def test_days_are_a_whole_number_from_0_to_3650(service: Service, value: object) -> None:
    pointer = "/body/skip_if_valid_days"
    await service.refuses(422, "validation-failed", pointer=pointer, json={"skip_if_valid_days": value})


@pytest.mark.parametrize("value", [0, 3650, 30.0])
async def test_a_number_of_days_without_a_fraction_is_whole(service: Service, value: float) -> None:
    job = await service.accepts(json={"skip_if_valid_days": value})
    stored = service.stored_job(job["id"])["request"]["skip_if_valid_days"]
    assert (type(stored), stored) == (int, value)


@pytest.mark.parametrize("name", [*NOTES, "cluster"])
@pytest.mark.parametrize("value", [1, True, 1.5, [], ["a"], {}], ids=repr)
async def test_a_text_is_a_string(service: Service, name: str, value: object) -> None:
    await service.refuses(422, "validation-failed", pointer=f"/body/{name}", json={name: value})


@pytest.mark.parametrize(("name", "longest"), NOTES.items())
async def test_a_text_has_its_longest_length(service: Service, name: str, longest: int) -> None:
    assert (await service.accepts(json={name: "a" * longest}))[name] == "a" * longest
    await service.refuses(422, "validation-failed", pointer=f"/body/{name}", json={name: "a" * (longest + 1)})


async def test_a_text_may_be_in_any_script(service: Service) -> None:
    name = "\u5c71\u7530 \u592a\u90ce \U0001f600"
    assert (await service.accepts(json={"requested_by": name}))["requested_by"] == name


@pytest.mark.parametrize("name", [*NOTES, "cluster"])
@pytest.mark.parametrize("text", _NOT_TEXT, ids=ascii)
async def test_control_characters_are_refused(service: Service, name: str, text: str) -> None:
    sent = json.dumps({name: text})
    headers = service.key() | JSON
    await service.refuses(422, "validation-failed", pointer=f"/body/{name}", content=sent, headers=headers)


async def test_every_wrong_field_is_named_at_once(service: Service) -> None:
    answer = await service.refuses(422, "validation-failed", json={"mode": "x", "force": 1, "forse": True})
    assert {error["pointer"] for error in answer.json()["errors"]} == {"/body/mode", "/body/force", "/body/forse"}


async def test_the_sentence_of_a_refusal_says_what_to_correct(service: Service) -> None:
    answer = await service.refuses(422, "validation-failed", json={"forse": True})
    member = "/body/forse: There is no such member; `/docs` lists those that there are."
    assert answer.json()["detail"] == f"The request has one value that cannot be accepted. It is {member}"
    answer = await service.refuses(422, "validation-failed", json={"mode": "x", "force": 1})
    member = "/body/mode: Input should be 'recreate' or 'refresh'."
    assert answer.json()["detail"] == f"The request has 2 values that cannot be accepted. The first one is {member}"


@pytest.mark.parametrize(
    ("path", "pointer", "sentence"),
    [
        ("/jobs?cluster=C1", "/query/cluster", "The name of a cluster has small letters, digits and hyphens"),
        ("/jobs?correlation_id=%0A", "/query/correlation_id", "Control characters, such as the end of a line, are not"),
        ("/jobs?change_number=CHG%201", "/query/change_number", "Only visible ASCII characters are accepted"),
        ("/jobs?job_ids=a,b", "/query/job_ids", "The ids of 1 to 100 jobs are written with commas between"),
    ],
)
async def test_a_text_of_another_form_is_refused_without_a_pattern(
    service: Service, path: str, pointer: str, sentence: str
) -> None:
    answer = await service.refuses(422, "validation-failed", path, method="GET", pointer=pointer)
    assert sentence in answer.json()["detail"]


async def test_an_upper_case_uuid_is_the_same_vm(service: Service) -> None:
    vm_uuid = str(uuid4())
    first = await service.accepts(f"/vms/{vm_uuid.upper()}/ngt/renew")
    second = await service.accepts(f"/vms/{vm_uuid}/ngt/renew")
    assert first["vm_uuid"] == vm_uuid
    assert (second["id"], second["joined"]) == (first["id"], True)


async def test_a_vm_that_is_being_renewed_otherwise_is_busy(service: Service) -> None:
    path = f"/vms/{uuid4()}/ngt/renew"
    job = await service.accepts(path)
    for other in ({"mode": "refresh"}, {"on_conflict": "fail"}):
        answer = await service.refuses(409, "vm-busy", path, json=other)
        assert answer.json()["job_id"] == job["id"]


async def test_a_renewal_whose_agent_nobody_could_restart_is_refused(service: Service) -> None:
    await service.refuses(422, "agent-restart-not-possible", RENEW, json={"cluster": "no-guests"})
    await service.refuses(422, "agent-restart-not-possible", RENEW, json={"restart_agent": "ssh"})
    await service.accepts(json={"cluster": "no-guests", "restart_agent": "manual"})

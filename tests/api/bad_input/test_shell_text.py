"""Text that a shell would act on is refused where it could come near one, and elsewhere kept as it is."""

import json
from urllib.parse import quote
from uuid import uuid4

import pytest

from tests.api.bad_input.service import FLAGS, NOTES, WORDS, Service, check_problem

pytestmark = pytest.mark.asyncio(loop_scope="module")

with_shell_text = pytest.mark.parametrize(
    "text",
    [
        "$(reboot)",
        "`reboot`",
        ";rm${IFS}-rf${IFS}/tmp/x#",
        "|nc${IFS}10.0.0.1",
        "&&poweroff",
        "'OR'1'='1",
        '";exit;"',
        ">/etc/passwd",
        "{vm_uuid}",
        "%s%n\\x00",
        "../../etc/passwd",
        "-oProxyCommand=reboot",
        "<script>alert(1)</script>",
        "*",
        "~root",
    ],
)


@with_shell_text
async def test_shell_text_is_refused_where_words_are_fixed(service: Service, text: str) -> None:
    for name in (*WORDS, *FLAGS, "skip_if_valid_days", "cluster"):
        await service.refuses(422, "validation-failed", pointer=f"/body/{name}", json={name: text})


@with_shell_text
async def test_shell_text_is_refused_in_a_query(service: Service, text: str) -> None:
    await service.refuses(422, "validation-failed", params={"wait": text}, pointer="/query/wait")
    for name in ("status", "done", "vm_uuid", "limit", "cursor", "created_after"):
        await service.refuses(
            422, "validation-failed", "/jobs", method="GET", params={name: text}, pointer=f"/query/{name}"
        )


@with_shell_text
async def test_shell_text_in_a_path_reaches_nothing(service: Service, text: str) -> None:
    before = service.stored()
    for path in ("/vms/{}/ngt/renew", "/clusters/{}/pause", "/clusters/{}/resume", "/jobs/{}/cancel"):
        answer = await service.client.post(path.format(quote(text, safe="")), headers=service.key())
        # With a slash in it the text is another path, at which there is nothing.
        assert answer.status_code in {404, 422}, answer.text
        check_problem(answer)
    assert service.stored() == before


@with_shell_text
async def test_shell_text_in_a_note_is_kept_as_it_is_and_is_no_part_of_what_is_done(
    service: Service, text: str
) -> None:
    notes = dict.fromkeys(NOTES, text)
    job = await service.accepts(json=notes)
    assert {name: job[name] for name in notes} == notes
    stored = service.stored_job(job["id"])
    assert {name: stored[name] for name in notes} == notes
    assert json.dumps(text) not in json.dumps([stored["request"], stored["asked"], stored["progress"]])
    for name in ("correlation_id", "change_number"):
        found = await service.client.get("/jobs", params={name: text}, headers=service.key())
        assert [item["id"] for item in found.json()["items"]] == [job["id"]]


@with_shell_text
async def test_shell_text_in_an_idempotency_key_is_only_compared(service: Service, text: str) -> None:
    path = f"/vms/{uuid4()}/ngt/renew"
    headers = service.key() | {"Idempotency-Key": text}
    first, again = [await service.client.post(path, headers=headers) for _ in range(2)]
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json()["id"] == first.json()["id"]


@pytest.mark.parametrize("name", ["nowhere", "c", "c11"])
async def test_an_unknown_cluster_is_not_found(service: Service, name: str) -> None:
    await service.refuses(404, "cluster-not-found", json={"cluster": name})
    await service.refuses(404, "cluster-not-found", f"/clusters/{name}/pause")
    await service.refuses(404, "cluster-not-found", f"/clusters/{name}/resume")

"""Every operation of the document, with every credential that must not open it. The rows come from the document."""

import re
from collections.abc import AsyncIterator
from enum import Enum
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import select
from sqlmodel import SQLModel

from app.api.callers.authorization import SCOPES
from app.api.http.problems import STATUS
from app.ngt.errors import FaultCode
from app.settings.callers.scopes import Scope
from app.store.postgres.tables import API_KEY, DELIVERY
from app.store.records.jobs import JobStatus
from app.store.records.webhooks import DeliveryStatus
from tests.api.conftest import Service, assert_problem
from tests.contract.credentials import forms, unusable
from tests.contract.examples import FACTS, FIRST, JOB_ID, RENEW, SECOND, VM, with_examples
from tests.contract.operations import OPERATIONS, Json, Operation


class Elsewhere(Enum):
    """What one is told whose key is for other clusters than the one that the request is about."""

    NO_JOB = FaultCode.JOB_NOT_FOUND
    NO_SCAN = FaultCode.SCAN_NOT_FOUND
    NO_VM = FaultCode.VM_NOT_FOUND
    NO_WEBHOOK = FaultCode.WEBHOOK_NOT_FOUND
    NO_DELIVERY = FaultCode.DELIVERY_NOT_FOUND
    NOT_ALLOWED = FaultCode.TARGET_NOT_ALLOWED
    FILTERED = "nothing of that cluster is in the answer"
    THE_SAME = "what everybody is told, for it is about no cluster"
    OWN_TEST = "more than a row can say: a test below has its name"


OTHER_CLUSTER = {
    "renewVmNgtCertificate": Elsewhere.OWN_TEST,
    "listJobs": Elsewhere.FILTERED,
    "getJob": Elsewhere.NO_JOB,
    "getJobResult": Elsewhere.NO_JOB,
    "listJobEvents": Elsewhere.NO_JOB,
    "getJobLog": Elsewhere.NO_JOB,
    "cancelJob": Elsewhere.NO_JOB,
    "retryJob": Elsewhere.NO_JOB,
    "reportAgentRestarted": Elsewhere.NO_JOB,
    "listVms": Elsewhere.FILTERED,
    "getVm": Elsewhere.NO_VM,
    "getVmNgt": Elsewhere.NO_VM,
    "putVmNgtCertificate": Elsewhere.NO_VM,
    "getForecast": Elsewhere.OWN_TEST,
    "diagnoseVmNgt": Elsewhere.NO_VM,
    "listClusters": Elsewhere.FILTERED,
    "getClusterHealth": Elsewhere.NOT_ALLOWED,
    "scanCluster": Elsewhere.NOT_ALLOWED,
    "listScans": Elsewhere.FILTERED,
    "getScan": Elsewhere.NO_SCAN,
    "pauseCluster": Elsewhere.NOT_ALLOWED,
    "resumeCluster": Elsewhere.NOT_ALLOWED,
    "getAutoRenewPlan": Elsewhere.NOT_ALLOWED,
    "resumeAutoRenew": Elsewhere.NOT_ALLOWED,
    "pauseService": Elsewhere.NOT_ALLOWED,
    "resumeService": Elsewhere.NOT_ALLOWED,
    "listWebhooks": Elsewhere.FILTERED,
    "listDeliveries": Elsewhere.NO_WEBHOOK,
    "testWebhook": Elsewhere.NO_WEBHOOK,
    "replayDelivery": Elsewhere.NO_DELIVERY,
    "getLiveness": Elsewhere.THE_SAME,
    "getReadiness": Elsewhere.THE_SAME,
    "getMetrics": Elsewhere.NOT_ALLOWED,
    "getMeta": Elsewhere.THE_SAME,
}
FORECAST = OPERATIONS["getForecast"]
# How the example's job must stand for an operation to be done; else it is queued.
STANDING: dict[str, Json] = {
    "cancelJob": {"status": JobStatus.QUEUED, "done": False, "outcome": None},
    "retryJob": {"status": JobStatus.FAILED, "done": True, "outcome": "failed", "error_code": FaultCode.GATEWAY_DOWN},
    "reportAgentRestarted": {"status": JobStatus.WAITING, "wait_reason": "agent_restart"},
}
NEVER_THE_SAME = {"x-request-id", "content-length"}
PUBLIC = [name for name, operation in OPERATIONS.items() if operation.public]
GUARDED = [name for name, operation in OPERATIONS.items() if not operation.public]


@pytest_asyncio.fixture
async def service(tmp_path: Path, database_url: str) -> AsyncIterator[Service]:
    async with with_examples(tmp_path, database_url) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def untouched(tmp_path_factory: pytest.TempPathFactory, shared_database_url: str) -> AsyncIterator[Service]:
    """The same for tests in which nothing may happen: each of them looks that nothing did."""
    async with with_examples(tmp_path_factory.mktemp("service"), shared_database_url) as running:
        yield running


async def stand_as_needed(service: Service, operation: Operation) -> None:
    if operation.id == "replayDelivery":
        async with service.services.store.database.transaction() as connection:
            await connection.execute(DELIVERY.update().values(status=DeliveryStatus.EXHAUSTED, due_at=None))
    if columns := STANDING.get(operation.id):
        await service.leave(JOB_ID, **columns)


async def stored(service: Service) -> dict[str, list[Any]]:
    """All that there is, but for the keys, whose last use is noted."""
    async with service.services.store.database.transaction() as connection:
        return {
            table.name: sorted((await connection.execute(select(table))).all(), key=str)
            for table in SQLModel.metadata.sorted_tables
            if table is not API_KEY
        }


def told(answer: httpx.Response, targets: dict[str, str]) -> tuple[Any, ...]:
    """What an answer says, without what differs between any two requests and without what was asked for itself."""
    headers = {name: text for name, text in answer.headers.items() if name not in NEVER_THE_SAME}
    body = {name: text for name, text in answer.json().items() if name not in {"instance", "request_id"}}
    said = str((answer.status_code, headers, body))
    for name, value in targets.items():
        # A whole word: a short name may stand by chance within the id of a key.
        said = re.sub(rf"(?<![\w-]){re.escape(value)}(?![\w-])", f"<{name}>", said)
    return (said,)


def assert_silent(answer: httpx.Response, *, but: str = "") -> None:
    """Nothing of the first cluster is in the answer, except for what the request itself has named."""
    for fact in FACTS.values():
        if fact not in but:
            whole = f"{answer.headers} {answer.text}"
            assert not re.search(rf"(?<![\w-]){re.escape(fact)}(?![\w-])", whole), f"{fact} in {whole}"


async def assert_refused(
    client: httpx.AsyncClient, operation: Operation, status: int, code: str, **sent: Any
) -> httpx.Response:
    """The answer is this problem, and the same for what exists, what does not, and what has no form at all."""
    targets = operation.targets()
    answer = await operation.call(client, **sent)
    assert_problem(answer, status, code)
    nonsense = dict.fromkeys(targets, "%00%2e;'\"<")
    for others in (operation.strangers(), nonsense):
        assert told(await operation.call(client, others, **sent), others) == told(answer, targets)
    assert_silent(answer, but=str(answer.request.url))
    if operation.method == "GET":
        head = await client.request("HEAD", str(answer.request.url), headers=sent.get("headers"))
        assert (head.status_code, head.headers["content-type"]) == (status, answer.headers["content-type"])
    return answer


def test_every_operation_says_what_a_key_of_another_cluster_is_told() -> None:
    for name in OPERATIONS.keys() - OTHER_CLUSTER.keys():
        pytest.fail(
            f"{name} has no row in OTHER_CLUSTER of {__file__}: write what one is told whose key is for another "
            "cluster than that of the job, VM or cluster which the request is about."
        )
    assert OPERATIONS.keys() == OTHER_CLUSTER.keys(), "A row names an operation that is no more."
    for name, row in OTHER_CLUSTER.items():
        if row is Elsewhere.OWN_TEST:
            named = "test_" + re.sub("([A-Z])", r"_\1", name).lower()
            assert any(each.startswith(named) for each in globals()), f"{name} has no test of its own: {named}_…"


@pytest.mark.parametrize("name", OPERATIONS)
async def test_it_is_done_for_one_who_may_in_each_form_of_the_credential(service: Service, name: str) -> None:
    """Else a refusal would prove nothing: what the others send is good but for the credential."""
    operation = OPERATIONS[name]
    token = await service.key(*(SCOPES[name] or ()), clusters=frozenset({FIRST}))
    for credential in forms(token):
        await stand_as_needed(service, operation)
        async with service.client() as client:
            answer = await operation.call(client, headers=credential)
        if OTHER_CLUSTER[name] is Elsewhere.NOT_ALLOWED and not operation.targets():
            assert_problem(answer, 403, "target-not-allowed")
            async with service.client(await service.key(*(SCOPES[name] or ()))) as client:
                answer = await operation.call(client)
        assert answer.status_code < 300, (
            f"Have `with_examples` store what the example of {name} is about. {answer.text}"
        )


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", GUARDED)
async def test_without_a_credential_nobody_is_served(untouched: Service, name: str) -> None:
    before = await stored(untouched)
    token = await untouched.key(*Scope)
    async with untouched.client() as client:
        answer = await assert_refused(client, OPERATIONS[name], 401, "unauthenticated")
        for sent in (
            {"headers": {"Accept": "text/event-stream"}},
            {"headers": {"Accept": "image/png"}},
            {"params": {"api_key": token, "access_token": token, "X-API-Key": token}},
            {"json": [], "params": {"limit": "-1"}},
        ):
            other = await OPERATIONS[name].call(client, **sent)
            assert told(other, {}) == told(answer, {}), sent
    schemes = re.findall(r'(\w+) realm="ngt-renewal"', answer.headers["www-authenticate"])
    assert schemes == ["Bearer", "Basic"]
    assert "error=" not in answer.headers["www-authenticate"]
    assert await stored(untouched) == before


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", GUARDED)
async def test_a_credential_that_names_nobody_is_as_good_as_none(untouched: Service, name: str) -> None:
    before = await stored(untouched)
    token = await untouched.key(*Scope)
    async with untouched.client() as client:
        for what, headers in unusable(token).items():
            answer = await OPERATIONS[name].call(client, headers=headers)
            assert answer.status_code == 401, f"{what}: {answer.text}"
            assert_problem(answer, 401, "unauthenticated")
            assert answer.headers["www-authenticate"].startswith('Bearer realm="ngt-renewal"')
            assert token not in answer.text
        await assert_refused(client, OPERATIONS[name], 401, "unauthenticated", headers=headers)
    assert await stored(untouched) == before


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", GUARDED)
@pytest.mark.parametrize("code", [FaultCode.TOKEN_EXPIRED, FaultCode.TOKEN_REVOKED])
async def test_a_key_that_is_no_longer_good_opens_nothing(untouched: Service, name: str, code: FaultCode) -> None:
    token = await untouched.key(*Scope, expires_s=-1 if code is FaultCode.TOKEN_EXPIRED else None)
    if code is FaultCode.TOKEN_REVOKED:
        await untouched.services.store.keys.revoke(token.split("_")[1])
    before = await stored(untouched)
    async with untouched.client() as client:
        for credential in forms(token):
            answer = await assert_refused(client, OPERATIONS[name], 401, code, headers=credential)
            assert 'error="invalid_token"' in answer.headers["www-authenticate"]
        # Who does not know the secret does not learn that the key was good once.
        for headers in unusable(token).values():
            assert_problem(await OPERATIONS[name].call(client, headers=headers), 401, "unauthenticated")
    assert await stored(untouched) == before


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", [name for name in GUARDED if SCOPES[name]])
async def test_every_scope_but_those_that_are_needed_is_not_enough(untouched: Service, name: str) -> None:
    before = await stored(untouched)
    needed = SCOPES[name] or frozenset()
    for missing in (needed, *(frozenset({scope}) for scope in needed)):
        async with untouched.client(await untouched.key(*(set(Scope) - missing))) as client:
            answer = await assert_refused(client, OPERATIONS[name], 403, "insufficient-scope")
        said = f'error="insufficient_scope", scope="{" ".join(sorted(missing))}"'
        assert said in answer.headers["www-authenticate"]
        async with untouched.client(await untouched.key()) as client:
            await assert_refused(client, OPERATIONS[name], 403, "insufficient-scope")
    assert await stored(untouched) == before


@pytest.mark.parametrize("name", [name for name, row in OTHER_CLUSTER.items() if isinstance(row.value, FaultCode)])
async def test_what_is_on_another_cluster_is_not_shown_and_not_touched(service: Service, name: str) -> None:
    operation, code = OPERATIONS[name], OTHER_CLUSTER[name].value
    await stand_as_needed(service, operation)
    before = await stored(service)
    targets, strangers = operation.targets(), operation.strangers()
    async with service.client(await service.key(*Scope, clusters=frozenset({SECOND}))) as client:
        answer = await operation.call(client)
        assert_problem(answer, STATUS[code], code)
        assert told(answer, targets) == told(await operation.call(client, strangers), strangers)
    assert_silent(answer, but=operation.path.format(**targets))
    assert await stored(service) == before


@pytest.mark.parametrize("name", [name for name, row in OTHER_CLUSTER.items() if row is Elsewhere.FILTERED])
async def test_a_list_leaves_out_what_is_on_another_cluster(service: Service, name: str) -> None:
    operation = OPERATIONS[name]
    filters = [each["name"] for each in operation.parameters if each["in"] == "query" and each["name"] in FACTS]
    queries: list[dict[str, str]] = [{}, *({wanted: FACTS[wanted]} for wanted in filters)]
    async with (
        service.client(await service.key(*Scope, clusters=frozenset({FIRST}))) as insider,
        service.client(await service.key(*Scope, clusters=frozenset({SECOND}))) as outsider,
    ):
        for query in queries:
            seen, unseen = await operation.call(insider, params=query), await operation.call(outsider, params=query)
            assert (seen.status_code, len(seen.json()["items"])) == (200, 1)
            if name == "listVms" and "cluster" in query:
                # As in a path: an empty list would read as if nothing expired there.
                assert_problem(unseen, 403, "target-not-allowed")
                continue
            assert unseen.status_code == 200
            assert_silent(unseen)
            # A list of clusters has the outsider's own.
            assert len(unseen.json()["items"]) == (1 if name == "listClusters" else 0)


@pytest.mark.parametrize("name", [name for name, row in OTHER_CLUSTER.items() if row is Elsewhere.THE_SAME])
async def test_what_is_about_no_cluster_is_told_to_every_key(service: Service, name: str) -> None:
    async with (
        service.client(await service.key(*Scope)) as everyone,
        service.client(await service.key(*Scope, clusters=frozenset({SECOND}))) as outsider,
    ):
        answer = await OPERATIONS[name].call(outsider)
        assert answer.status_code == 200
        assert answer.json().keys() == (await OPERATIONS[name].call(everyone)).json().keys()
        assert_silent(answer)


async def test_renew_vm_ngt_certificate_searches_only_the_clusters_of_the_key(service: Service) -> None:
    """A VM that is known elsewhere is answered as one that is known nowhere."""
    await service.end(JOB_ID)
    async with service.client(await service.key(*Scope, clusters=frozenset({SECOND}))) as client:
        named = await RENEW.call(client, json={"cluster": FIRST})
        assert_problem(named, 403, "target-not-allowed")
        gone = await RENEW.call(client, json={"cluster": "gone"})
        assert told(gone, {"cluster": "gone"}) == told(named, {"cluster": FIRST})
        started, unknown = await RENEW.call(client), await RENEW.call(client, RENEW.strangers())
        assert (started.status_code, unknown.status_code) == (202, 202)
        assert started.json().keys() == unknown.json().keys()
        assert started.json()["cluster"] == unknown.json()["cluster"] == SECOND
    assert (await service.stored_request(started.json()["id"]))["clusters"] == [SECOND]


async def test_get_forecast_counts_only_the_vms_of_the_clusters_of_the_key(service: Service) -> None:
    async with (
        service.client(await service.key(Scope.VMS_READ, clusters=frozenset({FIRST}))) as insider,
        service.client(await service.key(Scope.VMS_READ, clusters=frozenset({SECOND}))) as outsider,
    ):
        seen, unseen = await FORECAST.call(insider), await FORECAST.call(outsider)
        assert [(total["cluster"], total["vms"]) for total in seen.json()["clusters"]] == [(FIRST, 1)]
        assert [(total["cluster"], total["vms"]) for total in unseen.json()["clusters"]] == [(SECOND, 0)]
        assert_silent(unseen)


async def test_renew_vm_ngt_certificate_does_not_name_a_job_of_another_cluster(service: Service) -> None:
    async with service.client(await service.key(*Scope, clusters=frozenset({SECOND}))) as client:
        for body in (RENEW.body, {"force": True}, {"on_conflict": "fail"}):
            answer = await RENEW.call(client, json=body)
            problem = assert_problem(answer, 409, "vm-busy")
            assert "job_id" not in problem
            assert "location" not in answer.headers
            assert_silent(answer, but=VM)


@pytest.mark.parametrize("name", PUBLIC)
async def test_a_public_operation_needs_no_credential_and_is_not_harmed_by_a_bad_one(
    service: Service, name: str
) -> None:
    assert SCOPES[name] is None
    async with service.client() as client:
        answer = await OPERATIONS[name].call(client)
        assert answer.status_code == 200
        for what, headers in unusable(await service.key()).items():
            harmed = await OPERATIONS[name].call(client, headers=headers)
            assert (harmed.status_code, harmed.content) == (200, answer.content), what


@pytest.mark.asyncio(loop_scope="module")
async def test_what_readiness_shows_more_is_shown_to_any_key_and_to_nobody_else(untouched: Service) -> None:
    async with untouched.client() as client:
        assert_problem(await client.get("/readyz?verbose=true"), 401, "unauthenticated")
        for what, headers in unusable(await untouched.key()).items():
            assert (await client.get("/readyz?verbose=true", headers=headers)).status_code == 401, what
        for credential in forms(await untouched.key(clusters=frozenset())):
            assert "checks" in (await client.get("/readyz?verbose=true", headers=credential)).json()


def test_what_the_document_calls_public_is_public_and_nothing_else() -> None:
    assert {name for name, scopes in SCOPES.items() if scopes is None} == set(PUBLIC)
    assert set(PUBLIC) == {"getLiveness", "getReadiness"}

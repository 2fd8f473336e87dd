"""Who is told of what: the deliveries that a change of a job leaves behind, and that nothing else leaves any."""

import json

import pytest

from app.events import EVENTS, TEMPLATE_FACTS, CertificateEventType, RenewalEventType, RenewalFacts, ServiceEventType
from app.ngt.errors import Fault, FaultCode
from app.store.inventory.vms import Vms
from app.store.postgres.database import Database
from app.store.records.claims import FenceLost
from app.store.webhooks.outbox import MOST_CALLBACKS
from tests.store.conftest import ANN, BEN, new_vm
from tests.work.webhooks.rows import Runner, deliveries, state, told
from tests.work.webhooks.samples import target

SYS_ID = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def runner(database: Database) -> Runner:
    targets = (
        target(name="all"),
        target(name="failures", events=["ngt.renewal.failed"]),
        target(name="of-c2", clusters=["c2"]),
        target(name="asked", callback_only=True),
        target(name="snow", profile="servicenow_table", table="change_request"),
    )
    return Runner(database, {target.name: target for target in targets})


@pytest.mark.parametrize(
    ("outcome", "event"),
    [("renewed", "succeeded"), ("unverified", "unverified"), ("already_valid", "skipped"), ("failed", "failed")],
)
async def test_an_end_is_told_to_every_target_that_wants_it(
    runner: Runner, database: Database, outcome: str, event: str
) -> None:
    await runner.end((await runner.start()).id, outcome)
    wanted = [("all", f"ngt.renewal.{event}")]
    assert await told(database) == wanted + ([("failures", "ngt.renewal.failed")] if outcome == "failed" else [])
    rows = await deliveries(database)
    assert {(row["status"], row["attempts"], row["record"], row["cluster"]) for row in rows} == {
        ("pending", 0, None, "c1")
    }
    assert all(row["due_at"] is not None and row["facts"]["outcome"] == outcome for row in rows)


async def test_a_cancellation_is_told(runner: Runner, database: Database) -> None:
    job = await runner.start()
    await runner.jobs.cancel(job.id, ANN)
    (row,) = await deliveries(database)
    assert (row["event"], row["facts"]["message"]) == ("ngt.renewal.cancelled", "cancelled by ann")


async def test_a_plan_tells_nobody(runner: Runner, database: Database) -> None:
    job = await runner.start(validate_only=True)
    await runner.end(job.id, "planned")
    failed = await runner.start(validate_only=True)
    await runner.end(failed.id, "failed")
    cancelled = await runner.start(validate_only=True)
    await runner.jobs.cancel(cancelled.id, ANN)
    assert await told(database) == []


async def test_a_target_of_another_cluster_is_not_told(runner: Runner, database: Database) -> None:
    await runner.end((await runner.start(cluster="c2")).id, "renewed")
    await runner.end((await runner.start(cluster=None)).id, "renewed")
    assert await told(database) == [("all", "ngt.renewal.succeeded")] * 2 + [("of-c2", "ngt.renewal.succeeded")]


async def test_a_callback_is_told_of_every_event_of_its_job_alone(runner: Runner, database: Database) -> None:
    job = await runner.start("snow", SYS_ID)
    await runner.end((await runner.start()).id, "renewed")
    await runner.wait(job.id, "agent_restart")
    await runner.end(job.id, "renewed")
    called = [(row["event"], row["record"], row["job_id"]) for row in await deliveries(database) if row["record"]]
    assert called == [
        ("ngt.renewal.action_required", SYS_ID, job.id),
        ("ngt.renewal.succeeded", SYS_ID, job.id),
    ]


async def test_a_standing_target_that_is_also_called_back_is_told_once(runner: Runner, database: Database) -> None:
    await runner.end((await runner.start("all")).id, "renewed")
    assert await told(database) == [("all", "ngt.renewal.succeeded")]


async def test_the_callback_of_a_request_that_joins_is_told_too_by_its_own_number(
    runner: Runner, database: Database
) -> None:
    vm = new_vm()
    job = await runner.start("snow", "CHG0030123", vm_uuid=vm, change_number="CHG0030123", correlation_id="first")
    for _ in range(2):
        joined = await runner.ask("snow", SYS_ID, vm_uuid=vm, correlation_id="second")
        assert (joined.joined, joined.job.id) == (True, job.id)
    await runner.ask(vm_uuid=vm)
    await runner.end(job.id, "renewed")
    facts = {row["record"]: row["facts"] for row in await deliveries(database) if row["target"] == "snow"}
    assert facts.keys() == {"CHG0030123", SYS_ID}
    assert (facts["CHG0030123"]["correlation_id"], facts["CHG0030123"]["change_number"]) == ("first", "CHG0030123")
    assert facts[SYS_ID]["correlation_id"] == "second"
    assert len(await deliveries(database)) == 3


async def test_a_request_with_one_callback_too_many_does_not_join(runner: Runner) -> None:
    vm = new_vm()
    for number in range(MOST_CALLBACKS):
        await runner.ask("snow", f"CHG{number:07}", vm_uuid=vm)
    with pytest.raises(Fault) as refused:
        await runner.ask("snow", "CHG9999999", vm_uuid=vm)
    assert refused.value.code is FaultCode.CALLBACK_NOT_ALLOWED


async def test_a_callback_to_a_target_that_was_removed_since_is_left_out(runner: Runner, database: Database) -> None:
    job = await runner.start("asked")
    runner = Runner(database, {"all": runner.targets["all"]})
    await runner.end(job.id, "renewed")
    assert await told(database) == [("all", "ngt.renewal.succeeded")]


async def test_a_runner_that_lost_its_job_tells_nothing(runner: Runner, database: Database) -> None:
    job = await runner.start()
    claim = await runner.claim(job.id)
    await runner.jobs.cancel(job.id, BEN)
    with pytest.raises(FenceLost):
        await runner.finish(claim, "renewed")
    with pytest.raises(FenceLost):
        await runner.running.record_answer(claim, state(claim, stranded=True))
    assert await told(database) == [("all", "ngt.renewal.cancelled")]


async def test_an_end_that_cannot_be_stored_is_not_told(
    runner: Runner, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await runner.start()
    claim = await runner.claim(job.id)
    async with database.transaction() as connection:
        await connection.exec_driver_sql("ALTER TABLE vm ADD CHECK (renewed_at IS NULL)")
        await connection.exec_driver_sql(
            f"INSERT INTO vm (vm_uuid, cluster) VALUES ('{claim.vm_uuid}', '{claim.cluster}')"  # noqa: S608 - the test's own
        )
    with pytest.raises(Exception, match="vm_renewed_at_check"):
        await runner.finish(claim, "renewed", proven=True)
    assert await told(database) == []
    assert (await runner.jobs.find(job.id)) is not None
    assert await Vms(database).known_cluster(claim.vm_uuid) is not None


async def test_each_attempt_of_a_job_has_an_end_of_its_own(runner: Runner, database: Database) -> None:
    job = await runner.start()
    await runner.end(job.id, "failed")
    await runner.jobs.retry(job.id)
    await runner.end(job.id, "failed")
    await runner.jobs.retry(job.id)
    await runner.end(job.id, "renewed")
    events = [row["event"] for row in await deliveries(database) if row["target"] == "all"]
    assert events == ["ngt.renewal.failed", "ngt.renewal.failed", "ngt.renewal.succeeded"]


_BEGINNINGS = [
    (["agent_restart"], ["agent_restart"]),
    (["agent_restart", "agent_restart", None, "agent_restart"], ["agent_restart"]),
    (["no_free_cdrom_slot", "cvm_unreachable", "no_free_cdrom_slot"], ["no_free_cdrom_slot"]),
    (["agent_restart", "guest_unreachable", "agent_restart"], ["agent_restart"]),
    (["no_free_cdrom_slot", "agent_restart"], ["no_free_cdrom_slot", "agent_restart"]),
    (["vm_powered_off", "pickup", "vm_powered_off"], ["vm_powered_off", "vm_powered_off"]),
    (["cvm_unreachable", "cluster_busy", "pickup"], []),
]


@pytest.mark.parametrize(("waits", "beginnings"), _BEGINNINGS)
async def test_a_wait_for_a_person_is_told_when_it_begins(
    runner: Runner, database: Database, waits: list[str | None], beginnings: list[str]
) -> None:
    job = await runner.start()
    for reason in waits:
        await runner.wait(job.id, reason)
    rows = await deliveries(database)
    assert {row["event"] for row in rows} <= {"ngt.renewal.action_required"}
    assert [row["facts"]["wait_reason"] for row in rows] == beginnings


async def test_the_next_attempt_asks_for_a_person_again(runner: Runner, database: Database) -> None:
    job = await runner.start()
    await runner.wait(job.id, "agent_restart")
    await runner.end(job.id, "failed")
    await runner.jobs.retry(job.id)
    await runner.wait(job.id, "agent_restart")
    events = [row["event"].rpartition(".")[2] for row in await deliveries(database) if row["target"] == "all"]
    assert events == ["action_required", "failed", "action_required"]


async def test_a_stranding_is_told_at_once_and_once(runner: Runner, database: Database) -> None:
    job = await runner.start()
    claim = await runner.claim(job.id)
    for _ in range(2):
        await runner.running.record_answer(claim, state(claim, stranded=True))
    assert await told(database) == [("all", "ngt.renewal.stranded")]
    (row,) = await deliveries(database)
    assert (row["facts"]["status"], "NGT may be off" in row["facts"]["message"]) == ("running", True)
    await runner.running.record_answer(claim, state(claim))
    await runner.running.record_answer(claim, state(claim, stranded=True))
    assert await told(database) == [("all", "ngt.renewal.stranded")] * 2


async def test_the_facts_are_those_that_the_openapi_document_describes(runner: Runner, database: Database) -> None:
    job = await runner.start(change_number="CHG0030123", correlation_id="RITM0010042")
    await runner.wait(job.id, "agent_restart")
    await runner.end(job.id, "failed", remaining_action="mount the ISO")
    for row in await deliveries(database):
        RenewalFacts.model_validate(row["facts"], extra="forbid")
        assert row["facts"].keys() <= TEMPLATE_FACTS
        assert None not in row["facts"].values()
    facts = row["facts"]
    assert facts["old_not_after"] == "2026-12-01T00:00:00Z"
    assert facts["finished_at"].endswith("Z")
    assert facts["link"] == f"/jobs/{job.id}"
    assert facts["error_action"].startswith("For the ")


def test_the_events_are_those_that_the_openapi_document_describes() -> None:
    assert {
        *RenewalEventType,
        *CertificateEventType,
        ServiceEventType.DIGEST,
        ServiceEventType.AUTO_RENEW_STOPPED,
        ServiceEventType.TEST,
    } == set(EVENTS)


async def test_a_body_stays_small_whatever_a_cluster_said(runner: Runner, database: Database) -> None:
    job = await runner.start()
    long = "\u0001\U0001f510" * 5000
    await runner.end(job.id, "failed", message=long, error_message=long, remaining_action=long)
    for row in await deliveries(database):
        assert len(json.dumps(row["facts"])) < 20_000


async def test_without_targets_nothing_is_written(database: Database) -> None:
    runner = Runner(database, {})
    job = await runner.start()
    await runner.wait(job.id, "agent_restart")
    await runner.end(job.id, "renewed")
    assert await told(database) == []

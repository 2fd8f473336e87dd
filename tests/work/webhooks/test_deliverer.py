"""What becomes of deliveries: taken, repeated, given up, refused for good; each against a real receiver."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from app.ngt.errors import Fault, FaultCode
from app.settings import WebhookTarget
from app.settings.limits import Limits
from app.store.postgres.database import Database
from app.store.records.webhooks import DeliveryStatus
from app.store.webhooks.deliveries import Capacity, Deliveries
from app.telemetry.metrics import Metrics
from app.work.webhooks.deliverer import Deliverer, is_taken, next_in_s
from app.work.webhooks.sender import DeliveryResult, Sender
from tests.work.webhooks.conftest import SIGNING_SECRET, SecretFile
from tests.work.webhooks.http_server import Answer, HttpServer
from tests.work.webhooks.receiver import GONE, HANG, REDIRECT, busy, running_receiver
from tests.work.webhooks.rows import Row, Runner, change_deliveries, deliveries
from tests.work.webhooks.samples import target
from tests.work.webhooks.servicenow import API_KEY, TABLE, ServiceNow

_LADDER_S = Limits().webhook_retry_delays_s
NewTarget = Callable[..., WebhookTarget]


@pytest.fixture
def new_target(receiver: HttpServer, secret_file: SecretFile) -> NewTarget:
    """A target of the profile `standard` at the receiver, unless it is said otherwise."""
    signing = secret_file("signing", SIGNING_SECRET)

    def build(**table: Any) -> WebhookTarget:
        signed = {"secret_files": [signing]} if table.get("profile", "standard") == "standard" else {}
        return target(**({"url": receiver.url} | signed | table))

    return build


@pytest.fixture
def runner(database: Database, new_target: NewTarget) -> Runner:
    """With one target, `told`."""
    return Runner(database, {"told": new_target()})


def deliverer(
    runner: Runner, delays_s: Sequence[float] = _LADDER_S, targets: Mapping[str, WebhookTarget] | None = None
) -> Deliverer:
    configured = runner.targets if targets is None else targets
    return Deliverer(Deliveries(runner.database), configured, Sender(), delays_s, Metrics())


async def send(runner: Runner, delays_s: Sequence[float] = _LADDER_S) -> list[Row]:
    """Everything that is due is sent, and what came of it is written down; then all rows."""
    sending = deliverer(runner, delays_s)
    async with sending.running():
        await sending.send_due()
    return await deliveries(runner.database)


async def end_a_job(runner: Runner, *callback: str, **more: object) -> None:
    await runner.end((await runner.start(*callback, **more)).id, "renewed")


async def make_due(runner: Runner) -> None:
    """As if the time until the next attempt had passed."""
    async with runner.database.transaction() as connection:
        await connection.execute(text("UPDATE delivery SET due_at = now() WHERE due_at IS NOT NULL"))


async def test_a_delivery_that_is_taken_is_over(runner: Runner, receiver: HttpServer) -> None:
    await end_a_job(runner)
    (row,) = await send(runner)
    assert (row["status"], row["attempts"], row["last_http_status"]) == ("delivered", 1, 204)
    assert (row["due_at"], row["lease_until"], row["last_error"]) == (None, None, None)
    assert row["finished_at"] >= row["last_attempt_at"] >= row["created_at"]
    (received,) = receiver.received
    assert received.headers["webhook-id"] == str(row["id"])
    assert (received.json()["type"], received.json()["data"]) == ("ngt.renewal.succeeded", row["facts"])
    await send(runner)
    assert len(receiver.received) == 1


@pytest.mark.parametrize("answer", [REDIRECT, Answer(304), Answer(400), Answer(404), Answer(500)], ids=str)
async def test_anything_but_2xx_is_sent_again_in_a_while(runner: Runner, receiver: HttpServer, answer: Answer) -> None:
    receiver.order(answer)
    await end_a_job(runner)
    (row,) = await send(runner)
    assert (row["status"], row["attempts"], row["last_http_status"]) == ("pending", 1, answer.status)
    assert str(answer.status) in row["last_error"]
    assert 4.9 < (row["due_at"] - row["last_attempt_at"]).total_seconds() < 7
    await send(runner)
    assert len(receiver.received) == 1
    await make_due(runner)
    (row,) = await send(runner)
    assert (row["status"], row["attempts"], row["last_error"]) == ("delivered", 2, None)


async def test_after_the_last_attempt_it_is_exhausted_and_can_be_replayed(runner: Runner, receiver: HttpServer) -> None:
    receiver.order(*[Answer(500)] * 3)
    await end_a_job(runner)
    for _ in range(4):
        await send(runner, (1, 1))
        await make_due(runner)
    (row,) = await deliveries(runner.database)
    assert (row["status"], row["attempts"], row["due_at"]) == ("exhausted", 3, None)
    assert row["finished_at"] is not None
    store = Deliveries(runner.database)
    replayed = await store.replay(row["id"], runner.targets)
    assert (replayed.status, replayed.attempts, replayed.finished_at) == (DeliveryStatus.PENDING, 0, None)
    with pytest.raises(Fault) as refused:
        await store.replay(row["id"], runner.targets)
    assert refused.value.code is FaultCode.DELIVERY_NOT_REPLAYABLE
    (row,) = await send(runner, (1, 1))
    assert (row["status"], row["attempts"]) == ("delivered", 1)
    assert {received.headers["webhook-id"] for received in receiver.received} == {str(row["id"])}
    assert len({received.body for received in receiver.received}) == 1


@pytest.mark.parametrize(
    ("answer", "least_s", "most_s"),
    [(busy("120"), 120, 133), (busy("120", 503), 120, 133), (busy("1"), 5, 6), (busy("9999999"), 86400, 95100)],
    ids=["429", "503", "sooner than the ladder", "far too late"],
)
async def test_retry_after_is_kept_to(
    runner: Runner, receiver: HttpServer, answer: Answer, least_s: float, most_s: float
) -> None:
    receiver.order(answer)
    await end_a_job(runner)
    (row,) = await send(runner)
    wait = row["due_at"] - row["last_attempt_at"]
    assert timedelta(seconds=least_s) <= wait <= timedelta(seconds=most_s)


def test_the_ladder_is_that_of_standard_webhooks() -> None:
    failed = DeliveryResult(500, 3600, "no")
    waits = [next_in_s(attempts, failed, _LADDER_S, 0) for attempts in range(1, 11)]
    assert waits == [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400, None]
    assert next_in_s(2, failed, _LADDER_S, 0.999) == pytest.approx(330, rel=0.01)
    assert [is_taken(DeliveryResult(status, None, None)) for status in (199, 200, 299, 300, 410)] == [
        False, True, True, False, False,
    ]  # fmt: skip
    assert not is_taken(DeliveryResult(200, None, "not as ServiceNow does"))


async def test_410_disables_the_target_until_a_test_arrives(runner: Runner, receiver: HttpServer) -> None:
    store = Deliveries(runner.database)
    for _ in range(3):
        await end_a_job(runner)
    async with runner.database.transaction() as connection:
        others = "id <> (SELECT id FROM delivery ORDER BY created_at LIMIT 1)"
        await connection.execute(text(f"UPDATE delivery SET due_at = now() + interval '1 hour' WHERE {others}"))  # noqa: S608 - the line above
    receiver.order(GONE)
    rows = await send(runner)
    assert [row["status"] for row in rows] == ["disabled"] * 3
    assert (rows[0]["last_http_status"], rows[0]["due_at"]) == (410, None)
    state = (await store.target_states())["told"]
    assert state.disabled_at is not None
    assert "410" in (state.disabled_because or "")

    await end_a_job(runner)
    assert [row["status"] for row in await send(runner)][3:] == ["pending"]
    assert await store.expire_undeliverable(runner.targets) == 1
    assert [row["status"] for row in await deliveries(runner.database)] == ["disabled"] * 4
    with pytest.raises(Fault) as refused:
        await store.replay(rows[0]["id"], runner.targets)
    assert refused.value.code is FaultCode.DELIVERY_NOT_REPLAYABLE

    await store.begin_test("told")
    assert await store.expire_undeliverable(runner.targets) == 0
    assert (await send(runner))[4]["status"] == "delivered"
    assert (await store.target_states())["told"].disabled_at is None
    await store.replay(rows[0]["id"], runner.targets)
    assert (await send(runner))[0]["status"] == "delivered"
    await end_a_job(runner)
    assert (await send(runner))[5]["status"] == "delivered"


async def test_a_test_is_sent_once(runner: Runner, receiver: HttpServer) -> None:
    receiver.order(busy("1"))
    test = await Deliveries(runner.database).begin_test("told")
    (row,) = await send(runner)
    assert (row["status"], row["attempts"], row["last_http_status"]) == ("exhausted", 1, 429)
    (received,) = receiver.received
    assert (received.headers["webhook-id"], received.json()["type"]) == (str(test.id), "webhook.test")


async def test_what_is_pending_for_a_target_that_was_removed_ends_after_a_while(runner: Runner) -> None:
    await end_a_job(runner)
    without = deliverer(runner, targets={})
    await without.send_due()
    await without.expire_undeliverable()
    (row,) = await deliveries(runner.database)
    assert row["status"] == "pending"
    await change_deliveries(runner.database, due_at=row["due_at"] - timedelta(minutes=11))
    await without.expire_undeliverable()
    (row,) = await deliveries(runner.database)
    assert (row["status"], row["due_at"]) == ("removed", None)
    assert "not configured" in row["last_error"]


@pytest.fixture
def dead() -> Iterator[HttpServer]:
    """It takes requests and never answers any."""
    with running_receiver() as server:
        server.order(*[HANG] * 100)
        yield server


async def test_a_receiver_that_hangs_holds_up_no_other(
    database: Database, new_target: NewTarget, receiver: HttpServer, dead: HttpServer
) -> None:
    targets = {"told": new_target(), "dead": new_target(name="dead", url=dead.url, timeout_s=20)}
    runner = Runner(database, targets)
    for _ in range(6):
        await end_a_job(runner)
    async with at_work(deliverer(runner)):
        await receiver.wait_for(6)
        await dead.wait_for(4)
        rows = await deliveries(database)
        assert sum(row["lease_until"] is not None for row in rows if row["target"] == "dead") == 4
    # What was cut off is free for others at once.
    rows = [row for row in await deliveries(database) if row["target"] == "dead"]
    assert all(row["status"] == "pending" and row["lease_until"] is None for row in rows)
    assert Counter(row["attempts"] for row in rows) == {1: 4, 0: 2}
    assert len(dead.received) == 4


@asynccontextmanager
async def at_work(sending: Deliverer) -> AsyncIterator[None]:
    """As a worker does, and a little more often."""

    async def again_and_again() -> None:
        while True:
            await sending.send_due()
            await asyncio.sleep(0.02)

    async with sending.running():
        task = asyncio.create_task(again_and_again())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_replicas_share_the_deliveries_and_send_each_once(runner: Runner, receiver: HttpServer) -> None:
    for _ in range(30):
        await end_a_job(runner)
    async with at_work(deliverer(runner)), at_work(deliverer(runner)), at_work(deliverer(runner)):
        await receiver.wait_for(30)
    rows = await deliveries(runner.database)
    assert {(row["status"], row["attempts"]) for row in rows} == {("delivered", 1)}
    assert sorted(received.headers["webhook-id"] for received in receiver.received) == sorted(
        str(row["id"]) for row in rows
    )


async def test_an_answer_that_comes_after_the_lease_is_worth_nothing(runner: Runner) -> None:
    await end_a_job(runner)
    store = Deliveries(runner.database)
    rooms = {"told": Capacity(4, 60)}
    (late,) = await store.claim(rooms)
    assert await store.claim(rooms) == ()
    await change_deliveries(runner.database, lease_until=late.delivery.created_at)
    (second,) = await store.claim(rooms)
    assert (second.delivery.id, second.delivery.attempts) == (late.delivery.id, 2)
    await store.failed(late, 500, "no", again_in_s=None)
    await store.release(late)
    (row,) = await deliveries(runner.database)
    assert (row["status"], row["lease_until"]) == ("pending", second.lease_until)
    await store.delivered(second, 200)
    assert (await deliveries(runner.database))[0]["status"] == "delivered"


async def test_a_later_event_on_a_record_is_not_overwritten_by_an_earlier_one(
    database: Database, new_target: NewTarget, servicenow: ServiceNow, secret_file: SecretFile
) -> None:
    key = {"name": "x-sn-apikey", "value_file": secret_file("key", API_KEY)}
    snow = new_target(name="snow", profile="servicenow_table", table=TABLE, url=servicenow.url, header=key)
    runner = Runner(database, {"snow": snow})
    sys_id = servicenow.add_record()
    servicenow.http.order(Answer(503))
    job = await runner.start("snow", sys_id)
    await runner.wait(job.id, "agent_restart")
    await runner.end(job.id, "renewed")
    # The later one waits until the earlier one had its first try.
    first, second = await send(runner)
    assert (first["attempts"], second["attempts"]) == (1, 0)
    first, second = await send(runner)
    assert (first["status"], second["status"]) == ("superseded", "delivered")
    assert [request.method for request in servicenow.api_requests] == ["PATCH", "PATCH"]
    assert len(servicenow.record(sys_id).journal["work_notes"]) == 1


async def test_two_events_on_a_record_are_never_on_their_way_at_a_time(
    database: Database, new_target: NewTarget, servicenow: ServiceNow, secret_file: SecretFile
) -> None:
    key = {"name": "x-sn-apikey", "value_file": secret_file("key", API_KEY)}
    snow = new_target(name="snow", profile="servicenow_table", table=TABLE, url=servicenow.url, header=key)
    runner, store, rooms = Runner(database, {"snow": snow}), Deliveries(database), {"snow": Capacity(4, 60)}
    job = await runner.start("snow", servicenow.add_record())
    await runner.wait(job.id, "agent_restart")
    (first,) = await store.claim(rooms)
    await runner.end(job.id, "renewed")
    assert await store.claim(rooms) == ()
    await store.failed(first, 503, "no", again_in_s=0)
    # As after a pause of the service, both are due: the earlier one goes first, although it was tried before.
    (first_again,) = await store.claim(rooms)
    assert first_again.delivery.id == first.delivery.id
    await store.failed(first_again, 503, "no", again_in_s=3600)
    (second,) = await store.claim(rooms)
    assert second.delivery.id != first.delivery.id
    await make_due(runner)
    # Sent beside the later one, the earlier one could be written last.
    assert await store.claim(rooms) == ()
    await store.delivered(second, 200)
    assert [row["status"] for row in await deliveries(database)] == ["superseded", "delivered"]


async def test_the_attempts_are_counted_by_what_came_of_them(runner: Runner, receiver: HttpServer) -> None:
    metrics = Metrics()
    sending = Deliverer(Deliveries(runner.database), runner.targets, Sender(), _LADDER_S, metrics)
    async with sending.running():
        for count, answer in enumerate((Answer(), Answer(500), GONE), 1):
            receiver.order(answer)
            await end_a_job(runner)
            await sending.send_due()
            await receiver.wait_for(count)
    results = ("delivered", "failed", "disabled", "exhausted")
    counted = [
        metrics.registry.get_sample_value("ngt_webhook_deliveries_total", {"target": "told", "result": result})
        for result in results
    ]
    assert counted == [1, 1, 1, None]

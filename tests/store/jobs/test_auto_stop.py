"""Automatic renewals that fail one after the other stop those of their cluster, loudly; and starting them again."""

import json

import pytest
from sqlalchemy import update

from app.events import AutoRenewStoppedFacts
from app.ngt.errors import Fault, FaultCode
from app.store.clusters.pause import Clusters
from app.store.jobs.queries import JobFilter
from app.store.postgres.database import Database
from app.store.postgres.queue import WakeUps
from app.store.postgres.tables import CLUSTER
from app.store.records.clusters import ClusterRecord
from tests.store.conftest import ANN
from tests.work.webhooks.rows import Runner, deliveries, told
from tests.work.webhooks.samples import target

STOPPED = "ngt.auto_renew.stopped"
RULE = "automatic renewal of c1: expires 2027-01-10, within before_days = 60; no windows: always open"


@pytest.fixture
def runner(database: Database) -> Runner:
    targets = (
        target(name="loud", events=[STOPPED]),
        target(name="of-c2", events=[STOPPED], clusters=["c2"]),
        target(name="asked", callback_only=True),
        target(name="renewals", events=["ngt.renewal.*"]),
    )
    return Runner(database, {target.name: target for target in targets})


async def cluster_of(clusters: Clusters) -> ClusterRecord:
    (cluster,) = await clusters.list(["c1"])
    return cluster


async def end(runner: Runner, *outcomes: str, rule: str | None = RULE) -> None:
    for outcome in outcomes:
        await runner.end((await runner.start(automatic_rule=rule)).id, outcome)


async def test_three_failures_in_a_row_stop_it_and_say_so_once(
    runner: Runner, clusters: Clusters, database: Database
) -> None:
    await end(runner, "failed", "failed")
    before = await cluster_of(clusters)
    assert (before.auto_failures_in_a_row, before.auto_stopped_at) == (2, None)
    assert ("loud", STOPPED) not in await told(database)
    await end(runner, "failed", "failed")
    stopped = await cluster_of(clusters)
    assert stopped.auto_failures_in_a_row == 4
    assert stopped.auto_stopped_at is not None
    assert stopped.auto_stopped_reason is not None
    assert stopped.auto_stopped_reason.startswith("3 automatic renewals in a row failed, the last one for VM ")
    assert stopped.auto_stopped_reason.endswith(": no CVM answered")
    (row,) = [row for row in await deliveries(database) if row["event"] == STOPPED]
    assert (row["target"], row["cluster"], row["job_id"], row["status"]) == ("loud", "c1", None, "pending")
    facts = row["facts"]
    AutoRenewStoppedFacts.model_validate(facts, extra="forbid")
    assert facts["message"] == f"No more automatic renewals begin on c1: {stopped.auto_stopped_reason}"
    assert facts["action"] == "Fix the cause, then POST /clusters/c1/auto-renew/resume."
    assert (facts["failures_in_a_row"], facts["error_code"]) == (3, "cvm-unreachable")
    assert facts["link"] == "/clusters/c1/auto-renew/plan"
    assert facts["error_action"].startswith("For the ")
    assert None not in facts.values()


@pytest.mark.parametrize("between", ["already_valid", "unverified"])
async def test_what_was_neither_renewed_nor_failed_leaves_the_row_of_failures_as_it_is(
    runner: Runner, clusters: Clusters, between: str
) -> None:
    await end(runner, "failed", between, "failed", between)
    assert (await cluster_of(clusters)).auto_failures_in_a_row == 2
    await end(runner, "failed")
    assert (await cluster_of(clusters)).auto_stopped_at is not None


async def test_a_certificate_that_was_renewed_begins_a_new_row(runner: Runner, clusters: Clusters) -> None:
    await end(runner, "failed", "failed", "renewed", "failed", "failed")
    cluster = await cluster_of(clusters)
    assert (cluster.auto_failures_in_a_row, cluster.auto_stopped_at) == (2, None)


async def test_what_people_asked_for_does_not_count(runner: Runner, clusters: Clusters) -> None:
    await end(runner, "failed", "failed")
    await end(runner, "failed", "renewed", "failed", rule=None)
    cluster = await cluster_of(clusters)
    assert (cluster.auto_failures_in_a_row, cluster.auto_stopped_at) == (2, None)


async def test_a_cancelled_job_does_not_count(runner: Runner, clusters: Clusters) -> None:
    await end(runner, "failed", "failed")
    await runner.jobs.cancel((await runner.start(automatic_rule=RULE)).id, ANN)
    assert (await cluster_of(clusters)).auto_failures_in_a_row == 2


async def test_the_number_is_the_one_of_the_cluster(runner: Runner, clusters: Clusters) -> None:
    await runner.end((await runner.start(automatic_rule=RULE)).id, "failed", stop_after_failures=1)
    stopped = await cluster_of(clusters)
    assert (stopped.auto_stopped_reason or "").startswith("an automatic renewal failed, the last one for VM ")


async def test_it_is_stopped_until_somebody_resumes_it_also_when_one_that_ran_ends_well(
    runner: Runner, clusters: Clusters
) -> None:
    await end(runner, "failed", "failed", "failed", "renewed")
    stopped = await cluster_of(clusters)
    assert (stopped.auto_failures_in_a_row, stopped.auto_stopped_at is not None) == (0, True)
    resumed = await clusters.resume_auto_renew("c1")
    assert resumed == await cluster_of(clusters)
    assert (resumed.auto_failures_in_a_row, resumed.auto_stopped_at, resumed.auto_stopped_reason) == (0, None, None)
    # Once more is said once more.
    await end(runner, "failed", "failed", "failed")
    assert len([row for row in await deliveries(runner.database) if row["event"] == STOPPED]) == 2


async def test_resuming_a_cluster_does_not_start_automatic_renewals_again(
    runner: Runner, clusters: Clusters, database: Database, wakeups: WakeUps
) -> None:
    await end(runner, "failed", "failed", "failed")
    async with database.transaction() as connection:
        await connection.execute(update(CLUSTER).values(paused_at=CLUSTER.c.auto_stopped_at))
    from_pause = await clusters.resume("c1", wakeups)
    assert from_pause.auto_stopped_at is not None


async def test_an_unknown_cluster_is_not_resumed(clusters: Clusters) -> None:
    with pytest.raises(Fault) as fault:
        await clusters.resume_auto_renew("c9")
    assert fault.value.code is FaultCode.CLUSTER_NOT_FOUND


async def test_a_cluster_that_nothing_is_remembered_of_is_counted_too(runner: Runner, database: Database) -> None:
    await end(runner, "failed")
    (cluster,) = await Clusters(database).list(["c1"])
    assert cluster.auto_failures_in_a_row == 1


async def test_the_event_stays_small_whatever_a_cluster_said(runner: Runner, database: Database) -> None:
    long = "\u0001\U0001f510" * 5000
    for _ in range(3):
        job = await runner.start(automatic_rule=RULE)
        await runner.end(job.id, "failed", message=long, error_message=long)
    (row,) = [row for row in await deliveries(database) if row["event"] == STOPPED]
    assert len(json.dumps(row["facts"])) < 20_000


async def test_the_facts_of_a_job_say_whether_and_by_which_rule_it_is_automatic(
    runner: Runner, database: Database
) -> None:
    await end(runner, "renewed")
    await end(runner, "renewed", rule=None)
    first, second = [row["facts"] for row in await deliveries(database)]
    assert (first["automatic"], first["automatic_rule"]) == (True, RULE)
    assert second["automatic"] is False
    assert "automatic_rule" not in second


async def test_automatic_jobs_are_found_and_others_without_them(runner: Runner) -> None:
    automatic = await runner.start(automatic_rule=RULE)
    asked = await runner.start()
    assert [job.id for job in await runner.jobs.list(JobFilter(automatic=True))] == [automatic.id]
    assert [job.id for job in await runner.jobs.list(JobFilter(automatic=False))] == [asked.id]
    assert len(await runner.jobs.list(JobFilter())) == 2

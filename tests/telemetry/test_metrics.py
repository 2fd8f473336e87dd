"""The names that dashboards query."""

from prometheus_client import generate_latest

from app.telemetry.metrics import Metrics


def test_metrics_have_the_names_that_dashboards_ask_for() -> None:
    metrics = Metrics()
    metrics.jobs_total.labels(cluster="c1", outcome="renewed").inc()
    metrics.job_seconds.labels(cluster="c1", outcome="renewed").observe(12)
    metrics.step_seconds.labels(step="mount_iso", result="done").observe(0.3)
    metrics.commands_total.labels(command="listing", result="ok").inc()
    metrics.command_seconds.labels(command="listing").observe(2)
    lines = generate_latest(metrics.registry).decode().splitlines()
    assert {
        'ngt_renew_jobs_total{cluster="c1",outcome="renewed"} 1.0',
        'ngt_renew_job_duration_seconds_count{cluster="c1",outcome="renewed"} 1.0',
        'ngt_renew_step_duration_seconds_count{result="done",step="mount_iso"} 1.0',
        'ngt_cvm_commands_total{command="listing",result="ok"} 1.0',
        'ngt_cvm_command_duration_seconds_count{command="listing"} 1.0',
    } <= set(lines)
    assert any(line.startswith("ngt_build_info{") for line in lines)

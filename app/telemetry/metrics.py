"""Metrics that one process counts for itself.

The API reads shared values when they are scraped: jobs and stranded VMs from the database, CVM states from the pool.
"""

import platform
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Histogram, Info, ProcessCollector, disable_created_metrics

# Prometheus ignores creation times, and each series would have one more.
disable_created_metrics()  # type: ignore[no-untyped-call]  # it takes nothing

_JOB_BUCKETS_S = (1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 14400, 86400, 604800)
_STEP_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
_REQUEST_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 30)
_COMMAND_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120)


class Metrics:
    """Counters and histograms on a registry of their own; in seconds, and without ids as labels."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        Info("ngt_build", "This version of the service.", registry=registry).info(
            {"version": version("ngt-renewal"), "python": platform.python_version()}
        )

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(name, text, labels, buckets=buckets, registry=registry)

        self.jobs_total = counter("ngt_renew_jobs_total", "Jobs that ended.", "cluster", "outcome")
        self.job_seconds = histogram(
            "ngt_renew_job_duration_seconds", "From a job's creation to its end.", _JOB_BUCKETS_S, "cluster", "outcome"
        )
        self.step_seconds = histogram(
            "ngt_renew_step_duration_seconds", "Steps of renewals.", _STEP_BUCKETS_S, "step", "result"
        )
        self.auth_failures_total = counter(
            "ngt_api_auth_failures_total", "Requests whose credential was rejected.", "method", "reason"
        )
        self.commands_total = counter("ngt_cvm_commands_total", "Commands for CVMs, by result.", "command", "result")
        self.command_seconds = histogram(
            "ngt_cvm_command_duration_seconds",
            "Commands for CVMs, from the request for a session to the last byte of the answer.",
            _COMMAND_BUCKETS_S,
            "command",
        )
        # Name and labels are those of OpenTelemetry's semantic conventions, as its exporter writes them.
        self.request_seconds = histogram(
            "http_server_request_duration_seconds",
            "Requests, from their head to the end of the answer.",
            _REQUEST_BUCKETS_S,
            *("http_route", "http_request_method", "http_response_status_code"),
        )
        self.deliveries_total = counter(
            "ngt_webhook_deliveries_total", "Attempts to deliver webhooks, by result.", "target", "result"
        )

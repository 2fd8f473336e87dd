"""Logs and metrics."""

from prometheus_client import CollectorRegistry, Counter, Histogram


class Metrics:
    """The service's metrics, on a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.jobs_total = Counter(
            "ngt_renew_jobs_total", "Ended jobs.", ["cluster", "outcome"], registry=self.registry
        )
        self.step_seconds = Histogram(
            "ngt_renew_step_duration_seconds", "Steps of renewals.", ["step", "result"], registry=self.registry
        )
        self.commands_total = Counter(
            "ngt_cvm_commands_total", "Commands sent to CVMs.", ["command", "result"], registry=self.registry
        )
        self.command_seconds = Histogram(
            "ngt_cvm_command_duration_seconds", "Duration of commands.", ["command"], registry=self.registry
        )

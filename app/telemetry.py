"""Logs and metrics: one JSON object (or one line of text) per event with its secrets masked, and what a process counts.

What stands elsewhere is read there when it is asked for: jobs and stranded VMs in the database, so that all replicas
tell the same, and the CVMs' state in the pool of connections.
"""

import json
import logging
import platform
import re
import sys
from collections.abc import Mapping
from importlib.metadata import version
from typing import Literal, TextIO

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram, Info, ProcessCollector, disable_created_metrics
from structlog.typing import EventDict, Processor, WrappedLogger

from app.ngt.masking import mask

# What these say below a warning is said better by the service itself, or concerns nobody.
_QUIET_LOGGERS = (
    "alembic",
    "asyncio",
    "asyncssh",
    "httpcore",
    "httpx",
    "procrastinate",
    "sqlalchemy",
    "uvicorn.access",
)
_SECRET_KEY = re.compile(r"passw|passphrase|secret|token|authorization|api[_-]?key", re.IGNORECASE)
_MASK = "***"

# Prometheus makes nothing of when a series began, and it would be one more for each.
disable_created_metrics()  # type: ignore[no-untyped-call]  # it takes nothing

_JOB_BUCKETS_S = (1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 14400, 86400, 604800)
_STEP_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
_REQUEST_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 30)
_COMMAND_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120)


def configure_logging(
    level: Literal["debug", "info", "warning", "error"],
    log_format: Literal["json", "text"],
    stream: TextIO | None = None,
) -> None:
    """Everything that is logged in this process, by us and by libraries, goes to `stream` (None: stderr) from now on.

    An event has `ts` (RFC 3339, UTC), `level`, `logger`, `msg`, its own fields, and what was bound with
    `structlog.contextvars` (request_id, job_id, vm_uuid, cluster, step).
    """
    to = stream or sys.stderr
    number = logging.getLevelNamesMapping()[level.upper()]
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        _without_colours,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        mask_event,
    ]
    structlog.configure(
        processors=[*common, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    handler = logging.StreamHandler(to)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=common,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(log_format, to)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    logging.captureWarnings(capture=True)
    for name in _QUIET_LOGGERS:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


def _without_colours(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The event without what uvicorn says once more with the colours of a terminal."""
    event.pop("color_message", None)
    return event


def mask_event(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The event as it may be shown: texts masked wherever they stand, and whole values that are called secret."""
    return {key: _masked(value, is_secret=_SECRET_KEY.search(key) is not None) for key, value in event.items()}


def _masked(value: object, *, is_secret: bool = False) -> object:
    match value:
        case None | bool() | int() | float():
            return value
        case Mapping():
            return {
                str(key): _masked(inner, is_secret=_SECRET_KEY.search(str(key)) is not None)
                for key, inner in value.items()
            }
        case list() | tuple() | set() | frozenset():
            return [_masked(inner, is_secret=is_secret) for inner in value]
        case _:
            return _MASK if is_secret else mask(str(value))


def _in_order(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """What every event has comes first, for those who read the lines as they are."""
    return {**{key: event[key] for key in ("ts", "level", "logger", "msg")}, **event}


def _renderers(log_format: Literal["json", "text"], stream: TextIO) -> list[Processor]:
    if log_format == "text":
        return [structlog.dev.ConsoleRenderer(colors=stream.isatty(), timestamp_key="ts")]
    return [
        structlog.processors.EventRenamer("msg"),
        _in_order,
        structlog.processors.JSONRenderer(serializer=json.dumps, ensure_ascii=False),
    ]


class Metrics:
    """What one process counts, on a registry of its own; seconds, and no id as a label."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        Info("ngt_build", "This version of the service.", registry=registry).info(
            {"version": version("ngt-renewal"), "python": platform.python_version()}
        )
        self.jobs_total = Counter("ngt_renew_jobs_total", "Jobs that ended.", ["cluster", "outcome"], registry=registry)
        self.job_seconds = Histogram(
            "ngt_renew_job_duration_seconds",
            "From a job's creation to its end.",
            ["cluster", "outcome"],
            buckets=_JOB_BUCKETS_S,
            registry=registry,
        )
        self.step_seconds = Histogram(
            "ngt_renew_step_duration_seconds",
            "Steps of renewals.",
            ["step", "result"],
            buckets=_STEP_BUCKETS_S,
            registry=registry,
        )
        self.auth_failures_total = Counter(
            "ngt_api_auth_failures_total",
            "Requests whose credential was not good.",
            ["method", "reason"],
            registry=registry,
        )
        self.commands_total = Counter(
            "ngt_cvm_commands_total",
            "Commands for CVMs, by what came of them.",
            ["command", "result"],
            registry=registry,
        )
        self.command_seconds = Histogram(
            "ngt_cvm_command_duration_seconds",
            "Commands for CVMs, from asking for a session to the last byte of the answer.",
            ["command"],
            buckets=_COMMAND_BUCKETS_S,
            registry=registry,
        )
        # The name and labels are those of OpenTelemetry's semantic conventions, as its exporter writes them.
        self.request_seconds = Histogram(
            "http_server_request_duration_seconds",
            "Requests, from their head to the end of the answer.",
            ["http_route", "http_request_method", "http_response_status_code"],
            buckets=_REQUEST_BUCKETS_S,
            registry=registry,
        )
        self.deliveries_total = Counter(
            "ngt_webhook_deliveries_total",
            "Attempts to deliver webhooks, by what came of them.",
            ["target", "result"],
            registry=registry,
        )

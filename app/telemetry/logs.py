"""Logs: one JSON object, or one line of text, for each event, with its secrets masked."""

import json
import logging
import re
import sys
from collections.abc import Mapping
from typing import Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from app.ngt.masking import mask

# Libraries whose events below a warning are noise, or repeat the service's own.
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


def configure_logging(
    level: Literal["debug", "info", "warning", "error"],
    log_format: Literal["json", "text"],
    stream: TextIO | None = None,
) -> None:
    """Sends all logs of this process, also those of libraries, to `stream` (None: stderr).

    An event has `ts` (RFC 3339, UTC), `level`, `logger`, `msg`, its own fields, and the variables that are bound with
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
    # uvicorn repeats its message with the colours of a terminal.
    event.pop("color_message", None)
    return event


def mask_event(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Masks secrets inside of texts, and whole values whose name is that of a secret."""
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
    """Puts the common fields first, for people who read the raw lines."""
    return {**{key: event[key] for key in ("ts", "level", "logger", "msg")}, **event}


def _renderers(log_format: Literal["json", "text"], stream: TextIO) -> list[Processor]:
    if log_format == "text":
        return [structlog.dev.ConsoleRenderer(colors=stream.isatty(), timestamp_key="ts")]
    return [
        structlog.processors.EventRenamer("msg"),
        _in_order,
        structlog.processors.JSONRenderer(serializer=json.dumps, ensure_ascii=False),
    ]

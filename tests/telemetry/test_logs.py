"""Logs: one object a line, without secrets."""

import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import pytest
import structlog

from app.telemetry.logs import configure_logging

A_KEY = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\n-----END PRIVATE KEY-----"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where a process logs to; afterwards logging is as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def events(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_object_with_what_was_bound(stream: io.StringIO) -> None:
    configure_logging("info", "json", stream)
    job_id = UUID(int=7)
    with structlog.contextvars.bound_contextvars(job_id=job_id, cluster="c1"):
        structlog.get_logger("app.work").info("the job waits", until=None, tries=3, vm_name="größe", steps=("a", "b"))
    (event,) = events(stream)
    assert list(event)[:4] == ["ts", "level", "logger", "msg"]
    assert event.pop("ts").endswith("Z")
    assert event == {
        "level": "info",
        "logger": "app.work",
        "msg": "the job waits",
        "job_id": str(job_id),
        "cluster": "c1",
        "until": None,
        "tries": 3,
        "vm_name": "größe",
        "steps": ["a", "b"],
    }


def test_events_of_libraries_and_warnings_are_told_in_the_same_way(stream: io.StringIO) -> None:
    configure_logging("info", "json", stream)
    logging.getLogger("uvicorn.error").info("Started %s", "server", extra={"port": 8080, "color_message": "\x1b[36m"})
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    started, warned = events(stream)
    assert (started["logger"], started["msg"], started["port"]) == ("uvicorn.error", "Started server", 8080)
    assert "color_message" not in started
    assert (warned["level"], "DeprecationWarning: old" in warned["msg"]) == ("warning", True)


def test_levels_are_kept_and_libraries_are_quiet(stream: io.StringIO) -> None:
    configure_logging("info", "json", stream)
    structlog.get_logger("app").debug("no")
    logging.getLogger("procrastinate.worker").info("no")
    logging.getLogger("asyncssh").info("no")
    logging.getLogger("asyncssh").warning("yes")
    assert [event["msg"] for event in events(stream)] == ["yes"]


def test_an_exception_is_told_on_one_line(stream: io.StringIO) -> None:
    configure_logging("info", "json", stream)
    try:
        Path("/none/ngtr_abcdefgh_secret").read_bytes()
    except OSError:
        structlog.get_logger("app").exception("a file is missing")
    (event,) = events(stream)
    assert event["exception"].startswith("Traceback")
    assert "abcdefgh" not in event["exception"]


@pytest.mark.parametrize(
    ("fields", "hidden"),
    [
        ({"text": "key ngtr_abcdefgh_0123456789"}, "abcdefgh"),
        ({"text": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}, "MfKQ9r8"),
        ({"text": A_KEY}, "MIIEvQIBADANBg"),
        ({"text": "Authorization: Basic dXNlcjpwYXNz"}, "dXNlcjpwYXNz"),
        ({"text": "postgresql://ngt:hunter2@db/ngt"}, "hunter2"),
        ({"error": OSError("password=hunter2")}, "hunter2"),
        ({"headers": {"Authorization": "Basic dXNlcjpwYXNz"}}, "dXNlcjpwYXNz"),
        ({"headers": [{"x-api-key": "dXNlcjpwYXNz"}]}, "dXNlcjpwYXNz"),
        ({"db_password": "hunter2"}, "hunter2"),
        ({"secrets": ["hunter2"]}, "hunter2"),
        ({"path": Path("/ngtr_abcdefgh_0123456789")}, "abcdefgh"),
    ],
)
@pytest.mark.parametrize("log_format", ["json", "text"])
def test_a_secret_is_masked(
    stream: io.StringIO, log_format: Literal["json", "text"], fields: dict[str, object], hidden: str
) -> None:
    configure_logging("info", log_format, stream)
    structlog.get_logger("app").info("asked", **fields)
    logging.getLogger("library").info("asked %s", fields.get("text"), extra=fields)
    assert stream.getvalue().count("\n") == 2
    assert hidden not in stream.getvalue()


def test_standard_output_is_left_to_what_was_asked_for(stream: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    assert not stream.getvalue()
    configure_logging("info", "json")
    structlog.get_logger("app").info("started")
    written = capsys.readouterr()
    assert not written.out
    assert json.loads(written.err)["msg"] == "started"


def test_text_is_a_line_for_people(stream: io.StringIO) -> None:
    configure_logging("info", "text", stream)
    structlog.get_logger("app").info("the job ended", outcome="renewed")
    (line,) = stream.getvalue().splitlines()
    assert "the job ended" in line
    assert "outcome=renewed" in line

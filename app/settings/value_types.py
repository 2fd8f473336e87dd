"""Types of fields that several tables share: durations, ports, lists, command lines, time zones, cron lines."""

from collections.abc import Sized
from datetime import datetime
from typing import Annotated, TypeVar
from zoneinfo import ZoneInfo

from croniter import croniter
from pydantic import AfterValidator, BeforeValidator, Field

from app.ngt.windows import fault_of_cron

LAST_PORT = 65535

_List = TypeVar("_List", bound=Sized)
# croniter searches fifty years back from any date: a day that is not found there does not exist.
_ANY_DATE = datetime(2026, 1, 1)  # noqa: DTZ001 - fields of a calendar have no time zone


def _validate_time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        raise ValueError('unknown time zone; use a name such as "UTC" or "Europe/Berlin"') from None
    return name


def validate_cron(line: str) -> str:
    """The five fields, separated by single blanks. Raises ValueError when they are invalid or match no date."""
    if (fault := fault_of_cron(line)) is not None:
        raise ValueError(fault)
    try:
        croniter(line, _ANY_DATE).get_prev(datetime)
    except ValueError:
        raise ValueError("no date matches this cron line") from None
    return " ".join(line.split())


def validate_one_line(command: str) -> str:
    """Raises ValueError when the command is empty, has several lines, or holds control characters."""
    if not command.strip() or not command.isprintable():
        raise ValueError("it must be one line of printable text")
    return command


def _split_commas(given: object) -> object:
    """An environment variable holds a list as `one,two`."""
    return tuple(given.split(",")) if isinstance(given, str) else given


def _validate_not_empty(given: _List) -> _List:
    # Pydantic's own `min_length` would refuse a list of one wrong item a second time, for being empty.
    if not given:
        raise ValueError("at least one is needed")
    return given


Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
WholeSeconds = Annotated[int, Field(gt=0)]
"""For limits that go into shell texts, where `timeout` takes whole seconds."""
Port = Annotated[int, Field(ge=1, le=LAST_PORT)]
TimeZoneName = Annotated[str, AfterValidator(_validate_time_zone)]
CronLine = Annotated[str, AfterValidator(validate_cron)]

COMMA_SEPARATED = BeforeValidator(_split_commas)
NOT_EMPTY = AfterValidator(_validate_not_empty)

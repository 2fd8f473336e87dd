"""Failures of commands: one sentence on stderr and exit status 1. Status 2 is a wrong command line."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

from app.ngt.errors import Fault, FaultCode
from app.settings import SettingsError
from app.store.embedded.server import EmbeddedPostgresError

# The actions of these faults address callers over HTTP; an operator runs the command.
_ACTIONS = {
    FaultCode.DATABASE_UNAVAILABLE: "Check that PostgreSQL runs, and DATABASE_URL.",
    FaultCode.CVM_UNREACHABLE: "Check the address, and that an SSH server is reached there.",
}


def fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)


@contextmanager
def reported_failures() -> Iterator[None]:
    """Reports the exceptions that an operator can correct."""
    try:
        yield
    except (SettingsError, EmbeddedPostgresError) as error:
        fail(str(error))
    except Fault as fault:
        fail(f"{fault.message.rstrip('.')}{_cause(fault)}. {_ACTIONS.get(fault.code, fault.rule.action)}")


def os_reason(error: OSError) -> str:
    """Such as `Permission denied (/path)`."""
    return f"{error.strerror or error}" + (f" ({error.filename})" if error.filename else "")


def _cause(fault: Fault) -> str:
    """The message of PostgreSQL's library, which callers over HTTP do not see."""
    said = str(getattr(fault.__cause__, "orig", "")).strip().splitlines()
    return f" ({said[0]})" if said and said[0] not in fault.message else ""

"""Processes that end with the test process that started them, also when that one is killed."""

import ctypes
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ENDS_WITH_US = ("setpriv", "--pdeathsig", "TERM")
"""Before a command: the kernel ends it, in its own way, with the thread that started it."""

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """For a process that was forked and not started by a command."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def ending_postgres(folder: Path) -> Iterator[None]:
    """Ends the PostgreSQL in `folder` and removes it, when the context or this process ends.

    A server makes itself independent of its starter, so a shell waits for the end of a pipe that only we hold.
    """
    here = shlex.quote(str(folder))
    end = f'cat; pid=$(head -n 1 {here}/cluster/postmaster.pid) && kill -QUIT "$pid"; rm -rf {here}'
    with subprocess.Popen(
        ["sh", "-c", end], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    ):  # fmt: skip
        yield

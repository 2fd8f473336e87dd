"""Starts the embedded PostgreSQL again when it was killed, such as by a kernel that is out of memory."""

import threading
from collections.abc import Callable

import structlog

from app.ngt.backoff import backoff
from app.store.embedded.owner import EmbeddedPostgresError

_log = structlog.get_logger(__name__)

_LOOK_EVERY_S = 1.0
_LONGEST_PAUSE_S = 30.0


class Guard:
    """A thread that calls `restart` whenever `is_gone` is true, until `stop()`.

    `restart` says whether it started the server: another process may have done so. It may raise EmbeddedPostgresError.
    """

    def __init__(self, is_gone: Callable[[], bool], restart: Callable[[], bool]) -> None:
        self._is_gone = is_gone
        self._restart = restart
        self._stopping = threading.Event()
        # A daemon: a command that ends without `stop` does not wait for it.
        self._thread = threading.Thread(target=self._watch, name="embedded PostgreSQL", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Returns when a restart that is at work has ended."""
        self._stopping.set()
        self._thread.join()

    def _watch(self) -> None:
        failures = 0
        while not self._stopping.wait(backoff(_LOOK_EVERY_S, _LONGEST_PAUSE_S, failures)):
            if not self._is_gone():
                failures = 0
                continue
            try:
                if self._restart():
                    _log.warning("the embedded PostgreSQL had ended and was started again")
                failures = 0
            except (EmbeddedPostgresError, OSError) as failed:
                failures += 1
                _log.error("the embedded PostgreSQL has ended and cannot be started", error=str(failed))

"""Waiting for a job to change, on any replica, without asking the database again and again.

One connection listens for all waiting calls of the process. A wait subscribes, then reads, then waits: whatever is
committed after its read wakes it. While the connection is away nothing can be heard, so everybody reads once more
when it is back.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Self
from uuid import UUID

import psycopg
import structlog

from app.store.database import plain_url
from app.store.job_rows import JOB_CHANNEL
from app.store.jobs import Jobs
from app.store.records import JobRecord

_log = structlog.get_logger(__name__)

# Ask a silent connection for a sign of life so often, since a line that was cut says nothing by itself.
_PROBE_S = 30.0
_PROBE_TIMEOUT_S = 5.0
_RECONNECT_FIRST_S = 0.1
_RECONNECT_LAST_S = 5.0


class Changes:
    """The announcements of one database, from `async with Changes(url)` on."""

    def __init__(self, url: str) -> None:
        self._url = plain_url(url)
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._listening = asyncio.Event()
        self._listener: asyncio.Task[None] | None = None
        self._closed = False

    async def open(self) -> None:
        """Start to listen; a database that is away is tried again and again."""
        self._listener = asyncio.create_task(self._listen(), name="changes")

    async def close(self) -> None:
        """Every wait ends now, with the job as it is."""
        self._closed = True
        self._wake_all()
        if self._listener is not None:
            self._listener.cancel()
            with suppress(asyncio.CancelledError):
                await self._listener

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def listening(self) -> None:
        """Returns once announcements are heard."""
        await self._listening.wait()

    async def wait_for_change(self, job_id: UUID, known_version: int, jobs: Jobs, timeout_s: float) -> JobRecord | None:
        """The job as soon as it has another version than `known_version` or is done, at the latest after `timeout_s`.

        None when there is no such job. Raises Fault `database-unavailable`.
        """
        return await self._wait(job_id, jobs, timeout_s, lambda job: job.done or job.version != known_version)

    async def wait_done(self, job_id: UUID, jobs: Jobs, timeout_s: float) -> JobRecord | None:
        """The job as soon as it is done, else as it is after `timeout_s`.

        None when there is no such job. Raises Fault `database-unavailable`.
        """
        return await self._wait(job_id, jobs, timeout_s, lambda job: job.done)

    async def _wait(
        self, job_id: UUID, jobs: Jobs, timeout_s: float, enough: Callable[[JobRecord], bool]
    ) -> JobRecord | None:
        until = asyncio.get_running_loop().time() + timeout_s
        async with self._subscribed(job_id) as changed:
            while True:
                changed.clear()
                job = await jobs.find(job_id)
                if job is None or enough(job) or self._closed:
                    return job
                try:
                    async with asyncio.timeout_at(until):
                        await changed.wait()
                except TimeoutError:
                    return await jobs.find(job_id)

    @asynccontextmanager
    async def _subscribed(self, job_id: UUID) -> AsyncIterator[asyncio.Event]:
        changed = asyncio.Event()
        waiting = self._waiting[str(job_id)]
        waiting.add(changed)
        try:
            yield changed
        finally:
            waiting.discard(changed)
            if not waiting:
                del self._waiting[str(job_id)]

    async def _listen(self) -> None:
        delay_s = _RECONNECT_FIRST_S
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    self._url, autocommit=True, connect_timeout=5, application_name="ngt-renewal-changes"
                ) as connection:
                    await connection.execute(f"LISTEN {JOB_CHANNEL}")
                    delay_s = _RECONNECT_FIRST_S
                    self._listening.set()
                    self._wake_all()
                    await self._hear(connection)
            except (psycopg.Error, OSError, TimeoutError) as gone:
                _log.warning("the database's announcements are not heard", error=str(gone).strip())
            self._listening.clear()
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, _RECONNECT_LAST_S)

    async def _hear(self, connection: psycopg.AsyncConnection) -> None:
        while True:
            async for announced in connection.notifies(timeout=_PROBE_S):
                for changed in self._waiting.get(announced.payload, ()):
                    changed.set()
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                await connection.execute("SELECT 1")

    def _wake_all(self) -> None:
        for waiting in self._waiting.values():
            for changed in waiting:
                changed.set()

"""Waiting for a job to change, on any replica, without asking the database again and again.

One connection listens for all watches of the process, and one reading answers all of them that were announced since the
one before it: a job that a hundred callers wait for is read once. While the listening connection is away nothing can be
heard, so every watched job is read once more when it is back.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self
from uuid import UUID

import psycopg
import structlog

from app.store.database import plain_url
from app.store.job_rows import JOB_CHANNEL
from app.store.job_search import JobFilter
from app.store.jobs import Jobs
from app.store.records import JobRecord

_log = structlog.get_logger(__name__)

# Ask a silent connection for a sign of life so often, since a line that was cut says nothing by itself.
_PROBE_S = 30.0
_PROBE_TIMEOUT_S = 5.0
_RECONNECT_FIRST_S = 0.1
_RECONNECT_LAST_S = 5.0
_READ_AGAIN_S = 0.5
_MOST_AT_ONCE = 200


class Watch:
    """One call that follows one job; made by `Changes.watch`."""

    def __init__(self) -> None:
        self.ended = False
        """Nothing is waited for any more: the service stops."""
        self._heard: JobRecord | None = None
        self._news = asyncio.Event()

    async def until(self, job: JobRecord, enough: Callable[[JobRecord], bool], timeout_s: float) -> JobRecord:
        """The job as soon as `enough` holds for it, else as it was last heard of when `timeout_s` is over.

        `job` was read after the watch began, so that no change is missed. An answer may be older than its database
        while that cannot be reached; nothing is raised then.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not self.ended and not enough(job):
                    await self._news.wait()
                    self._news.clear()
                    # The caller's own reading may be newer than one that was under way when the watch began.
                    if self._heard is not None and self._heard.version > job.version:
                        job = self._heard
        return job

    def hear(self, job: JobRecord) -> None:
        self._heard = job
        self._news.set()

    def end(self) -> None:
        self.ended = True
        self._news.set()


class Changes:
    """The announcements of one database, from `async with Changes(url, jobs)` on."""

    def __init__(self, url: str, jobs: Jobs) -> None:
        self._url = plain_url(url)
        self._jobs = jobs
        self._watches: defaultdict[str, set[Watch]] = defaultdict(set)
        self._due: set[str] = set()
        self._any_due = asyncio.Event()
        self._listening = asyncio.Event()
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        self._ended = False

    async def open(self) -> None:
        """Start to listen; a database that is away is tried again and again."""
        self._tasks = (
            asyncio.create_task(self._listen(), name="changes"),
            asyncio.create_task(self._read_due(), name="changed jobs"),
        )

    async def close(self) -> None:
        """Every watch ends now."""
        self.end_watches()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

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

    @contextmanager
    def watch(self, job_id: UUID) -> Iterator[Watch]:
        """From here on no change of the job is missed: read it now, then wait with `Watch.until`."""
        watch = Watch()
        if self._ended:
            watch.end()
        job = str(job_id)
        self._watches[job].add(watch)
        try:
            yield watch
        finally:
            self._watches[job].discard(watch)
            if not self._watches[job]:
                del self._watches[job]

    def watched(self) -> int:
        """How many watches there are."""
        return sum(map(len, self._watches.values()))

    def end_watches(self) -> None:
        """Nobody waits from now on: each call goes on with the job as it was last heard of."""
        self._ended = True
        for watches in self._watches.values():
            for watch in watches:
                watch.end()

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
                    self._read_soon(self._watches.keys())
                    await self._hear(connection)
            except (psycopg.Error, OSError, TimeoutError) as gone:
                _log.warning("the database's announcements are not heard", error=str(gone).strip())
            self._listening.clear()
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, _RECONNECT_LAST_S)

    async def _hear(self, connection: psycopg.AsyncConnection) -> None:
        while True:
            async for announced in connection.notifies(timeout=_PROBE_S):
                self._read_soon([announced.payload])
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                await connection.execute("SELECT 1")

    def _read_soon(self, jobs: Collection[str]) -> None:
        self._due.update(job for job in jobs if job in self._watches)
        if self._due:
            self._any_due.set()

    async def _read_due(self) -> None:
        while True:
            await self._any_due.wait()
            self._any_due.clear()
            while self._due:
                await self._read([self._due.pop() for _ in range(min(len(self._due), _MOST_AT_ONCE))])

    async def _read(self, jobs: Collection[str]) -> None:
        wanted = JobFilter(job_ids=tuple(map(UUID, jobs)))
        try:
            found = await self._jobs.list(wanted, limit=len(jobs))
        except Exception as failed:  # noqa: BLE001 - whatever it was, those who wait are owed another try
            _log.warning("changed jobs could not be read", error=str(failed))
            await asyncio.sleep(_READ_AGAIN_S)
            self._read_soon(jobs)
            return
        for job in found:
            for watch in self._watches.get(str(job.id), ()):
                watch.hear(job)

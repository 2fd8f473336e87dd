"""Waiting for a job or a scan to change, on any replica, without asking the database again and again.

One connection listens for all watches of the process, and one reading answers all of them that were announced since the
one before it: a job that a hundred callers wait for is read once. While the listening connection is away nothing can be
heard, so every watched row is read once more when it is back.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar
from uuid import UUID

import psycopg
import structlog
from psycopg.sql import SQL, Identifier

from app.ngt.backoff import backoff
from app.store.jobs.commands import Jobs
from app.store.jobs.queries import JobFilter
from app.store.jobs.updates import JOB_CHANNEL
from app.store.postgres.database import plain_url
from app.store.records.jobs import JobRecord

_log = structlog.get_logger(__name__)

# Ask a silent connection for a sign of life so often, since a line that was cut says nothing by itself.
_PROBE_S = 30.0
_PROBE_TIMEOUT_S = 5.0
_RECONNECT_FIRST_S = 0.1
_RECONNECT_LAST_S = 5.0
_READ_AGAIN_S = 0.5
_MOST_AT_ONCE = 200


class Versioned(Protocol):
    """What can be waited for: a record whose version grows with every change."""

    @property
    def id(self) -> UUID: ...

    @property
    def version(self) -> int: ...


_Record = TypeVar("_Record", bound=Versioned)


class Subscription(Generic[_Record]):
    """One call that follows one job or scan; made by `Subscriptions.watch`."""

    def __init__(self) -> None:
        self.ended = False
        """Nothing is waited for any more: the service stops."""
        self._heard: _Record | None = None
        self._news = asyncio.Event()

    async def until(self, record: _Record, enough: Callable[[_Record], bool], timeout_s: float) -> _Record:
        """The record as soon as `enough` holds for it, else as it was last heard of when `timeout_s` is over.

        `record` was read after the watch began, so that no change is missed. An answer may be older than its database
        while that cannot be reached; nothing is raised then.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not self.ended and not enough(record):
                    await self._news.wait()
                    self._news.clear()
                    # The caller's own reading may be newer than one that was under way when the watch began.
                    if self._heard is not None and self._heard.version > record.version:
                        record = self._heard
        return record

    def hear(self, record: _Record) -> None:
        self._heard = record
        self._news.set()

    def end(self) -> None:
        self.ended = True
        self._news.set()


class Subscriptions(Generic[_Record]):
    """The watches of one kind of row. `read` finds the rows of some ids, as many as there are."""

    def __init__(self, read: Callable[[Collection[UUID]], Awaitable[Sequence[_Record]]]) -> None:
        self._read = read
        self._watches: defaultdict[str, set[Subscription[_Record]]] = defaultdict(set)
        self._due: set[str] = set()
        self._any_due = asyncio.Event()
        self._ended = False

    @contextmanager
    def watch(self, record_id: UUID) -> Iterator[Subscription[_Record]]:
        """From here on no change of the row is missed: read it now, then wait with `Subscription.until`."""
        watch: Subscription[_Record] = Subscription()
        if self._ended:
            watch.end()
        key = str(record_id)
        self._watches[key].add(watch)
        try:
            yield watch
        finally:
            self._watches[key].discard(watch)
            if not self._watches[key]:
                del self._watches[key]

    def count(self) -> int:
        return sum(map(len, self._watches.values()))

    def end(self) -> None:
        """Nobody waits from now on: each call goes on with the record as it was last heard of."""
        self._ended = True
        for watches in self._watches.values():
            for watch in watches:
                watch.end()

    def read_all_soon(self) -> None:
        self.read_soon(tuple(self._watches))

    def read_soon(self, keys: Collection[str]) -> None:
        self._due.update(key for key in keys if key in self._watches)
        if self._due:
            self._any_due.set()

    async def read_due(self) -> None:
        """Until cancelled."""
        while True:
            await self._any_due.wait()
            self._any_due.clear()
            while self._due:
                await self._read_some([self._due.pop() for _ in range(min(len(self._due), _MOST_AT_ONCE))])

    async def _read_some(self, keys: Collection[str]) -> None:
        try:
            found = await self._read(tuple(map(UUID, keys)))
        except Exception as failed:  # noqa: BLE001 - whatever it was, those who wait are owed another try
            _log.warning("what has changed could not be read", error=str(failed))
            await asyncio.sleep(_READ_AGAIN_S)
            self.read_soon(keys)
            return
        for record in found:
            for watch in self._watches.get(str(record.id), ()):
                watch.hear(record)


class ChangeFeed:
    """The announcements of one database, from `async with Changes(url, jobs)` on."""

    def __init__(self, url: str, jobs: Jobs) -> None:
        async def read_jobs(job_ids: Collection[UUID]) -> Sequence[JobRecord]:
            return await jobs.list(JobFilter(job_ids=tuple(job_ids)), limit=len(job_ids))

        self._url = plain_url(url)
        self._jobs = Subscriptions(read_jobs)
        self._kinds: dict[str, Subscriptions[Any]] = {JOB_CHANNEL: self._jobs}
        self._listening = asyncio.Event()
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    def of(
        self, channel: str, read: Callable[[Collection[UUID]], Awaitable[Sequence[_Record]]]
    ) -> Subscriptions[_Record]:
        """The watches of what is announced on another channel. To be asked for before `open`."""
        watches = Subscriptions(read)
        self._kinds[channel] = watches
        return watches

    async def open(self) -> None:
        """Start to listen; a database that is away is tried again and again."""
        readers = [
            asyncio.create_task(watches.read_due(), name=f"changes of {channel}")
            for channel, watches in self._kinds.items()
        ]
        self._tasks = (asyncio.create_task(self._listen(), name="changes"), *readers)

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

    def watch(self, job_id: UUID) -> AbstractContextManager[Subscription[JobRecord]]:
        """From here on no change of the job is missed: read it now, then wait with `Subscription.until`."""
        return self._jobs.watch(job_id)

    def watched(self) -> int:
        """How many watches there are."""
        return sum(watches.count() for watches in self._kinds.values())

    def end_watches(self) -> None:
        """Nobody waits from now on: each call goes on with what it last heard of."""
        for watches in self._kinds.values():
            watches.end()

    async def _listen(self) -> None:
        tries = 0
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    self._url, autocommit=True, connect_timeout=5, application_name="ngt-renewal-changes"
                ) as connection:
                    for channel in self._kinds:
                        await connection.execute(SQL("LISTEN {}").format(Identifier(channel)))
                    tries = 0
                    self._listening.set()
                    for watches in self._kinds.values():
                        watches.read_all_soon()
                    await self._hear(connection)
            except (psycopg.Error, OSError, TimeoutError) as gone:
                _log.warning("the database's announcements are not heard", error=str(gone).strip())
            self._listening.clear()
            await asyncio.sleep(backoff(_RECONNECT_FIRST_S, _RECONNECT_LAST_S, tries))
            tries += 1

    async def _hear(self, connection: psycopg.AsyncConnection) -> None:
        while True:
            async for announced in connection.notifies(timeout=_PROBE_S):
                self._kinds[announced.channel].read_soon([announced.payload])
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                await connection.execute("SELECT 1")

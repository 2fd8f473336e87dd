"""Waiting for changes of a job or a scan, on any replica, without polling the database.

One connection listens for all subscriptions of the process. One query reads all rows that were announced since the
query before it, so a job that a hundred callers wait for is read once. After a lost connection every watched row is
read again, because its announcements may have been missed.
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
from app.store.jobs.queries import JobFilter, JobQueries
from app.store.jobs.updates import JOB_CHANNEL
from app.store.postgres.database import plain_url
from app.store.records.jobs import JobRecord

_log = structlog.get_logger(__name__)

# A silent connection is probed this often, because a cut line reports nothing.
_PROBE_S = 30.0
_PROBE_TIMEOUT_S = 5.0
_RECONNECT_FIRST_S = 0.1
_RECONNECT_LAST_S = 5.0
_READ_AGAIN_S = 0.5
_MOST_AT_ONCE = 200


class Versioned(Protocol):
    """A record whose version grows with every change."""

    @property
    def id(self) -> UUID: ...

    @property
    def version(self) -> int: ...


_Record = TypeVar("_Record", bound=Versioned)


class Subscription(Generic[_Record]):
    """One call that follows one job or scan."""

    def __init__(self) -> None:
        self.ended = False
        """The service stops."""
        self._latest: _Record | None = None
        self._delivered = asyncio.Event()

    async def until(self, record: _Record, enough: Callable[[_Record], bool], timeout_s: float) -> _Record:
        """The record as soon as `enough` holds for it, else the last one that was delivered within `timeout_s`.

        `record` was read after the subscription began, so that no change is missed. While the database does not answer
        the record may be stale; nothing is raised then.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not self.ended and not enough(record):
                    await self._delivered.wait()
                    self._delivered.clear()
                    # The caller's own record may be newer than one that was being read when the subscription began.
                    if self._latest is not None and self._latest.version > record.version:
                        record = self._latest
        return record

    def deliver(self, record: _Record) -> None:
        self._latest = record
        self._delivered.set()

    def end(self) -> None:
        self.ended = True
        self._delivered.set()


class Subscriptions(Generic[_Record]):
    """The subscriptions to one kind of row. `read` returns the rows of these ids that exist."""

    def __init__(self, read: Callable[[Collection[UUID]], Awaitable[Sequence[_Record]]]) -> None:
        self._read = read
        self._subscriptions: defaultdict[str, set[Subscription[_Record]]] = defaultdict(set)
        self._due: set[str] = set()
        self._any_due = asyncio.Event()
        self._ended = False

    @contextmanager
    def watch(self, record_id: UUID) -> Iterator[Subscription[_Record]]:
        """From here on no change of the row is missed: read it now, then wait with `Subscription.until`."""
        subscription: Subscription[_Record] = Subscription()
        if self._ended:
            subscription.end()
        key = str(record_id)
        self._subscriptions[key].add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions[key].discard(subscription)
            if not self._subscriptions[key]:
                del self._subscriptions[key]

    def count(self) -> int:
        return sum(map(len, self._subscriptions.values()))

    def end(self) -> None:
        """Every wait ends now, with the record that was delivered last."""
        self._ended = True
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.end()

    def read_all_soon(self) -> None:
        self.read_soon(tuple(self._subscriptions))

    def read_soon(self, keys: Collection[str]) -> None:
        self._due.update(key for key in keys if key in self._subscriptions)
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
        except Exception as failed:  # noqa: BLE001 - after any failure the rows are read again
            _log.warning("changed rows could not be read", error=str(failed))
            await asyncio.sleep(_READ_AGAIN_S)
            self.read_soon(keys)
            return
        for record in found:
            for subscription in self._subscriptions.get(str(record.id), ()):
                subscription.deliver(record)


class ChangeFeed:
    """The changes that one database announces, from `async with ChangeFeed(url, jobs)` on."""

    def __init__(self, url: str, jobs: JobQueries) -> None:
        async def read_jobs(job_ids: Collection[UUID]) -> Sequence[JobRecord]:
            return await jobs.list(JobFilter(job_ids=tuple(job_ids)), limit=len(job_ids))

        self._url = plain_url(url)
        self._jobs = Subscriptions(read_jobs)
        self._channels: dict[str, Subscriptions[Any]] = {JOB_CHANNEL: self._jobs}
        self._listening = asyncio.Event()
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    def add_channel(
        self, channel: str, read: Callable[[Collection[UUID]], Awaitable[Sequence[_Record]]]
    ) -> Subscriptions[_Record]:
        """The subscriptions to the rows of another channel. To be called before `open`."""
        subscriptions = Subscriptions(read)
        self._channels[channel] = subscriptions
        return subscriptions

    async def open(self) -> None:
        """Start to listen; a failed connection is retried."""
        readers = [
            asyncio.create_task(subscriptions.read_due(), name=f"changes of {channel}")
            for channel, subscriptions in self._channels.items()
        ]
        self._tasks = (asyncio.create_task(self._listen(), name="changes"), *readers)

    async def close(self) -> None:
        """Every subscription ends now."""
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
        """Returns once the connection listens."""
        await self._listening.wait()

    def watch(self, job_id: UUID) -> AbstractContextManager[Subscription[JobRecord]]:
        """From here on no change of the job is missed: read it now, then wait with `Subscription.until`."""
        return self._jobs.watch(job_id)

    def watched(self) -> int:
        """The number of subscriptions."""
        return sum(subscriptions.count() for subscriptions in self._channels.values())

    def end_watches(self) -> None:
        """Every wait ends now, with the record that was delivered last."""
        for subscriptions in self._channels.values():
            subscriptions.end()

    async def _listen(self) -> None:
        tries = 0
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    self._url, autocommit=True, connect_timeout=5, application_name="ngt-renewal-changes"
                ) as connection:
                    for channel in self._channels:
                        await connection.execute(SQL("LISTEN {}").format(Identifier(channel)))
                    tries = 0
                    self._listening.set()
                    for subscriptions in self._channels.values():
                        subscriptions.read_all_soon()
                    await self._receive(connection)
            except (psycopg.Error, OSError, TimeoutError) as gone:
                _log.warning("the connection that listens for changes was lost", error=str(gone).strip())
            self._listening.clear()
            await asyncio.sleep(backoff(_RECONNECT_FIRST_S, _RECONNECT_LAST_S, tries))
            tries += 1

    async def _receive(self, connection: psycopg.AsyncConnection) -> None:
        while True:
            async for notification in connection.notifies(timeout=_PROBE_S):
                self._channels[notification.channel].read_soon([notification.payload])
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                await connection.execute("SELECT 1")

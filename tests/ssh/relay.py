"""A line between a client and a server on loopback that can be counted, cut and silenced."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Relay:
    """Passes bytes on in both directions. `connections` counts all connections that were ever made."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self.connections = 0
        self._target_port = target_port
        self._silent = False
        self._refuses = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def silence(self) -> None:
        """From now on nothing arrives any more, and neither side is told."""
        self._silent = True

    def refuse(self) -> None:
        """From now on who connects is hung up on at once."""
        self._refuses = True

    def cut(self) -> None:
        """Breaks all connections."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._refuses:
            writer.transport.abort()
            return
        there, to_server = await asyncio.open_connection("127.0.0.1", self._target_port)
        self._writers |= {writer, to_server}
        for source, target in ((reader, to_server), (there, writer)):
            task = asyncio.create_task(self._pass_on(source, target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        self.cut()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _pass_on(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while block := await source.read(65536):
                if not self._silent:
                    target.write(block)
                    await target.drain()
        # What was passed on so far still arrives, as it does on a real line.
        target.close()
        self._writers.discard(target)


@asynccontextmanager
async def running_relay(target_port: int) -> AsyncIterator[Relay]:
    relay = Relay(target_port)
    listening = await asyncio.start_server(relay.accept, "127.0.0.1", 0)
    relay.port = int(listening.sockets[0].getsockname()[1])
    try:
        yield relay
    finally:
        listening.close()
        await relay.stop()

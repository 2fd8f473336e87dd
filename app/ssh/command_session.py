"""One command on one channel: sent once, its output limited while it arrives, its channel closed and never signalled.

asyncssh's own `run` leaves the channel open when it is cancelled while opening, and cannot limit the output.
"""

import asyncio
import contextlib

import asyncssh

from app.ssh.policy import CommandState, CommandVerdict, classify


class _AbandonedError(Exception):
    """The channel opened after its command was abandoned, so nothing is sent on it."""


class CommandSession(asyncssh.SSHClientSession[bytes]):
    """The output of one command on a channel.

    asyncssh calls `connection_made` when the server has opened the channel and sends the request to execute directly
    after it, in the same turn of the loop. This call separates "certainly not executed" from "perhaps".
    """

    def __init__(self, max_output_bytes: int, drain_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._max_output_bytes = max_output_bytes
        self._drain_s = drain_s
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._abandoned = False
        self._stdout = bytearray()
        self._stderr = bytearray()
        self._sent_at_s = 0.0
        self._ended_at_s = 0.0
        self._state = CommandState()
        self._closed = False
        self._drain: asyncio.TimerHandle | None = None
        self._begun: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self.exit_status: int | None = None
        self.refusal = ""

    @property
    def stdout(self) -> str:
        return self._stdout.decode("utf-8", "replace")

    @property
    def stderr(self) -> str:
        return self._stderr.decode("utf-8", "replace")

    @property
    def sent(self) -> bool:
        return self._state.sent

    @property
    def duration_s(self) -> float:
        return self._ended_at_s - self._sent_at_s if self.sent else 0.0

    async def open(self, ssh: asyncssh.SSHClientConnection, text: str) -> None:
        """Opens the channel, sends the text and returns when the server has accepted or refused it.

        Never raises for the behaviour of the server; `run` reports it. It must run in a task of its own that is not
        cancelled: a channel that the server opens after a cancellation would stay open.
        """
        if self._abandoned:
            return
        try:
            await ssh.create_session(
                lambda: self,
                text,
                subsystem=None,
                env=None,
                send_env=None,
                request_pty=False,
                term_type=None,
                x11_forwarding=False,
                encoding=None,
            )
        except (asyncssh.Error, OSError, _AbandonedError) as cause:
            # A closed channel and a refused request raise the same error; only the second leaves the channel open.
            self._state.exec_refused = self.sent and not self._closed and isinstance(cause, asyncssh.ChannelOpenError)
            self.refusal = str(cause)
            self._end()

    async def run(self, open_by_s: float, timeout_s: float) -> CommandVerdict:
        """Waits for the channel until `open_by_s` of the loop's clock, then `timeout_s` for the command.

        In any case, also after a cancellation, the channel is then closed, or never used.
        """
        try:
            await asyncio.wait({self._begun}, timeout=max(0.0, open_by_s - self._loop.time()))
            if self.sent:
                await asyncio.wait({self._ended}, timeout=timeout_s)
                self._state.timed_out = not self._ended.done()
            self._end()
            return classify(self._state)
        finally:
            self.abandon()

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        if self._abandoned:
            chan.close()
            raise _AbandonedError
        self._channel = chan
        self._state.sent = True
        self._sent_at_s = self._loop.time()
        if not self._begun.done():
            self._begun.set_result(None)

    def session_started(self) -> None:
        if self._channel is not None:
            self._channel.write_eof()

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        if self._ended.done():
            return
        if len(self._stdout) + len(self._stderr) + len(data) > self._max_output_bytes:
            self._state.too_large = True
            self.abandon()
            return
        (self._stdout if datatype is None else self._stderr).extend(data)
        if self._state.exited:
            self._arm_drain()

    def eof_received(self) -> bool:
        self._state.output_complete = True
        # True keeps the channel half open: the exit status may come after the end of the output.
        return True

    def exit_status_received(self, status: int) -> None:
        if not self._ended.done():
            self.exit_status = status
            self._state.exited = True
            self._arm_drain()

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:  # noqa: FBT001 - asyncssh fixes the signature.
        if not self._ended.done():
            self._state.exited = True
            self._arm_drain()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        if exc is None and not self._ended.done():
            self._state.output_complete = True
        self._end()

    def _arm_drain(self) -> None:
        if self._drain is not None:
            self._drain.cancel()
        self._drain = self._loop.call_later(self._drain_s, self._drained)

    def _drained(self) -> None:
        self._state.output_complete = True
        self.abandon()

    def abandon(self) -> None:
        """Stops waiting: the channel is closed, or never used if it opens later."""
        self._abandoned = True
        self._end()
        if self._channel is not None and not self._closed:
            with contextlib.suppress(OSError):
                self._channel.close()

    def _end(self) -> None:
        if self._drain is not None:
            self._drain.cancel()
        for future in (self._begun, self._ended):
            if not future.done():
                future.set_result(None)
        if not self._ended_at_s:
            self._ended_at_s = self._loop.time()

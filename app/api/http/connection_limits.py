"""The ends and limits of every connection. uvicorn itself has none but the one of an idle connection.

Without them anybody who reaches the port could fill the memory, or hold connections open for nothing.
"""

import asyncio
import sys
from collections import deque
from typing import Any, cast
from uuid import uuid4

import httptools
from starlette.requests import Request
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.utils import get_remote_addr
from uvicorn.server import ServerState

from app.api.http.open_connections import OpenConnections
from app.api.http.problems import answer_fault
from app.ngt.errors import Fault, FaultCode


class BoundedConnection(HttpToolsProtocol):
    """uvicorn's own. At any time it waits for a head, a body, its own answer or the client's reading, each bounded."""

    most_head_bytes = 64 * 1024
    """Of the request line and all headers; the documented ones need a tenth of it."""

    most_pipelined = 20
    """Requests that were sent before the first of them was answered."""

    most_unread_bytes = 16 * 1024 * 1024
    """Of what comes after an answer that did not need it; one who sends on is hung up on."""

    head_timeout_s = 30.0
    """For the whole head, from the opening of the connection or from the answer before."""

    body_timeout_s = 60.0
    """For the whole body."""

    write_timeout_s = 60.0
    """For the client to take what was written; of an answer that is sent in pieces for each piece."""

    def __init__(
        self,
        opened: OpenConnections,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._opened = opened
        self._head_bytes = 0
        self._unread_bytes = 0
        self._unanswered: deque[RequestResponseCycle] = deque()
        self._in_body = False
        self._closing = False
        self._receive_limit: asyncio.TimerHandle | None = None
        self._write_limit: asyncio.TimerHandle | None = None
        self._received = b""
        self._parse_again = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        self._socket = transport
        address, _ = get_remote_addr(transport) or ("", 0)
        if not self._opened.admit(self, address):
            self.transport = transport
            fault = Fault(FaultCode.TOO_MANY_CONNECTIONS, "So many connections are open that this one is refused.")
            transport.write(_refusal(fault))
            transport.close()
            return
        super().connection_made(cast("asyncio.Transport", _ClosedPolitely(self, transport)))
        self._limit_receiving(self.head_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._opened.release(self)
        _cancelled(self._receive_limit)
        _cancelled(self._write_limit)
        self._disconnect_pending()
        super().connection_lost(exc)

    def abort(self) -> None:
        """End the connection at once, with whatever was not sent."""
        self._closing = True
        self._disconnect_pending()
        self._socket.abort()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            self._pass_over(data)
            return
        while data and not self._closing:
            self._received, self._parse_again = data, b""
            # Whatever belongs to a body sets this back, so that only the rest is counted: heads, chunk marks, trailers.
            self._head_bytes += len(data)
            super().data_received(data)
            data = self._parse_again
        if self._head_bytes > self.most_head_bytes and not self._closing:
            self._refuse(
                FaultCode.HEAD_TOO_LARGE, f"The head of the request is larger than {self.most_head_bytes} bytes."
            )

    def on_message_begin(self) -> None:
        super().on_message_begin()
        # Any that comes before has its answer under way, or was answered: then the limit runs since that answer.
        if self._receive_limit is None:
            self._limit_receiving(self.head_timeout_s)

    def on_headers_complete(self) -> None:
        self._head_bytes = 0
        if self._wants_upgrade():
            return
        if len(self._unanswered) >= self.most_pipelined:
            self.abort()
            raise _TooManyPipelinedError
        super().on_headers_complete()
        self._unanswered.append(self.cycle)
        self._opened.note_work(self)
        self._in_body = True
        self._limit_receiving(self.body_timeout_s)

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        super().on_body(body)
        if self.cycle.response_complete:
            self._pass_over(body)

    def on_message_complete(self) -> None:
        self._head_bytes = 0
        if self._wants_upgrade():
            return
        super().on_message_complete()
        self._in_body = False
        self._await_next()

    def on_response_complete(self) -> None:
        self._unanswered.popleft()
        super().on_response_complete()
        if not self._in_body:
            self._await_next()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._limit_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self._closing:
            _cancelled(self._write_limit)

    def send_400_response(self, msg: str) -> None:
        if not self._closing:
            self._refuse(FaultCode.MALFORMED_REQUEST, msg)

    def is_closing(self) -> bool:
        """Nothing more is written."""
        return self._closing or self._socket.is_closing()

    def close(self) -> None:
        """End the connection as soon as all that was written is taken."""
        if self.is_closing():
            return
        if self._in_body:
            self._close_after_reading()
            return
        self._closing = True
        self._limit_writing()
        self._socket.close()

    def shutdown(self) -> None:
        super().shutdown()
        if self._closing:
            self._socket.close()

    def _should_upgrade(self) -> bool:
        return False

    def _unsupported_upgrade_warning(self) -> None:
        """Answer in HTTP/1.1 what asks for another protocol, as RFC 9110, section 7.8 allows.

        Java's client and `curl --http2` ask for HTTP/2 so. The parser takes what follows the head for that other
        protocol, and a POST would be carried out without its body; so it is parsed once more, without the wish.
        """
        wish = sys.exception()
        if not isinstance(wish, httptools.HttpParserUpgrade) or not self._wants_upgrade():
            return
        request_line = b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        headers = [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        head = b"\r\n".join([request_line, *headers, b"\r\n"])
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._parse_again = head + self._received[wish.args[0] :]

    def _wants_upgrade(self) -> bool:
        return self.parser.should_upgrade() and any(name == b"upgrade" for name, _ in self.headers)

    def _await_next(self) -> None:
        """Nothing of a request is on its way: the next head is waited for, once all are answered."""
        if self._closing:
            return
        self._unread_bytes = 0
        if self._unanswered:
            _cancelled(self._receive_limit)
            self._receive_limit = None
        else:
            self._opened.note_idle(self)
            self._limit_receiving(self.head_timeout_s)

    def _limit_receiving(self, seconds: float) -> None:
        _cancelled(self._receive_limit)
        self._receive_limit = self.loop.call_later(seconds, self._end_receiving)

    def _end_receiving(self) -> None:
        if self._unanswered or self._closing:
            self.abort()
        else:
            self._in_body = False
            self.close()

    def _limit_writing(self) -> None:
        _cancelled(self._write_limit)
        self._write_limit = self.loop.call_later(self.write_timeout_s, self.abort)

    def _disconnect_pending(self) -> None:
        """Nobody hears the answers any more. uvicorn says so to the last request alone, and others may come before."""
        for cycle in self._unanswered:
            cycle.disconnected = True
            cycle.message_event.set()

    def _refuse(self, code: FaultCode, sentence: str) -> None:
        if self._unanswered:
            # Nothing may be written into the answer to the request before.
            self.abort()
            return
        self._socket.write(_refusal(Fault(code, sentence)))
        self._close_after_reading()

    def _close_after_reading(self) -> None:
        """End the writing alone: what the client still sends is read for a while, and passed over.

        Bytes that come after the end of a connection are answered by a reset, which takes away an answer that the
        client has not read yet.
        """
        self._closing = True
        self._limit_writing()
        self._socket.write_eof()
        self.flow.resume_reading()
        self._limit_receiving(self.head_timeout_s)

    def _pass_over(self, data: bytes) -> None:
        self._unread_bytes += len(data)
        if self._unread_bytes > self.most_unread_bytes:
            self.abort()


class _TooManyPipelinedError(Exception):
    """Stops the parser."""


class _ClosedPolitely:
    """The transport as uvicorn sees it: the connection decides how it is closed."""

    def __init__(self, connection: BoundedConnection, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.close = connection.close
        self.is_closing = connection.is_closing

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever the transport has
        return getattr(self._transport, name)


def _cancelled(limit: asyncio.TimerHandle | None) -> None:
    if limit is not None:
        limit.cancel()


def _refusal(fault: Fault) -> bytes:
    request = Request({"type": "http", "headers": [], "state": {"path": "/", "request_id": str(uuid4())}})
    answer = answer_fault(request, fault)
    headers = [*answer.raw_headers, (b"connection", b"close")]
    head = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    return STATUS_LINE[answer.status_code] + head + b"\r\n" + bytes(answer.body)

"""A connection before there is a request: how much it may send and how long it may take. uvicorn itself has no limit.

Without one anybody who reaches the port could fill the memory with headers, or hold connections open for nothing.
"""

import asyncio
import sys
from collections import deque
from typing import Any
from uuid import uuid4

import httptools
from starlette.requests import Request
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from app.api.http.problems import answer_fault
from app.ngt.errors import Fault, FaultCode


class BoundedConnection(HttpToolsProtocol):
    """uvicorn's own, with limits for what comes before, between and after the bytes of a body."""

    most_head_bytes = 64 * 1024
    """Of the request line and all headers; the documented ones need a tenth of it."""

    head_timeout_s = 30.0
    """For the whole head, from the opening of the connection or from its first byte."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._head_bytes = 0
        self._unanswered: deque[RequestResponseCycle] = deque()
        self._head_limit: asyncio.TimerHandle | None = None
        self._received = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        self._disconnect_pending()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._received = data
        # Whatever belongs to a body sets this back, so that only the rest is counted: heads, chunk marks, trailers.
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > self.most_head_bytes and not self.transport.is_closing():
            self._refuse(
                FaultCode.HEAD_TOO_LARGE, f"The head of the request is larger than {self.most_head_bytes} bytes."
            )

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        self._head_came()
        if self._wants_upgrade():
            return
        super().on_headers_complete()
        self._unanswered.append(self.cycle)

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._head_bytes = 0
        if not self._wants_upgrade():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        self._unanswered.popleft()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(FaultCode.MALFORMED_REQUEST, msg)

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
        self._received = head + self._received[wish.args[0] :]
        super().data_received(self._received)

    def _wants_upgrade(self) -> bool:
        return self.parser.should_upgrade() and any(name == b"upgrade" for name, _ in self.headers)

    def _await_head(self) -> None:
        if self._head_limit is None:
            self._head_limit = self.loop.call_later(self.head_timeout_s, self.transport.close)

    def _head_came(self) -> None:
        self._head_bytes = 0
        if self._head_limit is not None:
            self._head_limit.cancel()
            self._head_limit = None

    def _disconnect_pending(self) -> None:
        """Nobody hears the answers any more. uvicorn says so to the last request alone, and others may come before."""
        for cycle in self._unanswered:
            cycle.disconnected = True
            cycle.message_event.set()

    def _refuse(self, code: FaultCode, sentence: str) -> None:
        if self._unanswered:
            # Nothing may be written into the answer to the request before.
            self._disconnect_pending()
            self.transport.abort()
            return
        request = Request({"type": "http", "state": {"path": "/", "request_id": str(uuid4())}})
        answer = answer_fault(request, Fault(code, sentence))
        headers = [*answer.raw_headers, (b"connection", b"close")]
        head = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
        self.transport.write(STATUS_LINE[answer.status_code] + head + b"\r\n" + bytes(answer.body))
        self.transport.close()

"""HTTP/1.1 as uvicorn speaks it, with bounds on the head of a request and on its trailer.

The parser takes a head of any length for any time. A sender that never ends its head would hold a
connection for ever, or fill the memory with headers; so would one that never ends a trailer, the
fields after a chunked body.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

MAX_HEAD_BYTES = 256 * 1024
# From the opening of the connection, or from the first bytes of a later head.
HEAD_TIMEOUT_S = 30.0


class BoundedHead(HttpToolsProtocol):
    """Answers 431 to a head or trailer that is too large, 408 to a head without end, and closes.

    Nothing reads a trailer: it is not kept.
    """

    _in_head = False
    _in_message = False
    # Whether the last bytes brought the end of a head, or some of a body.
    _is_read = False
    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._late)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_over()
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        self._is_read = False
        super().data_received(data)
        if not self._in_message or self.transport.is_closing():
            return
        if self._is_read and not self._in_head:
            self._head_bytes = 0
            return
        # Most heads come in one piece and never get here.
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif self._in_head and self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._late)

    @override
    def on_message_begin(self) -> None:
        self._in_head = self._in_message = True
        super().on_message_begin()

    @override
    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            super().on_header(name, value)

    @override
    def on_headers_complete(self) -> None:
        self._head_is_over()
        self._is_read = True
        super().on_headers_complete()

    @override
    def on_body(self, body: bytes) -> None:
        self._is_read = True
        super().on_body(body)

    @override
    def on_message_complete(self) -> None:
        self._in_message = False
        self._head_bytes = 0
        super().on_message_complete()

    def _head_is_over(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _late(self) -> None:
        self._head_timer = None
        cycle: RequestResponseCycle | None = self.cycle  # none before the first request
        answering = cycle is not None and not cycle.response_complete
        if answering or self.transport.is_closing():
            return
        if self._head_bytes:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)
        else:
            # Opened ahead of need, as browsers do: nobody waits for an answer.
            self.transport.close()

    def _refuse(self, status: HTTPStatus) -> None:
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete or not cycle.response_started:
            head = f"HTTP/1.1 {status.value} {status.phrase}\r\nconnection: close\r\n"
            self.transport.write(f"{head}content-length: 0\r\n\r\n".encode())
        self.transport.close()

"""HTTP/1.1 as uvicorn speaks it, with bounds on the head of a request.

The parser takes a head of any length for any time. A sender that never ends its head would hold a
connection for ever, or fill the memory with headers.
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
    """Answers 431 to a head that is too large, 408 to one that does not end, and closes."""

    _in_head = False
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
        super().data_received(data)
        if not self._in_head or self.transport.is_closing():
            return
        # Most heads come in one piece and never get here.
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._late)

    @override
    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()

    @override
    def on_headers_complete(self) -> None:
        self._head_is_over()
        super().on_headers_complete()

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
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\nconnection: close\r\n"
        self.transport.write(f"{head}content-length: 0\r\n\r\n".encode())
        self.transport.close()

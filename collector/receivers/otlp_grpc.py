"""OTLP/gRPC: the Trace, Metrics and Logs services.

Messages are taken as bytes, so that a malformed one is answered INVALID_ARGUMENT with a sentence
and decoding runs off the event loop. A call's one message is read by the method itself, as of a
stream (it is the same on the wire): so a call can be refused before its message is received.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import structlog
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from collector.body import ClientGone, SlowBody
from collector.otlp.ingest import SOURCE, OtlpAnswer, OtlpIngest, Signal
from collector.otlp.status import (
    DEADLINE_EXCEEDED,
    INTERNAL,
    INVALID_ARGUMENT,
    RESOURCE_EXHAUSTED,
    UNAVAILABLE,
    status_protobuf,
)
from collector.refusal import refusal_of
from store.errors import LimitExceeded, Overloaded, WarroomError

MAX_MESSAGE_BYTES = 4 * 1024 * 1024  # the OTLP specification's own recommendation
# Together with the message bound this bounds the memory that requests in flight can hold.
MAX_CONCURRENT_CALLS = 64
# An exporter has ten under way at most, by default; one connection must not take every place.
MAX_CALLS_A_CONNECTION = 32
# Exporters themselves give a call 10 s.
MAX_CALL_READ_S = 15.0
# A call whose message does not come keeps its place for so long when others want it.
PATIENCE_S = 2.0
# A call whose time ends within this was given up by its sender, whose clock is a little ahead.
_GIVEN_UP_S = 0.25
_CODES = {
    429: (grpc.StatusCode.RESOURCE_EXHAUSTED, RESOURCE_EXHAUSTED),
    500: (grpc.StatusCode.INTERNAL, INTERNAL),
    503: (grpc.StatusCode.UNAVAILABLE, UNAVAILABLE),
}
_SERVICES = {
    Signal.TRACES: "opentelemetry.proto.collector.trace.v1.TraceService",
    Signal.METRICS: "opentelemetry.proto.collector.metrics.v1.MetricsService",
    Signal.LOGS: "opentelemetry.proto.collector.logs.v1.LogsService",
}

log = structlog.get_logger()


class OtlpGrpcServer:
    """A gRPC server on one address. `await start()` answers with the port it is bound to."""

    def __init__(
        self,
        ingest: OtlpIngest,
        address: str,
        *,
        credentials: grpc.ServerCredentials | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        max_read_s: float = MAX_CALL_READ_S,
    ) -> None:
        self._ingest = ingest
        self._address = address
        self._credentials = credentials
        self._max_message_bytes = max_message_bytes
        self._max_read_s = max_read_s
        self._open_calls = 0
        # Calls whose message has not come, the oldest first, and since when they wait for it.
        self._reading: dict[asyncio.Timeout, float] = {}
        self._server: Any = None

    async def start(self) -> int:
        """Bind and serve; port 0 in the address picks a free one.

        Raises:
            RuntimeError: The address cannot be bound.
        """
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", self._max_message_bytes),
                ("grpc.so_reuseport", 0),
                ("grpc.max_concurrent_streams", MAX_CALLS_A_CONNECTION),
            ],
        )
        server.add_generic_rpc_handlers(
            tuple(_service(name, self._method(signal)) for signal, name in _SERVICES.items())
        )
        if self._credentials is None:
            port: int = server.add_insecure_port(self._address)
        else:
            port = server.add_secure_port(self._address, self._credentials)
        await server.start()
        self._server = server
        return port

    async def stop(self, grace_s: float = 2.0) -> None:
        """Refuse new calls and let running ones finish within the grace."""
        if self._server is not None:
            await self._server.stop(grace_s)
            self._server = None

    def _method(self, signal: Signal) -> Callable[[Any, Any], Awaitable[bytes]]:
        async def export(_messages: Any, context: Any) -> bytes:
            self._open_calls += 1
            try:
                answer = await self._accepted(signal, context)
            except WarroomError as error:
                await _abort(context, error)
                raise
            except ClientGone:
                await context.abort(grpc.StatusCode.CANCELLED, "the sender is gone")
                raise
            except Exception:
                log.exception("otlp call failed", signal=signal.value)
                await context.abort(grpc.StatusCode.INTERNAL, "an internal error occurred")
                raise
            finally:
                self._open_calls -= 1
            return _response(signal, answer)

        return export

    async def _accepted(self, signal: Signal, context: Any) -> OtlpAnswer:
        lane = self._ingest.lane
        with self._ingest.pipeline.receiving(SOURCE):
            lane.check()
            self._make_room()
            message = await self._read(context)
            lane.check()
        with lane.answering():
            return await self._ingest.accept(signal, message)

    def _make_room(self) -> None:
        """Let a call in; where no place is free, instead of the one that is idle for longest.

        Raises:
            Overloaded: Every place is taken, and nobody idles.
        """
        if self._open_calls <= MAX_CONCURRENT_CALLS:
            return
        now_s = time.monotonic()
        for oldest, since_s in list(self._reading.items()):
            if now_s - since_s < PATIENCE_S:
                break
            if self._ended(oldest):
                return
        raise Overloaded(f"more than {MAX_CONCURRENT_CALLS} calls are open")

    def _ended(self, waiting: asyncio.Timeout) -> bool:
        """End a call that waits for its message; one whose time is over just now ends anyway."""
        del self._reading[waiting]
        try:
            waiting.reschedule(asyncio.get_running_loop().time())
        except RuntimeError:
            return False
        return True

    async def _read(self, context: Any) -> Any:
        """The call's message.

        gRPC itself answers one past the bound, and tells neither that nor a sender that is gone:
        both are the end of the call. Only a call whose own time is over is known to be given up.

        Raises:
            SlowBody: It did not arrive in time.
            ClientGone: Its sender no longer waits.
            LimitExceeded: It did not arrive as a whole.
        """
        try:
            async with asyncio.timeout(self._max_read_s) as limit:
                self._reading[limit] = time.monotonic()
                try:
                    message = await context.read()
                finally:
                    self._reading.pop(limit, None)
        except TimeoutError as error:
            raise SlowBody(
                f"the message did not arrive within {self._max_read_s:g} s, or {PATIENCE_S:g} s"
                " while others waited",
                hint="send it again",
            ) from error
        if message is not grpc.aio.EOF:
            return message
        left_s = context.time_remaining()
        if left_s is not None and left_s < _GIVEN_UP_S:
            raise ClientGone
        raise LimitExceeded(
            "a call ended before its message was whole",
            reason="message_not_whole",
            hint=f"Let its sender send batches below {self._max_message_bytes >> 20} MiB. "
            "If it was stopped just then, nothing is wrong.",
        )


def _service(name: str, method: Callable[[Any, Any], Awaitable[bytes]]) -> Any:
    handler = grpc.stream_unary_rpc_method_handler(method)
    return grpc.method_handlers_generic_handler(name, {"Export": handler})


def _response(signal: Signal, answer: OtlpAnswer) -> bytes:
    response: ExportTraceServiceResponse | ExportMetricsServiceResponse | ExportLogsServiceResponse
    if signal is Signal.TRACES:
        response = ExportTraceServiceResponse()
        response.partial_success.rejected_spans = answer.rejected
    elif signal is Signal.METRICS:
        response = ExportMetricsServiceResponse()
        response.partial_success.rejected_data_points = answer.rejected
    else:
        response = ExportLogsServiceResponse()
        response.partial_success.rejected_log_records = answer.rejected
    if not answer.rejected:
        return b""
    response.partial_success.error_message = answer.message
    encoded: bytes = response.SerializeToString()
    return encoded


async def _abort(context: Any, error: WarroomError) -> None:
    code, number, retry_after_s = _code(error)
    text = str(error)
    details = status_protobuf(number, text, retry_after_s=retry_after_s)
    await context.abort(code, text, trailing_metadata=(("grpc-status-details-bin", details),))


def _code(error: WarroomError) -> tuple[grpc.StatusCode, int, int | None]:
    if isinstance(error, SlowBody):
        return grpc.StatusCode.DEADLINE_EXCEEDED, DEADLINE_EXCEEDED, None
    refusal = refusal_of(error)
    code, number = _CODES.get(refusal.status, (grpc.StatusCode.INVALID_ARGUMENT, INVALID_ARGUMENT))
    return code, number, refusal.retry_after_s
